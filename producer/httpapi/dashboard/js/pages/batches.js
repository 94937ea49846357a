// The batches, with their progress.

import { get, post, query } from "../api.js";
import { count, moment, percent, usd } from "../format.js";
import { h, setHidden, tell } from "../dom.js";
import { onFrame } from "../live.js";
import { button, command, confirm, link, meter, problemBox, statusCell, table } from "../parts.js";
import { readOnly } from "./tables.js";

export const batchOpen = (b) => ["validating", "in_progress", "finalizing", "cancelling"].includes(b.status);

const at = (seconds) => (seconds ? moment(seconds * 1000) : "–");

export function progressCell(b) {
  const { total, completed, failed } = b.request_counts;
  const words = total ? `${count(completed + failed)} of ${count(total)} (${percent((completed + failed) / total)})${failed ? `, ${count(failed)} not answered` : ""}` : "being counted";
  return { sig: words, make: () => {
    const bar = meter(`progress of ${b.name || b.id}`);
    bar.set(total ? (completed + failed) / total : 0, words, failed ? "warn" : "good");
    return bar.node;
  } };
}

export function cancelButton(b, session, then) {
  if (!["validating", "in_progress"].includes(b.status)) return null;
  return button("Cancel", { why: session.write ? null : readOnly, kind: "danger small", "aria-label": `Cancel the batch ${b.name || b.id}`, onClick: async () => {
    if (!(await confirm({ title: "Cancel this batch?", text: "What has been answered is kept and stands in its files. What has not ends as cancelled.", action: "Cancel the batch" }))) return;
    await post(`/v1/batches/${b.id}/cancel`);
    tell("The batch is being cancelled.");
    await then();
  } });
}

async function mount(root, { session }) {
  const wrong = h("div");
  const list = table({
    caption: "Batches", keyOf: (b) => b.id,
    empty: [h("p", { text: "There is no batch yet. Have a folder or a file of texts done:" }), command("forebay batch run ./notes -o notes.csv --type fast_summary --output text"),
      h("p", {}, "or send one with OpenAI's client: ", link("/docs/", "POST /v1/files, POST /v1/batches"))],
    columns: [
      { label: "Batch", wide: true, cell: (b) => ({ sig: 1, make: () => [link(`/batches/${b.id}`, b.name || b.id, { class: b.name ? null : "id" }), b.name ? h("div", { class: "note id", text: b.id }) : null] }) },
      { label: "Status", cell: (b) => statusCell(b.status) },
      { label: "Progress", wide: true, cell: progressCell },
      { label: "Tokens", num: true, cell: (b) => count(b.usage?.total_tokens) },
      { label: "Cost", num: true, cell: (b) => usd(b.cost_usd) },
      { label: "Created", num: true, cell: (b) => at(b.created_at) },
      { label: "Cancel", hidden: true, class: "buttons", cell: (b) => ({ sig: b.status, make: () => cancelButton(b, session, load) }) },
    ],
  });
  const more = button("Further batches", { onClick: () => further() });
  root.append(h("div", { class: "page-head" }, h("h1", { text: "Batches" })), wrong, list.node, h("div", { class: "more" }, more));
  let first = [];
  let rest = [];
  let after = "";
  let timer = 0;
  let gone = false;

  async function load() {
    clearTimeout(timer);
    try {
      const page = await get("/v1/batches?all=true&limit=50");
      first = page.data;
      if (rest.length === 0) after = page.has_more ? page.last_id : "";
      wrong.replaceChildren();
      draw();
    } catch (problem) {
      wrong.replaceChildren(problem.status === 404 ? h("p", { class: "empty", text: "This server keeps no files, and so has no batches: see files and batches of the configuration." }) : problemBox(problem, load));
    }
    if (!gone && first.some(batchOpen)) timer = setTimeout(load, 2000);
  }

  async function further() {
    const page = await get(`/v1/batches${query({ all: true, limit: 50, after })}`);
    rest = [...rest, ...page.data];
    after = page.has_more ? page.last_id : "";
    draw();
  }

  function draw() {
    list.show([...first, ...rest]);
    setHidden(more, after === "");
  }

  const end = onFrame((frame) => {
    if (frame.events.some((e) => e.type.startsWith("batch."))) load();
  });
  await load();
  return () => {
    gone = true;
    clearTimeout(timer);
    end();
  };
}

export default { name: "batches", title: "Batches", mount };
