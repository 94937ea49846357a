package command

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/gate"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/pauses"
)

func examinePauses(ctx context.Context, client redis.UniversalClient, s *settings) ([]finding, error) {
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
	for _, shard := range paused.Shards {
		queue, _, _ := strings.Cut(shard, ":")
		if slices.Contains(paused.Queues, queue) {
			continue
		}
		findings = append(findings, finding{
			Code: codeQueuePaused, Level: levelWarning, Subject: shard,
			Message: "this shard of the queue is paused, alone, as a console of asynq does it: its jobs wait",
			Hint:    "`forebay queue resume " + queue + "` when they may go on",
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

func examineBreakers(ctx context.Context, client redis.UniversalClient, s *settings) ([]finding, error) {
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
		why, hint := whyOpen(e)
		findings = append(findings, finding{
			Code: codeBreakerOpen, Level: levelWarning, Subject: e.label(),
			Message: "its breaker is " + e.breaker(time.Now()) + ": " + why, Hint: hint,
		})
	}
	return findings, nil
}

// whyOpen says why a breaker is not closed, and what to do.
func whyOpen(e endpointStatus) (why, hint string) {
	closing := "; then `forebay breaker close " + e.Endpoint + "`, or wait for its probe"
	if e.Forced {
		return "somebody opened it by hand", "`forebay breaker close " + e.Endpoint + "` when it may be called"
	}
	switch tasks.Class(e.Cause) { //nolint:exhaustive // the classes that open a breaker at once; all others are counted
	case tasks.ClassAuth:
		return "the key of account " + e.Account + " was refused", "put a key that is valid into the account's key_file, or where its key_env says and start the workers anew" + closing
	case tasks.ClassQuota:
		return "the account " + e.Account + " has no money or quota left", "pay in at the provider, or raise its quota" + closing
	case tasks.ClassMisconfigured:
		return "what answers there is no such API: a redirect, a page, or a path that does not exist", "set the endpoint's url and proxy right in the configuration, which workers take up by themselves" + closing
	case "slow":
		return "too many of its calls were slower than breaker.slow_call", "look at the provider's latency; it closes by itself when a probe is answered fast"
	}
	if e.ConsecutiveFailures == 0 {
		return "too many of its calls failed", "it closes by itself when a probe is answered; see what the provider says"
	}
	return plural(int(e.ConsecutiveFailures), "failure") + " in a row", "it closes by itself when a probe is answered; see what the provider says, or `forebay breaker close " + e.Endpoint + "`"
}

func examineDead(ctx context.Context, client redis.UniversalClient, s *settings) ([]finding, error) {
	dead, err := readDead(ctx, client, s.prefix)
	if err != nil {
		return nil, err
	}
	var findings []finding
	if dead.Jobs.Count > 0 {
		lately, err := diedLately(ctx, client, keyspace.New(s.prefix))
		if err != nil {
			return nil, err
		}
		findings = append(findings, finding{
			Code: codeDeadJobs, Level: levelWarning, Subject: "jobs",
			Message: fmt.Sprintf("%s failed for good and were not opened again, %d of them within the last hour", plural(dead.Jobs.Count, "job"), lately),
			Hint:    "`forebay jobs list --status failed` says why; `forebay jobs retry` or `discard` decides",
		})
	}
	if dead.Webhooks.Count > 0 {
		findings = append(findings, finding{
			Code: codeDeadWebhooks, Level: levelWarning, Subject: "webhooks", Message: plural(dead.Webhooks.Count, "webhook") + " were given up",
			Hint: "`forebay webhooks list --state dead` says why; `forebay webhooks redeliver` or `discard` decides",
		})
	}
	return findings, nil
}

// diedLately counts the dead jobs that failed within lately.
func diedLately(ctx context.Context, client redis.UniversalClient, keys keyspace.Keyspace) (int64, error) {
	since := strconv.FormatInt(time.Now().Add(-lately).UnixMilli(), 10)
	counts := make([]*redis.IntCmd, keyspace.IndexShards)
	_, err := client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for shard := range counts {
			counts[shard] = pipe.ZCount(ctx, keys.Index(shard, "dead"), since, "+inf")
		}
		return nil
	})
	var sum int64
	for _, count := range counts {
		sum += count.Val()
	}
	return sum, err
}

// examineBudget looks for scopes of today's budget that are spent.
func examineBudget(ctx context.Context, client redis.UniversalClient, s *settings) ([]finding, error) {
	if s.file == nil {
		return nil, nil
	}
	scopes, err := readScopes(ctx, gate.NewBudget(client, keyspace.New(s.prefix), s.file.Catalog.Budget))
	if err != nil {
		return nil, err
	}
	var findings []finding
	for _, scope := range scopes {
		if scope.LeftUSD == nil {
			continue
		}
		if *scope.LeftUSD > 0 {
			if found := tooLittleLeft(&s.file.Catalog, scope); found != nil {
				findings = append(findings, *found)
			}
			continue
		}
		findings = append(findings, finding{
			Code: codeBudgetExhausted, Level: levelWarning, Subject: fmt.Sprintf("budget %s", scope.Scope),
			Message: fmt.Sprintf("%s of %s are spent or held on %s: by budget.on_exhausted its jobs wait for the next day, go to cheaper models, or fail",
				dollars(scope.SpentUSD+scope.HeldUSD), dollars(*scope.LimitUSD), scope.Day),
			Hint: "`forebay cost` says on what; raise the limit in the configuration, or let it be until " + scope.NextDay.Format(time.RFC3339),
		})
	}
	return findings, nil
}

// tooLittleLeft finds a scope whose rest holds no call of any of its task types, each with the shortest of prompts and its
// own bound: nothing is spent any more, and it is not spent.
func tooLittleLeft(c *catalog.Catalog, scope scopeStatus) *finding {
	least, of := math.Inf(1), ""
	for name := range c.TaskTypes {
		if wanted, one := strings.CutPrefix(string(scope.Scope), string(gate.ScopeTaskType(""))); one && wanted != name {
			continue
		}
		prepared, err := c.Prepare(tasks.Job{TaskType: name, Input: "a"}, time.Now())
		if err != nil {
			continue // it takes requests only
		}
		for _, model := range c.ModelsFor(prepared.Job) {
			if worst := c.Cost(model, c.Estimate(model, prepared.Job, prepared.PromptTokens).Usage()); worst < least {
				least, of = worst, name
			}
		}
	}
	if math.IsInf(least, 1) || least <= *scope.LeftUSD {
		return nil
	}
	return &finding{
		Code: codeBudgetExhausted, Level: levelWarning, Subject: fmt.Sprintf("budget %s", scope.Scope),
		Message: fmt.Sprintf("%s of %s are left on %s, and the cheapest call, of %s, may cost %s at worst: none is begun",
			dollars(*scope.LeftUSD), dollars(*scope.LimitUSD), scope.Day, of, dollars(least)),
		Hint: "raise the limit in the configuration, lower the task types' max_tokens, or let it be until " + scope.NextDay.Format(time.RFC3339),
	}
}
