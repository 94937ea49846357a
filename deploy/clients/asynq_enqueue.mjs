// Enqueues a job of Forebay as a task of asynq, with the packages redis and protobufjs, by asynq.proto.
//
//   node asynq_enqueue.mjs redis://127.0.0.1:6379/0 fast_summary "a text" [id]
import { randomUUID } from "node:crypto";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

const require = createRequire(import.meta.url);
const { createClient } = require("redis");
const protobuf = require("protobufjs");

const [url, taskType, input, id] = process.argv.slice(2);
const proto = await protobuf.load(fileURLToPath(new URL("asynq.proto", import.meta.url)));
const TaskMessage = proto.lookupType("asynq.TaskMessage");
const queue = "default";
const taskId = randomUUID();
const msg = TaskMessage.encode(
  TaskMessage.create({
    type: `completion:${taskType}`,
    payload: Buffer.from(JSON.stringify({ id, task_type: taskType, input })),
    id: taskId,
    queue,
    timeout: 1800,
  }),
).finish();

const redis = createClient({ url });
await redis.connect();
await redis.sAdd("asynq:queues", queue);
await redis.eval(
  `if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], 'msg', ARGV[1], 'state', 'pending', 'pending_since', ARGV[3])
redis.call('LPUSH', KEYS[2], ARGV[2])
return 1`,
  {
    keys: [`asynq:{${queue}}:t:${taskId}`, `asynq:{${queue}}:pending`],
    arguments: [Buffer.from(msg), taskId, `${BigInt(Date.now()) * 1_000_000n}`],
  },
);
console.log(id ?? `asynq-${queue}-${taskId}`);
await redis.quit();
