// Forebay from Node, with the package redis alone (npm install redis, or Debian's node-redis).
//
//   node client.mjs redis://127.0.0.1:6379/0 "a text" "another text" ...
import { randomUUID } from "node:crypto";
import { createRequire } from "node:module";

const { createClient } = createRequire(import.meta.url)("redis");

/** Puts one job into the inbox and returns its id. */
export const enqueue = async (redis, job) => (await enqueueMany(redis, [job]))[0];

/** Puts jobs into the inbox, in one round trip, and returns their ids. Sent twice under one id, a job is done once. */
export async function enqueueMany(redis, jobs) {
  const named = jobs.map((job) => ({ id: randomUUID(), ...job }));
  // Commands that are sent without waiting for each other travel in one pipeline.
  await Promise.all(named.map((job) => redis.xAdd("forebay:inbox", "*", { job: JSON.stringify(job) })));
  return named.map((job) => job.id);
}

/** The result of a job that has ended, or null. A job that was refused has ended as failed. */
export async function read(redis, id) {
  const [status, result] = await redis.hmGet(`forebay:{job:${id}}`, ["status", "result"]);
  return ["succeeded", "failed", "cancelled", "expired"].includes(status) ? JSON.parse(result) : null;
}

/** Waits for a job's result: subscribe, read, wait, and read again every 30 s, since a message may be lost. */
export async function wait(redis, subscriber, id, timeoutMs = Infinity) {
  const channel = `forebay:{job:${id}}:done`;
  const end = Date.now() + timeoutMs;
  let wake = () => {};
  const listener = () => wake();
  await subscriber.subscribe(channel, listener);
  try {
    for (;;) {
      const told = new Promise((resolve) => (wake = resolve));
      const result = await read(redis, id);
      if (result) return result;
      if (Date.now() >= end) throw new Error(`job ${id} has not ended`);
      let timer;
      await Promise.race([told, new Promise((resolve) => (timer = setTimeout(resolve, Math.min(30_000, end - Date.now()))))]);
      clearTimeout(timer);
    }
  } finally {
    await subscriber.unsubscribe(channel, listener);
  }
}

if (process.argv[1] === (await import("node:url")).fileURLToPath(import.meta.url)) {
  const [url, first, ...others] = process.argv.slice(2);
  const redis = createClient({ url });
  const subscriber = redis.duplicate();
  await Promise.all([redis.connect(), subscriber.connect()]);
  const ids = [await enqueue(redis, { task_type: "fast_summary", input: first })];
  ids.push(...(await enqueueMany(redis, others.map((input) => ({ task_type: "fast_summary", input })))));
  ids.push(await enqueue(redis, { task_type: "no_such_task_type", input: "x" }));
  for (const result of await Promise.all(ids.map((id) => wait(redis, subscriber, id, 60_000)))) {
    console.log(result.id, result.status, result.text ?? result.error.message);
  }
  await Promise.all([redis.quit(), subscriber.quit()]);
}
