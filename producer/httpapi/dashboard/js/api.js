// What is asked of the API. Errors are told in its own words.

export class Problem extends Error {
  constructor(status, code, message, param = null) {
    super(message);
    this.status = status;
    this.code = code;
    this.param = param;
  }
}

export function logIn() {
  const here = location.pathname + location.search;
  location.assign(here === "/" ? "/login" : `/login?next=${encodeURIComponent(here)}`);
}

/** The error of an answer that is none of success. */
export async function problemOf(response) {
  let told = null;
  try {
    told = (await response.json()).error;
  } catch { /* an answer of something between us and the server */ }
  return new Problem(response.status, told?.code ?? "unknown", told?.message ?? `The server answered with the status ${response.status}.`, told?.param);
}

async function ask(method, path, body, signal) {
  const request = { method, signal, headers: { Accept: "application/json" }, credentials: "same-origin", cache: "no-store" };
  if (body !== undefined) {
    request.headers["Content-Type"] = "application/json";
    request.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(path, request);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "unreachable", "The server does not answer. Is it running, and is this machine connected to it?");
  }
  if (response.status === 401) {
    logIn();
    throw new Problem(401, "session_ended", "You are not logged in any more.");
  }
  if (!response.ok) throw await problemOf(response);
  return response.status === 204 ? null : response.json();
}

export const get = (path, signal) => ask("GET", path, undefined, signal);
export const post = (path, body) => ask("POST", path, body);
export const del = (path) => ask("DELETE", path);

/** A query of what is set. */
export function query(params) {
  const set = Object.entries(params).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  const text = new URLSearchParams(set).toString();
  return text ? `?${text}` : "";
}
