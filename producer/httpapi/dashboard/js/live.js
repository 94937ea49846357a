// The one stream of a page: status, activity and events. Whatever comes is gathered, and given out at most four times a
// second, so that a flood of events costs no more than a brook.

import { Stream } from "./stream.js";

const every = 250;
/** As many events as are given out at once; a feed shows no more than that. */
const mostEvents = 400;

const listeners = new Set();
const stateListeners = new Set();
let gathered = { events: [], dropped: 0 };
let timer = 0;
let stream = null;

export const latest = { state: "connecting", status: null, activity: null, problem: null };

/** How the connection is; a live one tells when Redis no longer answers, so that what is shown is old. */
let connection = "connecting";
let storeAnswers = true;

function setState(state, problem = null) {
  if (state !== connection) storeAnswers = true; // a new connection says so by itself where it does not
  connection = state;
  latest.state = state === "live" && !storeAnswers ? "stale" : state;
  latest.problem = problem;
  for (const listener of stateListeners) listener(latest.state, problem);
}

function take({ type, data }) {
  let value;
  try {
    value = JSON.parse(data);
  } catch {
    return;
  }
  if (type === "status") gathered.status = latest.status = value;
  else if (type === "activity") gathered.activity = latest.activity = value;
  else if (type === "events") takeEvents(value);
  else if (type === "store") {
    storeAnswers = value.answers;
    return setState(connection, latest.problem);
  }
  else return;
  if (!timer) timer = setTimeout(give, every);
}

/** The ids of the last events: those that come while a connection is made may come twice. */
const seen = new Set();

function isNew(event) {
  const key = `${event.stream} ${event.id}`;
  if (seen.has(key)) return false;
  seen.add(key);
  if (seen.size > 4 * mostEvents) seen.delete(seen.values().next().value);
  return true;
}

function takeEvents(value) {
  const events = value.events.filter(isNew);
  gathered.events.push(...events);
  gathered.dropped += value.dropped ?? 0;
  const over = gathered.events.length - mostEvents;
  if (over > 0) {
    gathered.events.splice(0, over);
    gathered.dropped += over;
  }
}

function give() {
  timer = 0;
  const frame = gathered;
  gathered = { events: [], dropped: 0 };
  for (const listener of listeners) listener(frame);
}

/** Has a listener called with {status?, activity?, events, dropped}; returns what ends that. */
export function onFrame(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function onState(listener) {
  stateListeners.add(listener);
  listener(latest.state, latest.problem);
  return () => stateListeners.delete(listener);
}

export function connect() {
  stream = new Stream("/v1/events", take, setState);
  stream.open();
  // A page that nobody sees holds no connection: browsers have six for one server.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) stream.close();
    else stream.open();
  });
  addEventListener("pagehide", () => stream.close());
}
