// The feed of events: the last of them, newest first. Its rows are used again, so that a flood makes no garbage.

import { h, setHidden, setText } from "../dom.js";
import { clock, count, duration, usd } from "../format.js";
import { card, link } from "../parts.js";
import { signOf } from "../words.js";

/** As many as four times a second bring at 500 a second, and some more: each event is on the page for a moment. */
const most = 200;

const own = new Set(["id", "stream", "type", "at", "job", "batch"]);

/** An event in words: what it has beside its kind. */
function words(event) {
  if (event.type.startsWith("job.")) {
    return [event.task_type || "adhoc", event.endpoint, event.code || event.class, event.took_ms && duration(Number(event.took_ms)),
      Number(event.cost_usd) > 0 && usd(Number(event.cost_usd))].filter(Boolean).join(" · ");
  }
  return Object.entries(event).filter(([name, value]) => !own.has(name) && value !== "").map(([name, value]) => `${name.replaceAll("_", " ")} ${value}`).join(" · ");
}

const toneOf = (type) => {
  if (type.startsWith("job.")) return signOf(type.slice(4));
  if (/opened|dead|failed|exhausted|refused|firing|switched_off/.test(type)) return ["▲", "bad"];
  if (/closed|resolved|completed|recovered/.test(type)) return ["✓", "good"];
  return ["·", "idle"];
};

export class Feed {
  constructor({ title, operator }) {
    this.list = h("ol", { class: "feed", tabindex: "0", "aria-label": "The last events, newest first", hidden: true });
    this.rows = [];
    this.total = 0;
    this.kind = "all";
    this.held = false;
    this.figure = h("span", { class: "note" });
    this.hold = h("button", { type: "button", class: "small", "aria-pressed": "false", on: { click: () => this.toggle() } }, "Hold");
    const kinds = h("select", { "aria-label": "Which events", on: { change: () => this.choose(kinds.value) } },
      [["all", "all"], ["operators", "without jobs"], ["failed", "failures only"]].map(([value, text]) => h("option", { value }, text)));
    this.empty = h("p", { class: "empty", text: "Nothing has happened since this page was opened. What happens is shown here at once." });
    this.node = card(title, { class: "feed-card", aside: h("div", { class: "aside" }, this.figure, operator ? kinds : null, this.hold) }, this.list, this.empty);
  }

  choose(kind) {
    this.kind = kind;
    for (const row of this.rows.splice(0)) row.remove();
    this.drawEmpty();
  }

  toggle() {
    this.held = !this.held;
    this.hold.setAttribute("aria-pressed", String(this.held));
  }

  wanted(event) {
    if (this.kind === "operators") return !event.type.startsWith("job.");
    return this.kind === "all" || toneOf(event.type)[1] === "bad";
  }

  take({ events, dropped }) {
    this.total += events.length + dropped;
    if (events.length + dropped > 0) setText(this.figure, `${count(this.total)} so far`);
    if (this.held) return;
    const fresh = events.filter((e) => this.wanted(e)).slice(-most);
    if (fresh.length === 0) return;
    const made = document.createDocumentFragment();
    for (const event of fresh) {
      const row = this.rows.length < most ? newRow() : this.rows.shift();
      write(row, event);
      this.rows.push(row);
      made.prepend(row);
    }
    this.list.prepend(made);
    this.drawEmpty();
  }

  drawEmpty() {
    setHidden(this.empty, this.rows.length > 0);
    setHidden(this.list, this.rows.length === 0);
  }
}

function newRow() {
  const row = h("li", {}, h("time"), h("span", { class: "sign", "aria-hidden": "true" }), h("span", { class: "event-kind" }), link("#", ""), h("span", { class: "event-text" }));
  return row;
}

function write(row, event) {
  const [time, sign, kind, about, text] = row.children;
  const [mark, tone] = toneOf(event.type);
  setText(time, clock(event.at));
  setText(sign, mark);
  if (row.className !== tone) row.className = tone;
  setText(kind, event.type);
  const to = event.job ? `/jobs/${event.job}` : event.batch ? `/batches/${event.batch}` : "";
  setHidden(about, to === "");
  setText(about, event.job || event.batch || "");
  if (to) about.setAttribute("href", to);
  setText(text, words(event));
}
