// Package asynqredis is the Redis client behind Forebay's asynq servers. asynq is used as it is; what it does badly
// for this work is mended between it and Redis, where it cannot tell the difference:
//
//   - An idle queue is not polled. A blocking peek, which moves nothing, waits for the next task.
//   - Tasks are claimed many at a time, as many as there are free slots, and handed to asynq one by one.
//   - Slots come from one pool for all queues of the process (package slots), so that asynq's own concurrency
//     per server may be the whole pool's.
//   - Claims take in turn from what is pending and from lanes, which are asynq's groups, so that the batch of one tenant
//     has no other wait behind it.
//   - A finished task is acknowledged even when asynq's context has been cancelled, and once: a repeat whose first
//     try may have worked touches the task only if nobody else has had it since.
//   - Concurrent acknowledgements travel in one pipeline, and those of tasks that are done in one script.
//
// One Client serves one queue and one asynq.Server:
//
//	client, err := asynqredis.New(asynqredis.Config{Client: rdb, Queue: "bulk", Lane: pool.Queue("bulk", 1)})
//	server := asynq.NewServerFromRedisClient(client, asynqredis.ServerConfig("bulk", slotCount))
//	err = server.Start(client.Handler(handler))
//	...
//	client.Stop()     // take nothing new, give back what was claimed
//	server.Shutdown() // wait for what runs
//	err = client.Close()
//
// asynq's scripts are recognised by their SHA1, in scripts.go only, pinned for v0.26.0; a test fails when they change.
package asynqredis
