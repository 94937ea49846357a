// What the API's short words mean, for people.

const statuses = {
  queued: ["○", "idle"], running: ["◐", "busy"], retrying: ["↻", "warn"], succeeded: ["✓", "good"],
  failed: ["✕", "bad"], cancelled: ["⊘", "idle"], expired: ["◷", "bad"],
  validating: ["◌", "busy"], in_progress: ["◐", "busy"], finalizing: ["◑", "busy"], completed: ["✓", "good"], cancelling: ["⊘", "warn"],
  pending: ["○", "busy"], delivered: ["✓", "good"], dead: ["✕", "bad"], discarded: ["⊘", "idle"],
  closed: ["●", "good"], open: ["✕", "bad"], "half-open": ["◐", "warn"],
};

/** The sign and the tone of a status: colour alone says nothing to some. */
export function signOf(status) {
  return statuses[status] ?? ["·", "idle"];
}

export const ended = (status) => ["succeeded", "failed", "cancelled", "expired"].includes(status);

const reasons = {
  scheduled: "its start time", backoff: "the pause before it is tried again", breaker_open: "an endpoint whose breaker is open",
  probe_out: "the probe that tries a sick endpoint", ramp: "an endpoint that is just recovering", cooldown: "the provider's Retry-After",
  requests: "the limit of requests a minute", tokens: "the limit of tokens a minute", permits: "the limit of calls at a time",
  budget: "the budget", attempt_open: "a call of an earlier delivery that may still be out", redis_away: "Redis, which did not answer",
  given_back: "another worker: the one that had it was ending", paused: "somebody to resume what is paused",
  unreadable: "a worker that has the key it is sealed under",
};

export const reasonOf = (word) => reasons[word] ?? word;

const classes = {
  invalid: "the request is refused as it is", auth: "the account's key is refused", quota: "the account has no credit left",
  not_served: "the endpoint does not serve the model", misconfigured: "what answers is no such API",
  context_length: "the request is too long for the model", content_policy: "refused by the provider's content policy",
  throttled: "the provider asks to slow down", unavailable: "the endpoint does not answer well",
  rejected: "the answer was not accepted", deferred: "the gate lets nothing through now", cancelled: "cancelled",
  expired: "its deadline passed", abandoned: "its worker was ending", internal: "something is wrong inside",
};

export const classOf = (word) => classes[word] ?? "";

/** An error of a job in one line. */
export function failureLine(failure) {
  if (!failure) return "";
  const code = failure.code && failure.code !== failure.class ? `${failure.class} (${failure.code})` : failure.class;
  return `${code}: ${failure.message}`;
}
