// A job's story: what happened, in its order, and how long nothing did in between.

import { clockMS, duration, moment, since, usd } from "../format.js";
import { h } from "../dom.js";
import { badge } from "../parts.js";
import { classOf, ended, reasonOf } from "../words.js";

/** A pause that is shorter says nothing. */
const shortest = 5;

function entry({ at, sign, tone, title, lines = [], detail }) {
  return h("li", { class: `step ${tone}` }, h("span", { class: "sign", "aria-hidden": "true", text: sign }),
    h("div", { class: "step-head" }, h("strong", {}, title), h("time", { datetime: at, title: moment(at), text: clockMS(at) })),
    lines.filter(Boolean).map((line) => h("p", { class: "note" }, line)), detail);
}

function pause(ms, why) {
  return h("li", { class: "step gap" }, h("span", { class: "sign", "aria-hidden": "true", text: "⋮" }), h("p", {}, h("span", { class: "figure", text: duration(ms) }), ` ${why}`));
}

function attemptOf(a, longest) {
  const good = a.ended && !a.class;
  const words = good ? "answered" : a.ended ? `${a.class}${a.code ? ` (${a.code})` : ""}` : "no end is known";
  const bar = h("span", { class: `bar ${good ? "good" : a.ended ? "bad" : "warn"}` });
  bar.style.width = `${Math.max(1, (100 * (a.latency_ms ?? 0)) / longest)}%`;
  const cost = a.cost_usd ? usd(a.cost_usd) : a.maybe_billed ? "maybe billed, the price is not known" : "nothing billed";
  return { at: a.started_at, sign: good ? "✓" : a.ended ? "✕" : "◐", tone: good ? "good" : a.ended ? "bad" : "busy",
    title: [`Call ${a.seq}: `, a.endpoint, h("span", { class: "attempt-class" }, ` ${words}`)],
    lines: [
      [a.model, a.region, a.account && `account ${a.account}`].filter(Boolean).join(" · "),
      [a.http_status ? `HTTP ${a.http_status}` : a.ended ? "no HTTP answer" : null, a.ended ? duration(a.latency_ms ?? 0) : `out until ${clockMS(a.call_deadline)} at the latest`, cost,
        a.usage ? `${a.usage.prompt_tokens} + ${a.usage.completion_tokens} tokens` : null, a.probe ? "the probe of a half-open breaker" : null].filter(Boolean).join(" · "),
      a.class && classOf(a.class) ? `That is: ${classOf(a.class)}.` : null],
    detail: a.ended ? h("span", { class: "track", "aria-hidden": "true" }, bar) : null,
    until: Date.parse(a.started_at) + (a.latency_ms ?? 0) };
}

function webhookSteps(w) {
  const [sign, tone] = { delivered: ["✓", "good"], dead: ["✕", "bad"], discarded: ["⊘", "idle"] }[w.state] ?? ["○", "busy"];
  const last = w.last ? [w.last.status ? `HTTP ${w.last.status}` : w.last.error, duration(w.last.latency_ms)].filter(Boolean).join(", ") : "";
  return { at: w.ended_at ?? w.last?.at ?? w.at, sign, tone, title: ["Webhook ", badge(w.state)],
    lines: [`${w.event} to ${w.url}`, [`${w.attempts} ${w.attempts === 1 ? "attempt" : "attempts"}`, last && `the last: ${last}`, w.reason, w.next_at && w.state === "pending" ? `next ${moment(w.next_at)}` : null].filter(Boolean).join(" · ")] };
}

/** What the time between two steps was. */
function between(before, after) {
  if (before === "wait") return "waited";
  if (before === "accepted") return "in the queue";
  if (after === "webhook") return "until its webhook";
  return after === "call" ? "until the next call" : after === "end" ? "until the end was written" : "passed";
}

/** The waits, those for the same one after the other as one. */
function waitSteps(job) {
  const steps = [];
  for (const w of job.waits ?? []) {
    const last = steps.at(-1);
    const key = [w.reason, w.limit, w.route, w.cause].join("|");
    if (last?.key === key && Date.parse(w.since) <= Date.parse(last.until) + 1000) {
      last.until = w.until;
      continue;
    }
    steps.push({ key, at: w.since, until: w.until, word: w });
  }
  return steps.map(({ at, until, word: w }) => ({ at, sign: "◔", tone: "warn", kind: "wait", title: `Waits for ${reasonOf(w.reason)}`,
    lines: [[w.limit, w.route && `route ${w.route}`, w.cause && classOf(w.cause), `at most until ${moment(until)}`].filter(Boolean).join(" · ")] }));
}

export function storyOf(job) {
  const steps = [];
  if (job.created_at) steps.push({ at: job.created_at, sign: "○", tone: "idle", title: "Accepted", lines: [`as ${job.task_type || "adhoc"}, for the tenant ${job.tenant ?? "default"}`], kind: "accepted" });
  const attempts = job.attempts ?? [];
  const longest = Math.max(1, ...attempts.map((a) => a.latency_ms ?? 0));
  let run = 1;
  for (const a of attempts) {
    if (a.run > run) {
      run = a.run;
      steps.push({ at: a.started_at, sign: "↻", tone: "warn", title: `Opened again, run ${run}`, kind: "reopened" });
    }
    steps.push({ ...attemptOf(a, longest), kind: "call" });
  }
  const end = { succeeded: ["✓", "good", "Succeeded"], failed: ["✕", "bad", "Failed"], cancelled: ["⊘", "idle", "Cancelled"], expired: ["◷", "bad", "Expired"] }[job.status];
  if (end && job.finished_at) {
    steps.push({ at: job.finished_at, sign: end[0], tone: end[1], title: end[2], kind: "end",
      lines: [job.status === "succeeded" ? `by ${job.model} at ${job.endpoint}, for ${usd(job.cost_usd)} in all` : job.error?.message] });
  }
  for (const w of job.webhooks ?? []) steps.push({ ...webhookSteps(w), kind: "webhook" });
  steps.push(...waitSteps(job));
  steps.sort((a, b) => Date.parse(a.at) - Date.parse(b.at));
  const nodes = [];
  let last = null;
  for (const step of steps) {
    const from = last ? Math.max(last.until ?? 0, Date.parse(last.at)) : 0;
    const ms = Date.parse(step.at) - from;
    if (last && ms >= shortest) nodes.push(pause(ms, between(last.kind, step.kind)));
    nodes.push(entry(step));
    last = step;
  }
  if (!ended(job.status)) nodes.push(now(job, last));
  return nodes;
}

function now(job, last) {
  const text = job.waiting ? `Waits for ${reasonOf(job.waiting.reason)}` : { queued: "Waits in the queue", running: "A worker has it in hand", retrying: "Waits to be tried again" }[job.status];
  return h("li", { class: "step busy now" }, h("span", { class: "sign", "aria-hidden": "true", text: "◐" }), h("div", { class: "step-head" }, h("strong", { text }), h("span", { class: "note", text: `since ${since(job.waiting?.since ?? last?.at ?? job.created_at).replace(" ago", "")}` })));
}
