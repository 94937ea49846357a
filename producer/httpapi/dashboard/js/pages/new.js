// A form for one job, which is then watched on its own page.

import { get, post } from "../api.js";
import { fill, h, newId } from "../dom.js";
import { command, link, problemBox } from "../parts.js";
import { readOnly } from "./tables.js";

/** A field with its label, and what is to be known of it. */
function field(label, input, note) {
  const id = newId("field");
  input.id = id;
  const about = note ? h("p", { class: "note", id: `${id}-note`, text: note }) : null;
  if (about) input.setAttribute("aria-describedby", about.id);
  return h("div", { class: "field" }, h("label", { for: id, text: label }), input, about);
}

const option = (value, text = value) => h("option", { value }, text);

/** What the form asks for, as the API takes it. */
function jobOf(data) {
  const job = {};
  const target = data.get("target");
  const [kind, name] = [target.slice(0, target.indexOf(":")), target.slice(target.indexOf(":") + 1)];
  job[kind] = name;
  if (data.get("form") === "request") job.request = JSON.parse(data.get("input"));
  // Without a task type there is no prompt to put a text into.
  else if (kind === "task_type") job.input = data.get("input");
  else job.request = { messages: [{ role: "user", content: data.get("input") }] };
  for (const name of ["id", "tenant", "priority"]) if (data.get(name)) job[name] = data.get(name).trim();
  if (data.get("webhook")) job.webhook = { url: data.get("webhook").trim() };
  for (const name of ["run_at", "deadline"]) if (data.get(name)) job[name] = new Date(data.get(name)).toISOString();
  if (data.get("max_cost_usd")) job.max_cost_usd = Number(data.get("max_cost_usd"));
  if (data.get("max_retries")) job.max_retries = Number(data.get("max_retries"));
  return job;
}

async function mount(root, { session, go }) {
  let models = [];
  let unknown = null;
  try {
    models = (await get("/v1/models")).data;
  } catch (problem) {
    unknown = problem;
  }
  const of = (kind) => models.filter((m) => m.owned_by === kind).map((m) => m.id);
  const group = (label, names, key, strip = "") => (names.length ? h("optgroup", { label }, names.map((n) => option(`${key}:${n.slice(strip.length)}`, n.slice(strip.length)))) : null);
  const target = h("select", { name: "target", required: true }, group("Task types", of("task_type"), "task_type"), group("Tiers", of("tier"), "tier", "tier:"),
    group("Profiles", of("profile"), "profile", "profile:"), group("Models", of("model"), "model"));
  const preferred = target.querySelector('option[value="task_type:fast_summary"]');
  if (preferred) target.value = preferred.value;
  const input = h("textarea", { name: "input", rows: "8", required: true, spellcheck: "true" });
  const shape = h("select", { name: "form" }, option("text", "a text"), option("request", "the body of an OpenAI call (JSON)"));
  const wrong = h("div");
  const send = h("button", { class: "primary", text: "Send the job" });
  if (!session.write) send.disabled = true;
  const number = (name, step, min) => h("input", { name, type: "number", step, min, inputmode: "decimal" });
  const form = h("form", { class: "new-job" },
    field("For", target, "A task type has a prompt, models and defaults of its own; else name a tier, a profile or a model."),
    field("The input is", shape), field("Input", input, "A text is put into the task type's prompt."),
    h("div", { class: "row" }, field("Priority", h("select", { name: "priority" }, ["default", "critical", "bulk"].map((p) => option(p)))),
      field("At most, in US dollars", number("max_cost_usd", "any", "0"), "No call starts whose worst case would pass it."),
      field("Retries", number("max_retries", "1", "0"), "Left empty: as configured.")),
    h("details", {}, h("summary", { text: "More" }), h("div", { class: "row" },
      field("Id", h("input", { name: "id", pattern: "[A-Za-z0-9_\\-]{1,128}", autocomplete: "off" }), "The same id is the same job. Left empty: a new one."),
      session.operator ? field("Tenant", h("input", { name: "tenant", autocomplete: "off" }), "Who pays. Left empty: default.") : null,
      field("Not before", h("input", { name: "run_at", type: "datetime-local" })), field("Deadline", h("input", { name: "deadline", type: "datetime-local" }), "Past it the job ends as expired."),
      field("Webhook", h("input", { name: "webhook", type: "url", placeholder: "https://" }), "Who is told of its end."))),
    wrong, h("div", { class: "actions" }, send, session.write ? null : h("p", { class: "note", text: `Jobs cannot be sent: ${readOnly}.` })));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (send.getAttribute("aria-busy") === "true" || !session.write) return;
    send.setAttribute("aria-busy", "true");
    try {
      const receipt = await post("/v1/jobs", jobOf(new FormData(form)));
      go(`/jobs/${receipt.id}`);
    } catch (problem) {
      fill(wrong, problemBox(problem instanceof SyntaxError ? { message: `The input is no JSON: ${problem.message}` } : problem));
      if (problem.param) form.elements.namedItem(problem.param.split(".")[0])?.focus?.();
    } finally {
      send.removeAttribute("aria-busy");
    }
  });
  root.append(h("div", { class: "page-head" }, h("h1", { text: "New job" })),
    models.length === 0 ? h("div", { class: "callout" }, unknown ? problemBox(unknown) : null, h("p", { text: "The task types and models are known where the server has a configuration. Without one:" }),
      command("forebay enqueue --type fast_summary --file doc.txt --wait")) : form,
    h("p", { class: "note" }, "Other ways in: ", link("/docs/", "the API"), ", Redis, files and OpenAI's clients."));
}

export default { name: "new", title: "New job", mount };
