// The tables of the overview.

import { post } from "../api.js";
import { age, brief, count, duration, percent, since, until, usd } from "../format.js";
import { h, tell } from "../dom.js";
import { badge, button, card, command, curlExample, link, meter, table } from "../parts.js";
import { classOf, reasonOf } from "../words.js";

export const readOnly = "this key may only read";

/** The tiers whose first choice an endpoint is now. */
const activeTiers = (status, endpoint) => (status.tiers ?? []).filter((t) => t.active === endpoint).map((t) => t.name);

function breakerCell(e) {
  const parts = [];
  if (e.probe_until) parts.push("probe out");
  else if (e.state === "open" && e.until) parts.push(`probe ${until(e.until)}`);
  if (e.ramp_until) parts.push("ramping up");
  if (e.forced) parts.push("by hand");
  else if (e.cause) parts.push(classOf(e.cause) || e.cause);
  return { sig: e.state + parts.join(), make: () => [badge(e.state), parts.length ? h("div", { class: "note", text: parts.join(", ") }) : null] };
}

function limitsCell(limits) {
  if (!limits?.length) return "no limits";
  const shown = limits.map((l) => `${l.name}: ${brief(l.used)} of ${brief(l.limit)}${l.per ? ` per ${l.per}` : ""}`);
  return { sig: shown.join(), make: () => limits.map((l, i) => {
    const bar = meter(l.name);
    bar.set(l.limit > 0 ? l.used / l.limit : 0, shown[i]);
    return bar.node;
  }) };
}

export function endpointsOf() {
  let seen = {};
  const list = table({
    caption: "Endpoints", keyOf: (e) => e.endpoint,
    empty: "The endpoints are known where the server has a configuration: start it with --config.",
    columns: [
      { label: "Endpoint", wide: true, class: "name", cell: (e) => {
        const tiers = activeTiers(seen.status, e.endpoint);
        return { sig: `${e.region}${tiers}`, make: () => [h("strong", { text: e.endpoint }),
          h("div", { class: "note", text: [e.region, `account ${e.account}`, e.simulated && "simulated"].filter(Boolean).join(" · ") }),
          tiers.length ? h("div", { class: "active-for" }, h("span", { class: "sign good", "aria-hidden": "true", text: "▶" }), `active for ${tiers.join(", ")}`) : null] };
      } },
      { label: "Breaker", cell: breakerCell },
      { label: "Latency", num: true, cell: (e) => (e.latency_ms ? duration(e.latency_ms) : "–") },
      { label: "p95", num: true, cell: (e) => duration(seen.activity?.endpoints?.find((x) => x.name === e.endpoint)?.p95_ms) },
      { label: "Calls", num: true, cell: (e) => count(e.calls) },
      { label: "Failed", num: true, cell: (e) => `${count(e.failures)}${e.calls ? ` (${percent(e.failures / e.calls)})` : ""}` },
      { label: "Trips", num: true, cell: (e) => count(e.trips) },
      { label: "Use of limits", wide: true, cell: (e) => limitsCell(e.limits) },
    ],
  });
  return { node: card("Endpoints", {}, list.node), show(state) {
    seen = state;
    list.show(state.status.endpoints ?? []);
  } };
}

function pauseButton(session, path, name, paused) {
  return button(paused ? "Resume" : "Pause", {
    why: session.write ? null : readOnly, "aria-label": `${paused ? "Resume" : "Pause"} ${name}`, kind: paused ? "primary small" : "small",
    onClick: async () => {
      await post(`${path}/${paused ? "resume" : "pause"}`);
      tell(`${name} is ${paused ? "resumed" : "paused"}: ${paused ? "workers go on with it" : "workers begin no call of it; those that are out finish"}.`);
    },
  });
}

const pausedCell = (paused) => ({ sig: paused, make: () => (paused
  ? h("span", { class: "badge warn" }, h("span", { class: "sign", "aria-hidden": "true", text: "❚❚" }), "paused")
  : h("span", { class: "badge good" }, h("span", { class: "sign", "aria-hidden": "true", text: "▶" }), "open")) });

export function queuesOf({ session }) {
  const list = table({
    caption: "Queues", keyOf: (q) => q.queue, empty: "There is no queue yet.",
    columns: [
      { label: "Queue", cell: (q) => ({ sig: 1, make: () => h("strong", { text: q.queue }) }) },
      { label: "State", cell: (q) => pausedCell(q.paused) },
      { label: "Waiting", num: true, cell: (q) => count(q.pending) },
      { label: "Running", num: true, cell: (q) => count(q.active) },
      { label: "Later", num: true, cell: (q) => count(q.scheduled + q.retry) },
      { label: "Oldest", num: true, cell: (q) => (q.oldest_s ? age(q.oldest_s) : "–") },
      { label: "Pause", hidden: true, class: "buttons", cell: (q) => ({ sig: q.paused, make: () => pauseButton(session, `/v1/queues/${q.queue}`, `the queue ${q.queue}`, q.paused) }) },
    ],
  });
  return { node: card("Queues", {}, list.node), show: ({ status }) => list.show(status.queues) };
}

const shareCell = (rate) => {
  if (rate === null || rate === undefined) return "–";
  const words = percent(rate);
  return { sig: words, make: () => {
    const bar = meter("success rate");
    bar.set(rate, words, rate < 0.9 ? "bad" : rate < 0.98 ? "warn" : "good");
    return bar.node;
  } };
};

const outcomes = [
  { label: "Ended", num: true, cell: (t) => count(t.succeeded === undefined ? null : t.succeeded + t.failed + t.expired) },
  { label: "Failed", num: true, cell: (t) => count(t.succeeded === undefined ? null : t.failed + t.expired) },
  { label: "Success", cell: (t) => shareCell(t.success_rate) },
  { label: "Cost", num: true, cell: (t) => usd(t.cost_usd ?? null) },
];

export function tiersOf() {
  const list = table({
    caption: "Tiers", keyOf: (t) => t.name, empty: "The tiers are known where the server has a configuration.",
    columns: [
      { label: "Tier", cell: (t) => ({ sig: 1, make: () => h("strong", { text: t.name }) }) },
      { label: "Active endpoint", cell: (t) => (t.total === undefined ? "–" : t.active
        ? { sig: t.active, make: () => [h("span", { class: "sign good", "aria-hidden": "true", text: "▶ " }), h("span", { class: "nowrap", text: t.active })] }
        : { sig: "none", make: () => h("span", { class: "badge bad" }, h("span", { class: "sign", "aria-hidden": "true", text: "✕" }), "none is up") }) },
      { label: "Up", num: true, cell: (t) => (t.total === undefined ? "–" : `${t.up} of ${t.total}`) }, ...outcomes,
    ],
  });
  return { node: card("Tiers", {}, list.node), show: ({ status, activity }) => list.show(merged(status.tiers ?? [], activity?.tiers ?? [])) };
}

/** What is known of the same names from two sides, in the order of the first. */
function merged(first, second) {
  const by = new Map(first.map((x) => [x.name, { ...x }]));
  for (const x of second) by.set(x.name, { ...by.get(x.name), ...x });
  return [...by.values()];
}

export function typesOf({ session }) {
  const list = table({
    caption: "Task types", keyOf: (t) => t.name, empty: [h("p", { text: "No job has ended in this window. Send one:" }), command(curlExample()), h("p", {}, link("/new", "or fill in the form"))],
    columns: [
      { label: "Task type", cell: (t) => ({ sig: 1, make: () => link(`/jobs?task_type=${encodeURIComponent(t.name)}`, t.name) }) },
      { label: "State", cell: (t) => pausedCell(t.paused) }, ...outcomes,
      { label: "Pause", hidden: true, class: "buttons", cell: (t) => ({ sig: t.paused, make: () => pauseButton(session, `/v1/task-types/${encodeURIComponent(t.name)}`, `the task type ${t.name}`, t.paused) }) },
    ],
  });
  return { node: card("Task types", {}, list.node), show({ status, activity }) {
    const paused = status.paused_task_types ?? [];
    const known = merged(paused.map((name) => ({ name })), activity?.task_types ?? []);
    list.show(known.sort((a, b) => (a.name < b.name ? -1 : 1)).map((t) => ({ ...t, paused: paused.includes(t.name) })));
  } };
}

export function waitsOf() {
  const list = table({
    caption: "What open jobs wait for", keyOf: (w) => [w.reason, w.limit, w.route, w.cause].join("|"), empty: "No open job waits for anything but a free slot.",
    columns: [
      { label: "Waits for", wide: true, cell: (w) => ({ sig: 1, make: () => [reasonOf(w.reason), h("div", { class: "note", text: [w.limit, w.route, w.cause && classOf(w.cause)].filter(Boolean).join(" · ") })] }) },
      { label: "Jobs", num: true, cell: (w) => count(w.jobs) },
      { label: "Next goes on", num: true, cell: (w) => until(w.next) },
    ],
  });
  return { node: card("What jobs wait for", {}, list.node), show: ({ status }) => list.show(status.waiting?.for ?? []) };
}

export function fleetOf() {
  const list = table({
    caption: "Processes", keyOf: (p) => p.id, empty: [h("p", { text: "No process has reported. Start a worker:" }), command("forebay worker")],
    columns: [
      { label: "Process", cell: (p) => ({ sig: 1, make: () => [h("strong", { text: p.kind }), h("div", { class: "note", text: `${p.host ?? ""} · ${p.pid ?? ""}`, title: p.id })] }) },
      { label: "Version", cell: (p) => p.version ?? "–" },
      { label: "Configuration", cell: (p) => (p.config?.refused ? "refuses the file as it stands" : p.config?.version?.slice(0, 8) ?? "built in") },
      { label: "Up for", num: true, cell: (p) => since(p.started_at).replace(" ago", "") },
      { label: "Seen", num: true, cell: (p) => since(p.seen_at) },
    ],
  });
  return { node: card("Processes", {}, list.node), show: ({ status }) => list.show(status.fleet?.processes ?? []) };
}
