// The charts: what has happened, over a window that is chosen.

import { get, query } from "../api.js";
import { Chart } from "../charts.js";
import { brief, duration, usd } from "../format.js";
import { h, soon } from "../dom.js";
import { problemBox } from "../parts.js";

const windows = ["15m", "1h", "6h", "24h", "7d"];

export class Activity {
  constructor({ params }) {
    this.window = windows.includes(params.get("window")) ? params.get("window") : "1h";
    this.onChange = () => {};
    this.windows = this.drawWindows();
    const perMinute = (name) => (p) => (p[name] === null || p[name] === undefined ? null : (p[name] * 60) / this.step);
    const rate = (n) => `${brief(n)}/min`;
    this.charts = [
      new Chart({ title: "Throughput", format: rate, lines: [
        { name: "succeeded", color: "line-1", fill: true, of: perMinute("succeeded") }, { name: "accepted", color: "line-3", of: perMinute("accepted") },
        { name: "failed", color: "line-2", of: perMinute("failed") }] }),
      new Chart({ title: "Latency", format: duration, lines: [
        { name: "call p50", color: "line-1", of: (p) => p.call_p50_ms }, { name: "call p95", color: "line-3", of: (p) => p.call_p95_ms },
        { name: "job p95", color: "line-4", of: (p) => p.job_p95_ms }] }),
      new Chart({ title: "Errors", format: rate, lines: [
        { name: "failed calls", color: "line-2", fill: true, of: perMinute("attempts_failed") }, { name: "throttled", color: "line-3", of: perMinute("throttled") },
        { name: "retried", color: "line-4", of: perMinute("retried") }] }),
      new Chart({ title: "Cost", format: usd, lines: [
        { name: "spent", color: "line-1", fill: true, of: (p) => p.cost_usd }, { name: "dearest model", color: "line-3", of: (p) => p.dearest_usd }] }),
    ];
    this.wrong = h("div");
    this.node = h("div", {}, this.wrong, h("div", { class: "grid quarters" }, this.charts.map((c) => c.node)));
  }

  drawWindows() {
    const buttons = windows.map((w) => h("button", { type: "button", "aria-pressed": String(w === this.window), on: { click: () => this.choose(w) } }, w));
    return h("div", { class: "segmented", role: "group", "aria-label": "Window of the charts and rates" }, buttons);
  }

  choose(window) {
    this.window = window;
    for (const b of this.windows.children) b.setAttribute("aria-pressed", String(b.textContent === window));
    const params = new URLSearchParams(location.search);
    params.set("window", window);
    history.replaceState(null, "", `${location.pathname}?${params}`);
    this.load();
  }

  async load() {
    clearTimeout(this.again);
    const asked = this.window;
    try {
      const data = await get(`/v1/activity${query({ window: asked })}`);
      if (asked !== this.window || this.ended) return;
      this.wrong.replaceChildren();
      this.use(data);
    } catch (problem) {
      this.wrong.replaceChildren(problemBox(problem));
    }
    // What the stream tells is the last points; the sums are asked for again.
    if (!this.ended) this.again = setTimeout(() => this.load(), 10_000);
  }

  use(data) {
    this.data = data;
    this.step = data.step_s;
    this.draw();
    this.onChange(data);
  }

  /** Takes the last points as the stream tells them, where they are as long as those that are shown. */
  take(live) {
    if (!this.data || this.data.step_s !== (live.step_s ?? 10)) return;
    for (const point of live.points ?? []) {
      const last = this.data.points.at(-1);
      if (last && last.at === point.at) this.data.points[this.data.points.length - 1] = point;
      else if (!last || Date.parse(point.at) > Date.parse(last.at)) this.data.points.push(point);
      else {
        const i = this.data.points.findIndex((p) => p.at === point.at);
        if (i >= 0) this.data.points[i] = point;
      }
    }
    this.draw();
    this.onChange(this.data);
  }

  draw() {
    const from = Date.parse(this.data.from) / 1000;
    const to = Date.parse(this.data.to) / 1000;
    const last = this.data.points.length ? Date.parse(this.data.points.at(-1).at) / 1000 : to;
    const moved = Math.max(0, last - to);
    for (const chart of this.charts) soon(chart, () => this.ended || chart.show(this.data.points, { from: from + moved, to: to + moved }));
  }

  destroy() {
    this.ended = true;
    clearTimeout(this.again);
    for (const chart of this.charts) chart.destroy();
  }
}
