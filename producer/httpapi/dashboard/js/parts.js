// Parts that several pages are made of.

import { fill, h, keyed, newId, setAttribute, setHidden, setText, tell } from "./dom.js";
import { signOf } from "./words.js";

/** A status with its sign: the colour is never the only one. */
export function badge(status, label = status.replaceAll("_", " ")) {
  const [sign, tone] = signOf(status);
  return h("span", { class: `badge ${tone}` }, h("span", { class: "sign", "aria-hidden": "true", text: sign }), label);
}

export const link = (href, text, props = {}) => h("a", { href, ...props }, text);

/** A card with a heading. */
export function card(title, props = {}, ...children) {
  const id = newId("card");
  const head = h("div", { class: "card-head" }, h("h2", { id, text: title }), props.aside);
  return h("section", { class: `card ${props.class ?? ""}`, "aria-labelledby": id }, head, ...children);
}

/**
 * A table that is brought up to date row by row.
 *
 * A column is {label, num?, wide?, cell(item)}; a cell is a text, or {sig, make} of which make is called again only
 * when sig has changed. On a narrow screen each row is a card.
 */
export function table({ caption, columns, keyOf, empty, rowClass }) {
  const body = h("tbody", { role: "rowgroup" });
  const heads = columns.map((c) => h("th", { scope: "col", role: "columnheader", class: c.num ? "num" : null },
    c.hidden ? h("span", { class: "visually-hidden", text: c.label }) : c.label));
  const made = h("table", { role: "table" }, h("caption", { class: "visually-hidden", text: caption }),
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, heads)), body);
  const none = h("div", { class: "empty" }, empty);
  const box = h("div", { class: "table-box", role: "region", "aria-label": caption, tabindex: "0" }, made);
  const node = h("div", {}, box, none);
  const create = () => h("tr", { role: "row" }, columns.map((c) =>
    h("td", { role: "cell", class: [c.num && "num", c.wide && "wide", c.class].filter(Boolean).join(" ") || null, "data-label": c.label })));
  const update = (row, item) => {
    if (rowClass) setAttribute(row, "class", rowClass(item) || null);
    columns.forEach((column, i) => setCell(row.children[i], column.cell(item)));
  };
  return {
    node,
    body,
    show(items) {
      keyed(body, items, keyOf, create, update);
      setHidden(box, items.length === 0);
      setHidden(none, items.length > 0);
    },
  };
}

function setCell(cell, value) {
  if (value === null || value === undefined || typeof value !== "object") {
    cell.sig = null;
    return setText(cell, value ?? "");
  }
  if (cell.sig === value.sig) return undefined;
  const focused = cell.contains(document.activeElement);
  cell.lastText = undefined;
  cell.sig = value.sig;
  fill(cell, value.make());
  if (focused) cell.querySelector("button, a")?.focus();
  return undefined;
}

export const statusCell = (status) => ({ sig: status, make: () => badge(status) });

/** A share of a whole as a bar, with its figures as a text. */
export function meter(label) {
  const bar = h("span", { class: "bar" });
  bar.style.width = "0%";
  const track = h("span", { class: "track", role: "meter", "aria-label": label, "aria-valuemin": "0", "aria-valuemax": "100", "aria-valuenow": "0" }, bar);
  const text = h("span", { class: "meter-text" });
  return {
    node: h("div", { class: "meter" }, track, text),
    set(share, words, tone = share >= 1 ? "bad" : share >= 0.8 ? "warn" : "") {
      const shown = Math.round(Math.min(1, Math.max(0, share)) * 1000) / 10;
      const width = `${shown}%`;
      if (bar.style.width !== width) bar.style.width = width;
      setAttribute(track, "aria-valuenow", shown);
      setAttribute(track, "aria-valuetext", words);
      setAttribute(bar, "class", `bar ${tone}`);
      setText(text, words);
    },
  };
}

/** A figure with its name. */
export function tile(label, title) {
  const value = h("dd", { text: "–" });
  const note = h("dd", { class: "note" });
  return {
    node: h("div", { class: "tile", title }, h("dt", { text: label }), value, note),
    set(text, under = "", tone = "") {
      setText(value, text);
      setText(note, under);
      setAttribute(value, "class", tone || null);
    },
  };
}

/** A button that can be used, or says why not. */
export function button(text, { onClick, why, kind = "", ...props } = {}) {
  const made = h("button", { type: "button", class: kind || null, ...props }, text);
  if (why) {
    made.setAttribute("aria-disabled", "true");
    made.title = why;
    made.append(h("span", { class: "visually-hidden", text: ` (${why})` }));
    made.addEventListener("click", () => tell(why));
  } else if (onClick) made.addEventListener("click", () => busy(made, onClick));
  return made;
}

/** Runs what a button does, once at a time, and tells of what went wrong. */
async function busy(made, run) {
  if (made.getAttribute("aria-busy") === "true") return;
  made.setAttribute("aria-busy", "true");
  try {
    await run();
  } catch (problem) {
    if (problem.name !== "AbortError") tell(problem.message, "bad");
  } finally {
    made.removeAttribute("aria-busy");
  }
}

/** Asks before what cannot be undone. Answers whether it was confirmed. */
export function confirm({ title, text, action, kind = "danger" }) {
  const id = newId("dialog");
  return new Promise((resolve) => {
    const yes = h("button", { class: kind, value: "yes" }, action);
    const dialog = h("dialog", { "aria-labelledby": id },
      h("form", { method: "dialog" }, h("h2", { id, text: title }), h("p", { text }),
        h("div", { class: "actions" }, h("button", { value: "no" }, "Leave it"), yes)));
    open(dialog, () => resolve(dialog.returnValue === "yes"));
    yes.focus();
  });
}

/** Opens a dialog, which Escape closes; the focus goes back to where it was. */
export function open(dialog, closed = () => {}) {
  const before = document.activeElement;
  dialog.addEventListener("close", () => {
    dialog.remove();
    before?.focus?.();
    closed();
  });
  document.body.append(dialog);
  dialog.showModal();
}

/** Where something is wrong. */
export function problemBox(problem, again) {
  return h("div", { class: "problem", role: "alert" }, h("p", { text: problem.message }),
    problem.code && problem.code !== "unknown" ? h("p", { class: "note" }, "Code: ", h("code", { text: problem.code })) : null,
    again ? button("Try again", { onClick: again }) : null);
}

/** A command to copy. */
export function command(text) {
  return h("div", { class: "command" }, h("pre", { tabindex: "0" }, h("code", { text })), button("Copy", {
    onClick: async () => {
      try {
        await navigator.clipboard.writeText(text);
        tell("Copied.");
      } catch {
        tell("This browser does not let a page copy here; mark the text and copy it.", "bad");
      }
    },
  }));
}

/** A text that is a job's content: shown only when somebody asks for it. */
export function content(label, what, load) {
  const id = newId("content");
  const box = h("pre", { class: "content", id, hidden: true, tabindex: "0", "aria-label": what });
  const toggle = h("button", { type: "button", "aria-expanded": "false", "aria-controls": id }, `Show ${label}`);
  toggle.addEventListener("click", () => busy(toggle, async () => {
    const show = box.hidden;
    box.textContent = show ? await load() : "";
    box.hidden = !show;
    toggle.setAttribute("aria-expanded", String(show));
    toggle.textContent = `${show ? "Hide" : "Show"} ${label}`;
  }));
  return h("div", { class: "content-box" }, toggle, box);
}

export const curlExample = () => `curl -fsS ${location.origin}/v1/jobs -H 'Content-Type: application/json' \\\n  -d '{"task_type": "fast_summary", "input": "A forebay is the pool where water waits."}'`;
