// Small tools to make and change elements. Text is only ever set as text, never as HTML.

/**
 * Makes an element. Props: class, text, dataset, on (events), hidden, disabled and others by name; false and null are
 * left out.
 */
export function h(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "text") node.textContent = value;
    else if (name === "class") node.className = value;
    else if (name === "on") for (const [event, call] of Object.entries(value)) node.addEventListener(event, call);
    else if (name === "dataset") Object.assign(node.dataset, value);
    else if (name === "value") node.value = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  append(node, children);
  return node;
}

function append(node, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : String(child));
  }
}

/** Sets a text only where it differs: what has not changed costs no layout. */
export function setText(node, text) {
  if (node.lastText === text) return;
  node.lastText = text;
  node.textContent = text;
}

export function setAttribute(node, name, value) {
  if (value === null || value === false) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
  } else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

export function setClass(node, name) {
  if (node.className !== name) node.className = name;
}

export function setHidden(node, hidden) {
  if (node.hidden !== hidden) node.hidden = hidden;
}

export function fill(node, ...children) {
  node.replaceChildren();
  append(node, children);
  return node;
}

/**
 * Makes the children of a parent those of the items, by their keys: the ones that stay are kept and told of their item,
 * and nothing is moved that stands where it should.
 */
export function keyed(parent, items, keyOf, create, update) {
  const known = (parent.keyedRows ??= new Map());
  const seen = new Set();
  let at = parent.firstChild;
  for (const item of items) {
    const key = keyOf(item);
    if (seen.has(key)) continue;
    seen.add(key);
    let node = known.get(key);
    if (!node) {
      node = create(item);
      known.set(key, node);
    }
    update?.(node, item);
    if (node === at) at = at.nextSibling;
    else parent.insertBefore(node, at);
  }
  for (const [key, node] of known) {
    if (seen.has(key)) continue;
    node.remove();
    known.delete(key);
  }
}

const turns = new Map();
let turning = 0;

/**
 * Runs something soon, in a task of its own: what is drawn a part at a time never keeps the page from whoever uses it.
 * Of several for the same key only the last is run.
 */
export function soon(key, run) {
  turns.set(key, run);
  turning ||= setTimeout(turn, 0);
}

function turn() {
  const [key, run] = turns.entries().next().value;
  turns.delete(key);
  turning = turns.size > 0 ? setTimeout(turn, 0) : 0;
  run();
}

let lastId = 0;

/** An id that no other element has. */
export function newId(word) {
  lastId += 1;
  return `${word}-${lastId}`;
}

/** Tells those who cannot see the page, briefly, and everybody for some seconds. */
export function tell(text, kind = "") {
  const told = document.getElementById("told");
  const line = h("p", { class: `toast ${kind}`, text });
  told.replaceChildren(line);
  clearTimeout(tell.timer);
  tell.timer = setTimeout(() => line.remove(), kind === "bad" ? 12000 : 6000);
}
