// Server-sent events over fetch. EventSource would not say why it has given up, and would begin anew without the id of
// the last event after an answer that was no stream.

import { logIn, problemOf } from "./api.js";

const firstPause = 500;
const longestPause = 5000;
/** A stream says something every 15 s; one that is silent for so long is dead, whatever the network thinks. */
const silence = 45000;

export class Stream {
  /**
   * @param {string} path
   * @param {(event: {type: string, data: string, id: string}) => void} onEvent
   * @param {(state: "connecting"|"live"|"reconnecting"|"ended"|"refused", problem?: Error) => void} onState
   */
  constructor(path, onEvent, onState) {
    this.path = path;
    this.onEvent = onEvent;
    this.onState = onState;
    this.lastId = "";
    this.pause = firstPause;
    this.closed = true;
  }

  open() {
    if (!this.closed) return;
    this.closed = false;
    this.onState("connecting");
    this.run();
  }

  close() {
    this.closed = true;
    clearTimeout(this.again);
    clearTimeout(this.watch);
    this.abort?.abort();
  }

  async run() {
    const abort = (this.abort = new AbortController());
    const headers = { Accept: "text/event-stream" };
    if (this.lastId) headers["Last-Event-ID"] = this.lastId;
    try {
      this.listen();
      const response = await fetch(this.path, { headers, signal: abort.signal, cache: "no-store", credentials: "same-origin" });
      if (response.status === 401) return logIn();
      if (response.status === 204) return this.end("ended");
      if (response.status === 403 || response.status === 404) return this.end("refused", await problemOf(response));
      if (!response.ok) throw await problemOf(response);
      this.onState("live");
      await this.read(response.body.getReader());
    } catch { /* whatever it was, it is tried again */ }
    clearTimeout(this.watch);
    if (this.closed || abort !== this.abort) return;
    this.onState("reconnecting");
    this.again = setTimeout(() => this.run(), this.pause);
    this.pause = Math.min(longestPause, this.pause * 2);
  }

  end(state, problem) {
    this.close();
    this.onState(state, problem);
  }

  /** Ends a connection on which nothing comes. */
  listen() {
    clearTimeout(this.watch);
    const abort = this.abort;
    this.watch = setTimeout(() => abort.abort(), silence);
  }

  async read(reader) {
    const decoder = new TextDecoder();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      this.listen();
      this.pause = firstPause;
      rest += decoder.decode(value, { stream: true });
      const blocks = rest.split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) this.take(block);
      if (this.closed) return;
    }
  }

  take(block) {
    let type = "message";
    const data = [];
    for (const line of block.split("\n")) {
      const colon = line.indexOf(":");
      if (colon === 0) continue;
      const field = colon < 0 ? line : line.slice(0, colon);
      const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
      if (field === "event") type = value;
      else if (field === "data") data.push(value);
      else if (field === "id") this.lastId = value;
    }
    if (data.length > 0) this.onEvent({ type, data: data.join("\n"), id: this.lastId });
  }
}
