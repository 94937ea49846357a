#!/usr/bin/env python3
"""Enqueues a job of Forebay as a task of asynq, with redis-py alone. docs/wire.md says what is written.

    asynq_enqueue.py redis://127.0.0.1:6379/0 fast_summary "a text" [id]

The inbox (client.py) is the simpler way; this one needs no producer to run.
"""
import json
import sys
import time
import uuid

import redis

ENQUEUE = """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], 'msg', ARGV[1], 'state', 'pending', 'pending_since', ARGV[3])
redis.call('LPUSH', KEYS[2], ARGV[2])
return 1
"""


def varint(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def text(field, value):
    return varint(field << 3 | 2) + varint(len(value)) + value


def message(task_type, payload, task_id, queue, timeout=1800):
    """asynq.proto's TaskMessage."""
    return (text(1, task_type.encode()) + text(2, payload) + text(3, task_id.encode()) + text(4, queue.encode())
            + varint(8 << 3) + varint(timeout))


def enqueue(r, job, queue="default"):
    task_id = str(uuid.uuid4())
    task_type = "completion:" + job.get("task_type", "adhoc")
    msg = message(task_type, json.dumps(job, ensure_ascii=False).encode(), task_id, queue)
    r.sadd("asynq:queues", queue)
    r.eval(ENQUEUE, 2, "asynq:{%s}:t:%s" % (queue, task_id), "asynq:{%s}:pending" % queue, msg, task_id, time.time_ns())
    # A job without an id has one of its task's.
    return job.get("id", "asynq-%s-%s" % (queue, task_id))


if __name__ == "__main__":
    url, task_type, content, *rest = sys.argv[1:]
    wanted = {"task_type": task_type, "input": content}
    if rest:
        wanted["id"] = rest[0]
    print(enqueue(redis.Redis.from_url(url), wanted))
