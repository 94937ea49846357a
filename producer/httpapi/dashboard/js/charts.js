// Line charts over time, by uPlot: two to four lines, each with a pattern and a name, and a figure for each that follows
// the pointer.

import uPlot from "/assets/vendor/uplot/uPlot.esm.js";
import { clock, moment } from "./format.js";
import { h, setText } from "./dom.js";

const patterns = [[], [6, 3], [2, 3], [9, 3, 2, 3]];
const charts = new Set();

document.addEventListener("themechange", () => {
  for (const chart of charts) chart.draw();
});

/** The points that no line leads to, which would not be seen. */
function lonely(plot, line, shown) {
  const values = plot.data[line];
  const known = (i) => values[i] !== null && values[i] !== undefined;
  return shown ? null : values.flatMap((_, i) => (known(i) && !known(i - 1) && !known(i + 1) ? [i] : []));
}

/**
 * A chart. Lines are {name, of(point), color: the name of a CSS variable}; format writes a value, with its unit.
 * Null values are gaps.
 */
export class Chart {
  constructor({ title, lines, format, aside }) {
    this.lines = lines;
    this.format = format;
    this.title = title;
    this.data = [[], ...lines.map(() => [])];
    this.figures = lines.map(() => h("span", { class: "figure", text: "–" }));
    this.at = h("span", { class: "chart-at" });
    const legend = h("div", { class: "legend", "aria-hidden": "true" }, lines.map((line, i) =>
      h("span", { class: "legend-line" }, h("span", { class: `swatch ${line.color} pattern-${i}` }), line.name, this.figures[i])), this.at);
    this.box = h("div", { class: "chart", role: "img", "aria-label": title });
    this.empty = h("p", { class: "chart-empty", text: "Nothing has happened in this window yet." });
    this.node = h("figure", { class: "card chart-card" }, h("figcaption", { class: "card-head" }, h("h2", { text: title }), aside), this.box, this.empty, legend);
    this.sizes = new ResizeObserver(() => this.resize());
    this.sizes.observe(this.box);
    charts.add(this);
  }

  destroy() {
    charts.delete(this);
    this.sizes.disconnect();
    this.plot?.destroy();
  }

  /** Shows points of the API, each with at. */
  show(points, span) {
    const times = points.map((p) => Date.parse(p.at) / 1000);
    this.span = span;
    this.data = [times, ...this.lines.map((line) => points.map((p) => line.of(p) ?? null))];
    this.empty.hidden = this.data.slice(1).some((values) => values.some((v) => v !== null && v !== 0));
    if (this.plot) this.plot.setData(this.data);
    else this.draw();
    this.tell(null);
    this.box.setAttribute("aria-label", `${this.title}. ${this.lines.map((line, i) => {
      const known = this.data[i + 1].filter((v) => v !== null);
      return known.length === 0 ? `${line.name}: nothing` : `${line.name}: last ${this.format(known.at(-1))}, highest ${this.format(Math.max(...known))}`;
    }).join("; ")}.`);
  }

  /** Shows the figures under the pointer, or the last ones. */
  tell(index) {
    const at = index ?? this.data[0].length - 1;
    this.lines.forEach((line, i) => {
      const value = this.data[i + 1][at];
      setText(this.figures[i], value === null || value === undefined ? "–" : this.format(value));
    });
    setText(this.at, index === null ? "" : moment(this.data[0][at] * 1000));
  }

  resize() {
    const width = this.box.clientWidth;
    if (this.plot && width > 0 && width !== this.plot.width) this.plot.setSize({ width, height: this.height() });
    else if (!this.plot) this.draw();
  }

  height() { return 150; }

  draw() {
    const width = this.box.clientWidth;
    if (width === 0 || this.data[0].length === 0) return;
    this.plot?.destroy();
    const style = getComputedStyle(document.documentElement);
    const color = (name) => style.getPropertyValue(`--${name}`).trim();
    const axis = { stroke: color("muted"), grid: { stroke: color("grid"), width: 1 }, ticks: { show: false }, font: `11px ${style.getPropertyValue("--font")}` };
    const span = () => (this.span ? [this.span.from, this.span.to] : [this.data[0][0], this.data[0].at(-1)]);
    this.plot = new uPlot({
      width, height: this.height(), legend: { show: false }, padding: [8, 8, 0, 0],
      cursor: { y: false, drag: { x: false, y: false }, points: { size: 6 } },
      scales: { x: { range: span }, y: { range: (_, low, high) => [Math.min(0, low ?? 0), high > 0 ? high * 1.1 : 1] } },
      axes: [
        { ...axis, size: 26, space: 70, values: (_, ticks) => ticks.map((t) => this.tick(t)) },
        { ...axis, size: 58, space: 30, values: (_, ticks) => ticks.map((v) => this.format(v)) },
      ],
      series: [{}, ...this.lines.map((line, i) => ({
        label: line.name, stroke: color(line.color), width: 1.5, dash: patterns[i], spanGaps: false,
        fill: i === 0 && line.fill ? color(`${line.color}-faint`) : undefined, points: { show: () => false, size: 4, filter: lonely },
      }))],
      hooks: { setCursor: [(plot) => this.tell(plot.cursor.idx ?? null)] },
    }, this.data, this.box);
  }

  tick(t) {
    const long = this.span && this.span.to - this.span.from > 26 * 3600;
    return long ? moment(t * 1000).slice(0, 6) : clock(t * 1000).slice(0, 5);
  }
}
