// The overview of a tenant's key: its own jobs, and nothing of the deployment.

import { get } from "../api.js";
import { count, since } from "../format.js";
import { h } from "../dom.js";
import { onFrame } from "../live.js";
import { card, command, curlExample, link, problemBox, statusCell, table } from "../parts.js";
import { Feed } from "./feed.js";

export default async function tenant(root, { session }) {
  const wrong = h("div");
  const list = table({
    caption: "Jobs by status", keyOf: (g) => g.key, empty: [h("p", { text: "There is no job of yours. Send one:" }), command(curlExample())],
    columns: [
      { label: "Status", cell: (g) => statusCell(g.key) },
      { label: "Jobs", num: true, cell: (g) => ({ sig: g.jobs, make: () => link(`/jobs?status=${g.key}`, count(g.jobs)) }) },
      { label: "Latest", num: true, cell: (g) => since(g.latest) },
    ],
  });
  const feed = new Feed({ title: "Events of your jobs", operator: false });
  root.append(h("div", { class: "page-head" }, h("h1", { text: `Tenant ${session.tenant}` })), wrong,
    h("p", { class: "note", text: "This key belongs to a tenant: you see your own jobs and batches. Queues, endpoints and budgets are for operators' keys." }),
    h("div", { class: "grid halves" }, card("Your jobs", {}, list.node), feed.node));
  let timer = 0;
  let ended = false;
  const load = async () => {
    timer = 0;
    try {
      list.show((await get("/v1/jobs?group_by=status")).groups);
      wrong.replaceChildren();
    } catch (problem) {
      wrong.replaceChildren(problemBox(problem, load));
    }
  };
  const end = onFrame((frame) => {
    feed.take(frame);
    if (frame.events.length > 0 && !timer && !ended) timer = setTimeout(load, 5000);
  });
  await load();
  return () => {
    ended = true;
    clearTimeout(timer);
    end();
  };
}
