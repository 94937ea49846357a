// A batch's page: how far it is, what went wrong, and its first jobs.

import { get } from "../api.js";
import { count, moment, usd } from "../format.js";
import { fill, h } from "../dom.js";
import { badge, card, link } from "../parts.js";
import { batchOpen, cancelButton, progressCell } from "./batches.js";
import { jobTable } from "./jobs.js";

const fact = (label, value) => (value ? [h("dt", { text: label }), h("dd", {}, value)] : null);
const at = (seconds) => (seconds ? moment(seconds * 1000) : null);

function factsOf(b) {
  return h("dl", { class: "facts" }, fact("Calls", b.endpoint), fact("Created", at(b.created_at)), fact("Begun", at(b.in_progress_at)),
    fact("Expires", batchOpen(b) ? at(b.expires_at) : null), fact("Ended", at(b.completed_at ?? b.failed_at ?? b.expired_at ?? b.cancelled_at)),
    fact("Tokens", b.usage ? `${count(b.usage.input_tokens)} in, ${count(b.usage.output_tokens)} out` : null), fact("Cost", usd(b.cost_usd)),
    fact("Answers", b.output_file_id ? h("a", { href: `/v1/files/${b.output_file_id}/content` }, b.output_file_id) : null),
    fact("Not answered", b.error_file_id ? h("a", { href: `/v1/files/${b.error_file_id}/content` }, b.error_file_id) : null),
    Object.entries(b.metadata ?? {}).map(([name, value]) => fact(name, value)));
}

function problemsOf(b) {
  const list = b.errors?.data ?? [];
  if (list.length === 0) return null;
  return h("div", { class: "callout bad" }, h("p", {}, h("strong", { text: "What is wrong with its file" })),
    h("ul", {}, list.slice(0, 20).map((e) => h("li", { text: `${e.line ? `line ${e.line}: ` : ""}${e.message}` }))));
}

async function mount(root, { id, session }) {
  const title = h("h1");
  const buttons = h("div", { class: "actions" });
  const progress = h("div", { class: "progress" });
  const facts = h("div");
  const wrong = h("div");
  const jobs = jobTable(session.operator, "None of its jobs is here: they have not been made yet, or their retention has passed.");
  root.append(h("p", { class: "crumb" }, link("/batches", "Batches")), h("div", { class: "page-head" }, title, buttons), wrong, progress,
    h("div", { class: "grid one-two" }, card("Facts", {}, facts), card("Jobs", { aside: link(`/jobs?batch=${id}`, "all of them") }, jobs.node)));
  let timer = 0;
  let gone = false;
  let shown = "";

  async function load() {
    clearTimeout(timer);
    const b = await get(`/v1/batches/${id}`);
    const text = JSON.stringify(b);
    if (text !== shown) {
      shown = text;
      fill(title, h("span", { class: b.name ? null : "id", text: b.name || b.id }), " ", badge(b.status));
      fill(buttons, cancelButton(b, session, load));
      fill(progress, progressCell(b).make());
      fill(facts, factsOf(b));
      fill(wrong, problemsOf(b));
      jobs.show((await get(`/v1/jobs?batch=${id}&limit=20`)).jobs);
    }
    if (!gone && batchOpen(b)) timer = setTimeout(() => load().catch(() => {}), 2000);
  }

  await load();
  return () => {
    gone = true;
    clearTimeout(timer);
  };
}

export default { name: "batch", title: "Batch", mount };
