#!/usr/bin/env python3
"""Forebay from Python, with redis-py alone (pip install redis, or Debian's python3-redis).

    client.py redis://127.0.0.1:6379/0 "a text" "another text" ...
"""
import json
import sys
import time
import uuid

import redis


def enqueue(r, job):
    """Puts one job into the inbox and returns its id."""
    return enqueue_many(r, [job])[0]


def enqueue_many(r, jobs):
    """Puts jobs into the inbox, in one round trip, and returns their ids. Sent twice under one id, a job is done once."""
    jobs = [{"id": str(uuid.uuid4()), **job} for job in jobs]
    with r.pipeline(transaction=False) as pipe:
        for job in jobs:
            pipe.xadd("forebay:inbox", {"job": json.dumps(job, ensure_ascii=False)})
        pipe.execute()
    return [job["id"] for job in jobs]


def read(r, job_id):
    """The result of a job that has ended, or None. A job that was refused has ended as failed."""
    status, result = r.hmget("forebay:{job:%s}" % job_id, "status", "result")
    if status in ("succeeded", "failed", "cancelled", "expired"):
        return json.loads(result)
    return None


def wait(r, job_ids, timeout=None):
    """Yields the results of jobs as they end. Subscribe, read, wait, and read again every 30 s: a message may be lost."""
    open_ids = list(job_ids)
    end = time.monotonic() + timeout if timeout else float("inf")
    with r.pubsub(ignore_subscribe_messages=False) as done:
        channels = {"forebay:{job:%s}:done" % job_id: job_id for job_id in open_ids}
        done.subscribe(*channels)
        reread = 0.0
        while open_ids and time.monotonic() < end:
            message = done.get_message(timeout=max(0, min(reread, end) - time.monotonic()))
            if message:  # ended, or subscribed: what ended before is read then
                look = [channels[message["channel"]]]
            elif time.monotonic() >= reread:
                look, reread = list(open_ids), time.monotonic() + 30
            else:
                continue
            for job_id in look:
                result = read(r, job_id) if job_id in open_ids else None
                if result:
                    open_ids.remove(job_id)
                    yield result
    if open_ids:
        raise TimeoutError("%d jobs have not ended" % len(open_ids))


if __name__ == "__main__":
    server = redis.Redis.from_url(sys.argv[1], decode_responses=True)
    one = enqueue(server, {"task_type": "fast_summary", "input": sys.argv[2]})
    many = enqueue_many(server, [{"task_type": "fast_summary", "input": text} for text in sys.argv[3:]])
    refused = enqueue(server, {"task_type": "no_such_task_type", "input": "x"})
    for result in wait(server, [one, *many, refused], timeout=60):
        print(result["id"], result["status"], result.get("text") or result["error"]["message"])
