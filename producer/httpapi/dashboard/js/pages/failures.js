// What failed, grouped by its reason, and a button that has a whole group done again.

import { get, post, query } from "../api.js";
import { count, plural, since } from "../format.js";
import { h, setHidden, tell } from "../dom.js";
import { onFrame } from "../live.js";
import { button, confirm, link, meter, problemBox, table } from "../parts.js";
import { classOf } from "../words.js";
import { readOnly } from "./tables.js";

const perCall = 200;
const windows = [["", "all that are kept"], ["1", "the last hour"], ["24", "the last day"], ["168", "the last week"]];

async function mount(root, { session, params, go }) {
  const hours = windows.some(([w]) => w === params.get("hours")) ? params.get("hours") : "";
  const type = params.get("task_type") ?? "";
  const choose = h("select", { name: "hours" }, windows.map(([value, text]) => h("option", { value, text })));
  choose.value = hours;
  const form = h("form", { class: "filters", role: "search", "aria-label": "Filter the failures" }, h("label", { class: "field" }, h("span", { text: "Ended in" }), choose),
    h("label", { class: "field" }, h("span", { text: "Task type" }), h("input", { name: "task_type", value: type, autocomplete: "off" })),
    h("div", { class: "field buttons" }, h("button", { class: "primary" }, "Show")));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    go(`/failures${query(Object.fromEntries(new FormData(form)))}`);
  });
  choose.addEventListener("change", () => form.requestSubmit());
  const wrong = h("div");
  const bar = meter("progress of the retry");
  const progress = h("div", { class: "callout", hidden: true }, h("p", {}, h("strong", { text: "Retrying" })), bar.node);
  const partial = h("p", { class: "note", hidden: true, text: "There are more than were looked at: the numbers are at least these." });
  const list = table({
    caption: "Failures by reason", keyOf: (g) => g.key, empty: [h("p", { class: "good-news" }, h("span", { class: "sign good", "aria-hidden": "true", text: "✓" }), "Nothing has failed here."),
      h("p", { class: "note", text: "Jobs that failed or expired are listed here by their reason, to look at and to run again." })],
    columns: [
      { label: "Reason", wide: true, cell: (g) => ({ sig: 1, make: () => [h("strong", { text: g.key || "no code" }), classOf(g.key) ? h("div", { class: "note", text: classOf(g.key) }) : null] }) },
      { label: "Jobs", num: true, cell: (g) => ({ sig: g.jobs, make: () => link(`/jobs${query({ status: "failed", code: g.key, task_type: type })}`, count(g.jobs)) }) },
      { label: "Latest", num: true, cell: (g) => since(g.latest) },
      { label: "Example", wide: true, cell: (g) => ({ sig: g.example, make: () => link(`/jobs/${g.example}`, g.example, { class: "id" }) }) },
      { label: "Retry", hidden: true, class: "buttons", cell: (g) => ({ sig: g.jobs, make: () => button("Retry all", {
        why: session.write ? (g.key ? null : "jobs without a code are retried one by one") : readOnly, kind: "primary small", "aria-label": `Retry all jobs that failed with ${g.key}`, onClick: () => retry(g) }) }) },
    ],
  });
  root.append(h("div", { class: "page-head" }, h("h1", { text: "Failures" }), h("div", { class: "aside" }, button("Reload", { kind: "small", onClick: () => load() }))), form, wrong, progress, list.node, partial);
  let timer = 0;
  let gone = false;

  async function load() {
    timer = 0;
    try {
      const from = hours ? new Date(Date.now() - Number(hours) * 3600_000).toISOString() : "";
      const groups = await get(`/v1/jobs${query({ status: "failed,expired", group_by: "code", task_type: type, since: from })}`);
      wrong.replaceChildren();
      setHidden(partial, !groups.partial);
      list.show(groups.groups);
    } catch (problem) {
      wrong.replaceChildren(problemBox(problem, load));
    }
  }

  /** Retries a group in parts, so that it can be seen how far it is. What fails again meanwhile is not retried again. */
  async function retry(group) {
    if (!(await confirm({ title: `Retry ${plural(group.jobs, "job")}?`, text: `All jobs that ended with ${group.key}${type ? ` of the task type ${type}` : ""} are queued again, with all their retries. What they cost before still counts.`, action: "Retry them", kind: "primary" }))) return;
    const before = new Date().toISOString();
    let retried = 0;
    let skipped = 0;
    setHidden(progress, false);
    try {
      for (let more = true; more && !gone;) {
        const done = await post("/v1/retries", { status: ["failed", "expired"], code: [group.key], task_type: type ? [type] : undefined, before, limit: perCall });
        retried += done.retried;
        skipped += done.skipped;
        more = done.more && done.retried + done.skipped > 0;
        bar.set((retried + skipped) / Math.max(group.jobs, retried + skipped), `${count(retried)} queued again${skipped ? `, ${count(skipped)} skipped` : ""}`, "good");
      }
      tell(`${plural(retried, "job")} queued again${skipped ? `; ${count(skipped)} skipped, which others had retried or discarded meanwhile` : ""}.`);
    } catch (problem) {
      setHidden(progress, retried + skipped === 0);
      await load();
      wrong.replaceChildren(problemBox(problem));
      return;
    }
    await load();
  }

  const end = onFrame((frame) => {
    if (!timer && frame.events.some((e) => e.type === "job.failed" || e.type === "job.expired")) timer = setTimeout(load, 5000);
  });
  bar.set(0, "");
  await load();
  return () => {
    gone = true;
    clearTimeout(timer);
    end();
  };
}

export default { name: "failures", title: "Failures", mount };
