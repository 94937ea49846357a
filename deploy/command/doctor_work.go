package command

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks/gate"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/pauses"
)

func examineWorkers(ctx context.Context, client *redis.Client, s *settings) ([]finding, error) {
	workers, err := liveWorkers(ctx, client, keyspace.New(s.prefix))
	if err != nil {
		return nil, err
	}
	if len(workers) == 0 {
		return []finding{{
			Code: codeNoWorkers, Level: levelWarning, Subject: "workers", Message: "no worker is alive: jobs are accepted and not done",
			Hint: "start one with `forebay worker`",
		}}, nil
	}
	return []finding{{Code: codeWorkers, Level: levelOK, Subject: "workers", Message: fmt.Sprintf("%d alive", len(workers))}}, nil
}

func examinePauses(ctx context.Context, client *redis.Client, s *settings) ([]finding, error) {
	paused, err := pauses.New(client, keyspace.New(s.prefix)).Read(ctx)
	if err != nil {
		return nil, err
	}
	var findings []finding
	for _, queue := range paused.Queues {
		findings = append(findings, finding{
			Code: codeQueuePaused, Level: levelWarning, Subject: queue, Message: "the queue is paused: its jobs wait",
			Hint: "`forebay queue resume " + queue + "` when they may go on",
		})
	}
	for _, taskType := range paused.TaskTypes {
		findings = append(findings, finding{
			Code: codeTaskTypePaused, Level: levelWarning, Subject: taskType, Message: "the task type is paused: its jobs wait",
			Hint: "`forebay queue resume --task-type " + taskType + "` when they may go on",
		})
	}
	return findings, nil
}

func examineBreakers(ctx context.Context, client *redis.Client, s *settings) ([]finding, error) {
	if s.file == nil {
		return nil, nil
	}
	endpoints, err := readEndpoints(ctx, client, keyspace.New(s.prefix), &s.file.Catalog)
	if err != nil {
		return nil, err
	}
	var findings []finding
	for _, e := range endpoints {
		if e.State == gate.StateClosed {
			continue
		}
		hint := "it closes by itself when a probe is answered; see what the provider says, or `forebay breaker close " + e.Endpoint + "`"
		if e.Forced {
			hint = "somebody opened it; `forebay breaker close " + e.Endpoint + "` when it may be called"
		}
		findings = append(findings, finding{
			Code: codeBreakerOpen, Level: levelWarning, Subject: e.label(),
			Message: fmt.Sprintf("its breaker is %s, after %d failures in a row", e.breaker(time.Now()), e.ConsecutiveFailures), Hint: hint,
		})
	}
	return findings, nil
}

func examineDead(ctx context.Context, client *redis.Client, s *settings) ([]finding, error) {
	keys, pipe := keyspace.New(s.prefix), client.Pipeline()
	counts := make([]*redis.IntCmd, keyspace.IndexShards)
	for shard := range counts {
		counts[shard] = pipe.ZCard(ctx, keys.Index(shard, "dead"))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, fmt.Errorf("count the dead jobs in Redis: %w", err)
	}
	var dead int64
	for _, count := range counts {
		dead += count.Val()
	}
	if dead == 0 {
		return nil, nil
	}
	return []finding{{
		Code: codeDeadJobs, Level: levelWarning, Subject: "jobs", Message: plural(int(dead), "job") + " failed for good and were not opened again",
		Hint: "`forebay get ID` says why; the workers' logs have the ids",
	}}, nil
}
