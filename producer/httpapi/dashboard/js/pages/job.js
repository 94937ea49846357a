// A job's page: its whole story, live until it has ended.

import { del, get, post } from "../api.js";
import { count, duration, moment, since, until, usd } from "../format.js";
import { fill, h, setClass, setText, tell } from "../dom.js";
import { badge, button, card, confirm, content, link } from "../parts.js";
import { Stream } from "../stream.js";
import { classOf, ended, reasonOf } from "../words.js";
import { storyOf } from "./story.js";
import { readOnly } from "./tables.js";

function fact(label, value) {
  return value === null || value === undefined || value === "" ? null : [h("dt", { text: label }), h("dd", {}, value)];
}

function factsOf(job) {
  const usage = job.usage ? `${count(job.usage.prompt_tokens)} in, ${count(job.usage.completion_tokens)} out${job.usage.estimated ? " (estimated)" : ""}` : null;
  const took = job.created_at && job.finished_at ? duration(Date.parse(job.finished_at) - Date.parse(job.created_at)) : null;
  return h("dl", { class: "facts" }, fact("Task type", job.task_type || "adhoc"), fact("Tenant", job.tenant),
    fact("Batch", job.batch ? link(`/batches/${job.batch}`, job.batch) : null), fact("Run", job.run > 1 ? `${job.run}, it was opened again` : null),
    fact("Model", job.model), fact("Tier", job.tier), fact("Endpoint", [job.endpoint, job.region && `(${job.region})`].filter(Boolean).join(" ")), fact("Took", took),
    fact("Calls", job.attempts?.length ? count(job.attempts.length) : null), fact("Retries", job.retries ? count(job.retries) : null), fact("Tokens", usage), fact("Cost", usd(job.cost_usd)),
    Object.entries(job.metadata ?? {}).map(([name, value]) => fact(`“${name}”`, value)));
}

function waitsOf(job) {
  const w = job.waiting;
  if (!w || ended(job.status)) return null;
  const cause = w.cause && classOf(w.cause);
  return h("div", { class: "callout" }, h("p", {}, h("strong", { text: `Waits for ${reasonOf(w.reason)}` }), w.limit ? ` (${w.limit})` : "", cause ? `: ${cause}` : "", "."),
    h("p", { class: "note" }, [w.route && `route ${w.route}`, `since ${moment(w.since)}`, `goes on ${until(w.until)}`].filter(Boolean).join(" · ")));
}

function errorOf(job) {
  const e = job.error;
  if (!e || job.status === "succeeded") return null;
  return h("div", { class: "callout bad" }, h("p", {}, h("strong", { text: ended(job.status) ? "Why it did not succeed" : "Why its last delivery failed" }), ": ", e.message),
    h("p", { class: "note" }, `class ${e.class}`, classOf(e.class) ? ` (${classOf(e.class)})` : "", e.code ? [", code ", link(`/jobs?code=${encodeURIComponent(e.code)}`, e.code)] : null),
    e.hint ? h("p", { text: `What to do: ${e.hint}` }) : null,
    e.detail ? content("what the provider said", "What the provider said", () => e.detail) : null);
}

function buttonsOf(job, { session, go }) {
  const why = session.write ? null : readOnly;
  const at = `/v1/jobs/${job.id}`;
  if (!ended(job.status)) {
    return [button("Cancel", { why, kind: "danger", onClick: async () => {
      if (!(await confirm({ title: "Cancel this job?", text: "One that waits ends at once. A call that is out is ended, and may still be billed.", action: "Cancel the job" }))) return;
      const now = await del(at);
      tell(now.status === "cancelled" ? "The job is cancelled." : "The job is being cancelled; its worker ends it.");
    } })];
  }
  return [job.status === "succeeded" ? null : button("Retry", { why, kind: "primary", onClick: async () => {
    await post(`${at}/retry?run=${job.run}`);
    tell("The job is queued again, with all its retries.");
    go(`/jobs/${job.id}`);
  } }), button("Discard", { why, kind: "danger", onClick: async () => {
    if (!(await confirm({ title: "Discard this job?", text: "All that is kept of it is deleted, its answer included. This cannot be undone.", action: "Delete the record" }))) return;
    await post(`${at}/discard?run=${job.run}`);
    tell("The job's record is deleted.");
    go("/jobs");
  } })];
}

function contentsOf(job) {
  return card("Content", { class: "contents" }, h("p", { class: "note", text: "What was asked and answered is shown only when you ask for it." }),
    h("div", { class: "content-list" },
      content("the request", "What the job asks for", async () => JSON.stringify(await get(`/v1/jobs/${job.id}/request`), null, 2)),
      job.text ? content("the answer", "The answer's text", () => job.text) : null,
      job.response ? content("the provider's answer", "The provider's whole answer", () => JSON.stringify(job.response, null, 2)) : null));
}

async function mount(root, context) {
  const { id } = context;
  const state = h("span");
  const following = h("span", { class: "note" });
  const buttons = h("div", { class: "actions" });
  const top = h("div");
  const facts = h("div");
  const story = h("ol", { class: "story" });
  const contents = h("div");
  root.append(h("p", { class: "crumb" }, link("/jobs", "Jobs")), h("div", { class: "page-head" }, h("h1", { class: "id" }, h("span", { text: id }), " ", state), buttons), top,
    h("div", { class: "grid one-two" }, h("div", {}, card("Facts", { aside: following }, facts), contents), card("Story", { class: "story-card" }, story)));
  let shown = "";
  let shownContents = "";
  let job = null;

  function draw(next) {
    job = next;
    const text = JSON.stringify(next);
    if (text === shown) return;
    shown = text;
    fill(state, badge(job.status));
    fill(top, waitsOf(job), errorOf(job));
    fill(buttons, buttonsOf(job, context));
    fill(facts, factsOf(job));
    fill(story, storyOf(job));
    const key = `${job.run} ${job.status}`;
    if (key !== shownContents) fill(contents, contentsOf(job)); // what is open stays open while nothing has changed
    shownContents = key;
  }

  draw(await get(`/v1/jobs/${id}`));
  const stream = new Stream(`/v1/jobs/${id}/events`, (event) => {
    if (event.type === "status" || event.type === "result") draw(JSON.parse(event.data));
    if (event.type === "result") stream.end("ended");
  }, (now) => {
    setText(following, { live: "followed live", reconnecting: "reconnecting", connecting: "", ended: "it has ended", refused: "" }[now]);
    setClass(following, `note ${now}`);
  });
  if (ended(job.status)) setText(following, `ended ${since(job.finished_at)}`);
  else stream.open();
  const tick = setInterval(() => {
    if (job.waiting && !ended(job.status)) fill(top, waitsOf(job), errorOf(job));
  }, 1000);
  return () => {
    clearInterval(tick);
    stream.close();
  };
}

export default { name: "job", title: "Job", mount };
