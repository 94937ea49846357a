// What is seen first: alerts, and seven figures.

import { age, brief, count, duration, percent, since, usd } from "../format.js";
import { h, keyed, setHidden, setText } from "../dom.js";
import { link, tile } from "../parts.js";

export function alertsOf() {
  const list = h("ul", { class: "alerts" });
  const calm = h("p", { class: "calm" }, h("span", { class: "sign good", "aria-hidden": "true", text: "✓" }), "No alert is firing.");
  const node = h("section", { "aria-label": "Alerts", class: "alert-box" }, list, calm);
  return {
    node,
    show({ status }) {
      const alerts = status.alerts ?? [];
      setHidden(calm, alerts.length > 0);
      setHidden(list, alerts.length === 0);
      keyed(list, alerts, (a) => `${a.name} ${a.subject}`, () => h("li", {},
        h("span", { class: "sign", "aria-hidden": "true", text: "▲" }), h("strong"), h("span", { class: "alert-text" }), h("span", { class: "note" })),
      (node, alert) => {
        node.className = `alert ${alert.severity === "critical" ? "bad" : "warn"}`;
        setText(node.children[1], `${alert.name.replaceAll("_", " ")}${alert.subject ? `: ${alert.subject}` : ""}`);
        setText(node.children[2], alert.summary ?? "");
        setText(node.children[3], `${alert.severity ?? ""} since ${since(alert.since)}`.replace("since", "for").replace(" ago", ""));
      });
    },
  };
}

const jobQueues = (status) => status.queues.filter((q) => q.queue !== "webhooks");
const sum = (list, of) => list.reduce((all, one) => all + (of(one) ?? 0), 0);

export function tilesOf() {
  const tiles = {
    done: tile("Throughput", "Jobs that succeeded, in the last whole minute of the charts"),
    rate: tile("Success", "Of the jobs that ended in the window"),
    latency: tile("Job p95", "From acceptance to end, of the last point that has any"),
    waiting: tile("Waiting", "Jobs that wait in the queues"),
    running: tile("Running", "Jobs that workers have in hand"),
    dead: tile("Dead letters", "What failed for good and waits for somebody"),
    spend: tile("Spent today", "Of all calls, by the catalog's prices"),
  };
  const node = h("dl", { class: "tiles" }, Object.values(tiles).map((t) => t.node));
  return {
    node,
    show({ status, activity }) {
      const queues = jobQueues(status);
      const waiting = sum(queues, (q) => q.pending + q.scheduled + q.retry);
      const oldest = Math.max(0, ...queues.map((q) => q.oldest_s ?? 0));
      tiles.waiting.set(count(waiting), oldest > 0 ? `oldest ${age(oldest)}` : "", "");
      tiles.running.set(count(sum(queues, (q) => q.active)), `${status.workers.length} ${status.workers.length === 1 ? "worker" : "workers"}`,
        status.workers.length === 0 ? "bad" : "");
      const dead = status.dead_letters.jobs.count + status.dead_letters.webhooks.count;
      tiles.dead.set(count(dead), dead > 0 ? "" : "none", dead > 0 ? "bad" : "");
      if (dead > 0) tiles.dead.node.lastChild.replaceChildren(link("/failures", "look at them"));
      const spend = status.spend;
      if (spend) tiles.spend.set(usd(spend.usd), spend.budget_usd ? `of ${usd(spend.budget_usd)}` : "no budget", spend.budget_usd && spend.usd >= spend.budget_usd ? "bad" : "");
      if (!activity) return;
      const points = activity.points;
      const minute = points.slice(-1 - Math.max(1, Math.round(60 / activity.step_s)), -1);
      const done = sum(minute, (p) => p.succeeded);
      tiles.done.set(minute.length ? `${brief((done * 60) / (minute.length * activity.step_s))}/min` : "–");
      const ended = sum(points, (p) => p.succeeded) + sum(points, (p) => p.failed) + sum(points, (p) => p.expired);
      tiles.rate.set(percent(ended ? sum(points, (p) => p.succeeded) / ended : null), ended ? `of ${count(ended)}` : "nothing ended yet");
      const late = points.findLast((p) => p.job_p95_ms !== null && p.job_p95_ms !== undefined);
      tiles.latency.set(duration(late?.job_p95_ms), late ? `p50 ${duration(late.job_p50_ms)}` : "");
    },
  };
}
