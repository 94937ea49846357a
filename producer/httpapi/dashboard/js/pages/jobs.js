// The list of jobs, with filters that stand in the address.

import { get, query } from "../api.js";
import { count, duration, moment, since, usd } from "../format.js";
import { h, setHidden, setText } from "../dom.js";
import { onFrame } from "../live.js";
import { button, command, curlExample, link, problemBox, statusCell, table } from "../parts.js";
import { ended, failureLine, reasonOf } from "../words.js";

const statuses = ["queued", "running", "retrying", "succeeded", "failed", "cancelled", "expired"];
const pageSize = 50;

function took(job) {
  if (!job.created_at) return "–";
  return duration((job.finished_at ? Date.parse(job.finished_at) : Date.now()) - Date.parse(job.created_at));
}

function noteOf(job) {
  if (job.error && !["succeeded"].includes(job.status)) return failureLine(job.error);
  if (job.waiting) return `waits for ${reasonOf(job.waiting.reason)}`;
  return [job.model, job.endpoint].filter(Boolean).join(" · ");
}

export function jobTable(operator, empty) {
  return table({
    caption: "Jobs", keyOf: (j) => j.id, empty,
    columns: [
      { label: "Job", wide: true, cell: (j) => ({ sig: 1, make: () => link(`/jobs/${j.id}`, j.id, { class: "id" }) }) },
      { label: "Status", cell: (j) => statusCell(j.status) },
      { label: "Task type", cell: (j) => j.task_type || "adhoc" },
      ...(operator ? [{ label: "Tenant", cell: (j) => j.tenant ?? "" }] : []),
      { label: "Accepted", num: true, cell: (j) => moment(j.created_at) },
      { label: "Took", num: true, cell: (j) => took(j) },
      { label: "Calls", num: true, cell: (j) => count(j.attempts) },
      { label: "Cost", num: true, cell: (j) => usd(j.cost_usd) },
      { label: "Note", wide: true, class: "clip", cell: (j) => {
        const note = noteOf(j);
        return { sig: note, make: () => h("span", { title: note, text: note }) };
      } },
    ],
  });
}

function field(label, input) {
  return h("label", { class: "field" }, h("span", { text: label }), input);
}

async function mount(root, { session, go, params }) {
  const value = (name) => params.get(name) ?? "";
  const status = h("select", { name: "status" }, h("option", { value: "", text: "any" }), statuses.map((s) => h("option", { value: s, text: s })));
  status.value = statuses.includes(value("status")) ? value("status") : "";
  const text = (name, props = {}) => h("input", { name, value: value(name), autocomplete: "off", spellcheck: "false", ...props });
  const form = h("form", { class: "filters", role: "search", "aria-label": "Filter the jobs" }, field("Status", status),
    field("Task type", text("task_type")), session.operator ? field("Tenant", text("tenant")) : null, field("Code", text("code")),
    field("Text", text("text", { placeholder: "part of an id, an error, metadata" })), field("Batch", text("batch")),
    h("div", { class: "field buttons" }, h("button", { class: "primary" }, "Filter"), h("a", { href: "/jobs" }, "Clear")));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    go(`/jobs${query(Object.fromEntries(new FormData(form)))}`);
  });
  status.addEventListener("change", () => form.requestSubmit());
  const filtered = [...params.keys()].some((k) => k !== "cursor");
  const list = jobTable(session.operator, filtered
    ? [h("p", { text: "No job is meant by this filter." }), h("p", {}, link("/jobs", "Show all jobs"))]
    : [h("p", { text: "There is no job yet. Send one:" }), command(curlExample()), h("p", {}, link("/new", "or fill in the form"))]);
  const wrong = h("div");
  const news = h("span", { class: "note" });
  const reload = button("Reload", { onClick: () => load(null), kind: "small" });
  const more = button("Further jobs", { onClick: () => load(next) });
  root.append(h("div", { class: "page-head" }, h("h1", { text: "Jobs" }), h("div", { class: "aside" }, news, reload)), form, wrong, list.node, h("div", { class: "more" }, more));
  let jobs = [];
  let next = "";
  const changed = new Set();
  const asked = Object.fromEntries(["status", "task_type", "tenant", "code", "text", "batch"].map((name) => [name, value(name)]));

  async function load(cursor) {
    try {
      const page = await get(`/v1/jobs${query({ ...asked, limit: pageSize, cursor: cursor ?? "" })}`);
      jobs = cursor ? [...jobs, ...page.jobs] : page.jobs;
      next = page.next ?? "";
      changed.clear();
      wrong.replaceChildren();
      draw();
    } catch (problem) {
      wrong.replaceChildren(problemBox(problem, () => load(cursor)));
    }
  }

  function draw() {
    list.show(jobs);
    setHidden(more, next === "");
    setText(news, changed.size > 0 ? `${count(changed.size)} ended since` : "");
  }

  /** What ends while one looks is told where it stands; the list itself stays, so that nothing moves under a finger. */
  function take(frame) {
    if (frame.events.length === 0) return;
    const known = new Map(jobs.map((j) => [j.id, j]));
    for (const event of frame.events) {
      if (!event.job || !event.type.startsWith("job.")) continue;
      const job = known.get(event.job);
      const now = event.type.slice(4);
      if (ended(now) && changed.size < 10000) changed.add(event.job);
      if (!job) continue;
      Object.assign(job, { status: now, endpoint: event.endpoint || job.endpoint, model: event.model || job.model, waiting: null });
      if (ended(now)) job.finished_at = event.at;
      if (event.cost_usd) job.cost_usd = Number(event.cost_usd);
      if (event.attempts) job.attempts = Number(event.attempts);
    }
    draw();
  }

  await load(null);
  return onFrame(take);
}

export default { name: "jobs", title: "Jobs", mount };
