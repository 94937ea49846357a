// The shell: who looks, which page stands at the address, the navigation, the theme, the keys, and whether it is live.

import { get } from "./api.js";
import { fill, h, newId, setClass, setText } from "./dom.js";
import { connect, onState } from "./live.js";
import { open, problemBox } from "./parts.js";
import overview from "./pages/overview.js";
import jobs from "./pages/jobs.js";
import job from "./pages/job.js";
import batches from "./pages/batches.js";
import batch from "./pages/batch.js";
import failures from "./pages/failures.js";
import fresh from "./pages/new.js";

const pages = [
  { path: /^\/$/, page: overview, nav: "Overview", at: "/", key: "o" },
  { path: /^\/jobs$/, page: jobs, nav: "Jobs", at: "/jobs", key: "j" },
  { path: /^\/jobs\/([A-Za-z0-9_-]+)$/, page: job, under: "/jobs" },
  { path: /^\/batches$/, page: batches, nav: "Batches", at: "/batches", key: "b" },
  { path: /^\/batches\/([A-Za-z0-9_-]+)$/, page: batch, under: "/batches" },
  { path: /^\/failures$/, page: failures, nav: "Failures", at: "/failures", key: "f" },
  { path: /^\/new$/, page: fresh, nav: "New job", at: "/new", key: "n" },
];

const main = document.getElementById("main");
const nav = document.getElementById("nav");
let session = null;
let leave = () => {};
let turn = 0;

/** Goes to a page by its address, without loading the shell again. */
export function go(to) {
  history.pushState(null, "", to);
  show();
}

async function show() {
  const mine = (turn += 1);
  leave();
  leave = () => {};
  const found = pages.find((p) => p.path.test(location.pathname));
  for (const a of nav.querySelectorAll("a")) {
    const here = found && (found.at ?? found.under) === a.getAttribute("href");
    if (here) a.setAttribute("aria-current", "page");
    else a.removeAttribute("aria-current");
  }
  main.replaceChildren();
  if (!found) {
    document.title = "Nothing here · Forebay";
    fill(main, h("h1", { text: "There is nothing at this address" }), h("p", {}, h("a", { href: "/" }, "Go to the overview")));
    return;
  }
  document.title = `${found.page.title} · Forebay`;
  const root = h("div", { class: `page ${found.page.name}` });
  main.append(root);
  scrollTo(0, 0);
  try {
    const end = await found.page.mount(root, { session, go, id: found.path.exec(location.pathname)[1], params: new URLSearchParams(location.search) });
    if (mine === turn) leave = end ?? leave;
    else end?.();
  } catch (problem) {
    if (mine === turn && problem.name !== "AbortError") fill(root, h("h1", { text: found.page.title }), problemBox(problem, show));
  }
}

function drawNav() {
  fill(nav, pages.filter((p) => p.nav && (p.at !== "/batches" || session.features?.batches !== false)).map((p) =>
    h("a", { href: p.at }, p.nav)));
}

const liveWords = {
  connecting: ["…", "connecting"], live: ["●", "live"], reconnecting: ["↻", "reconnecting"], refused: ["○", "not live"], ended: ["○", "not live"],
  stale: ["○", "old: Redis does not answer"],
};

function drawFoot() {
  const sign = h("span", { class: "sign", "aria-hidden": "true" });
  const word = h("span");
  const state = h("p", { id: "live", class: "live" }, sign, word);
  onState((now, problem) => {
    const [mark, text] = liveWords[now];
    setText(sign, mark);
    setText(word, text);
    setClass(state, `live ${now}`);
    state.title = problem?.message ?? "";
  });
  const who = session.operator ? "operator" : `tenant ${session.tenant}`;
  const theme = h("button", { type: "button", id: "theme", class: "quiet" });
  const nameTheme = () => {
    theme.textContent = `Theme: ${window.forebayTheme.chosen}`;
  };
  theme.addEventListener("click", () => {
    const order = ["system", "light", "dark"];
    window.forebayTheme.choose(order[(order.indexOf(window.forebayTheme.chosen) + 1) % order.length]);
    nameTheme();
  });
  nameTheme();
  fill(document.getElementById("foot"), state,
    h("p", { class: "who", title: session.key || "This machine; nobody is asked for a key" }, `${who}${session.write ? "" : ", read only"}`),
    h("div", { class: "foot-buttons" }, theme, h("button", { type: "button", class: "quiet", on: { click: showHelp }, "aria-keyshortcuts": "?" }, "Keys"),
      h("a", { class: "quiet", href: "/docs/" }, "API"), session.operator && session.features?.monitor !== false ? h("a", { class: "quiet", href: "/monitor" }, "asynqmon") : null,
      session.key ? h("form", { method: "post", action: "/logout" }, h("button", { class: "quiet" }, "Log out")) : null));
}

function showHelp() {
  if (document.querySelector("dialog")) return;
  const id = newId("help");
  const rows = [["?", "this list"], ["Escape", "closes a dialog"], ["/", "to the filter of the page"], ["t", "light, dark, or as the system says"],
    ...pages.filter((p) => p.key).map((p) => [`g ${p.key}`, p.nav])];
  open(h("dialog", { "aria-labelledby": id, class: "help" }, h("form", { method: "dialog" }, h("h2", { id, text: "Keys" }),
    h("dl", { class: "keys" }, rows.map(([key, what]) => [h("dt", {}, key.split(" ").map((k) => h("kbd", { text: k }))), h("dd", { text: what })])),
    h("div", { class: "actions" }, h("button", {}, "Close")))));
}

let begun = 0;

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select, dialog")) return;
  if (Date.now() - begun < 1500) {
    begun = 0;
    const found = pages.find((p) => p.key === event.key);
    if (found) {
      event.preventDefault();
      go(found.at);
    }
    return;
  }
  if (event.key === "g") begun = Date.now();
  else if (event.key === "?") showHelp();
  else if (event.key === "t") document.getElementById("theme")?.click();
  else if (event.key === "/") {
    const field = main.querySelector("input, select");
    if (field) {
      event.preventDefault();
      field.focus();
    }
  }
}

/** Follows links within the dashboard without loading the shell again. */
function onClick(event) {
  const a = event.target.closest("a");
  if (!a || event.defaultPrevented || event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || a.origin !== location.origin) return;
  if (a.classList.contains("skip")) {
    event.preventDefault();
    main.focus();
    return;
  }
  if (!pages.some((p) => p.path.test(a.pathname))) return;
  event.preventDefault();
  go(a.pathname + a.search);
  main.focus({ preventScroll: true });
}

async function begin() {
  try {
    session = await get("/v1/session");
  } catch (problem) {
    if (problem.status !== 401) fill(main, h("h1", { text: "Forebay" }), problemBox(problem, () => location.reload()));
    return;
  }
  drawNav();
  drawFoot();
  connect();
  document.addEventListener("keydown", onKey);
  document.addEventListener("click", onClick);
  addEventListener("popstate", show);
  await show();
}

begin();
