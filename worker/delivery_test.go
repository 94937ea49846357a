package worker_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/gate"
	"github.com/forebay-queue/forebay/tasks/jobstore"
	"github.com/forebay-queue/forebay/worker"
)

func TestTheDeadlineEndsACallAndTheJob(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.outage("a-1", "hang")
		deadline := time.Now().Add(4 * time.Second)
		id := b.job(func(j *tasks.Job) { j.Deadline = &deadline })
		require.NoError(t, b.deliver(id))
		result := b.result(id)
		assert.Equal(t, tasks.StatusExpired, result.Status)
		assert.Equal(t, "deadline_passed", result.Error.Code)
		require.Len(t, result.Attempts, 1)
		assert.True(t, result.Attempts[0].MaybeBilled)
		assert.Equal(t, tasks.ClassExpired, result.Attempts[0].Class)
		assert.WithinDuration(t, deadline, *result.FinishedAt, 100*time.Millisecond)
		assert.Zero(t, b.breaker("a-1").ConsecutiveFailures, "the endpoint is not to blame")
	})
}

func TestAWaitIsNeverLongerThanTheDeadline(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		for _, endpoint := range []string{"a-1", "a-2", "b-1"} {
			b.outage(endpoint, "401") // open for ten minutes
		}
		deadline := time.Now().Add(30 * time.Second)
		id := b.job(func(j *tasks.Job) { j.Deadline = &deadline })
		result, _ := b.finish(id)
		assert.Equal(t, tasks.StatusExpired, result.Status)
		assert.WithinDuration(t, deadline, *result.FinishedAt, time.Second)
	})
}

// A provider may quote the request in its error. Its words are for the job's user alone.
func TestAProvidersWordsReachNoLog(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.outage("a-1", "400")
		var log strings.Builder
		b.log = zerolog.New(&log)
		id := b.job()
		err := b.deliverTo(b.newWorker(), id)
		result := b.result(id)
		require.Contains(t, result.Error.Detail, "temperature", "what the simulator says")
		assert.NotContains(t, result.Error.Message, "temperature")
		assert.NotContains(t, log.String(), "temperature")
		assert.NotContains(t, err.Error(), "temperature", "asynq's consoles show it")
		assert.Contains(t, log.String(), "decimal_above_max_value")
	})
}

func TestAnOutageOfRedisCostsNoRetry(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		for _, endpoint := range []string{"a-1", "a-2", "b-1"} {
			b.outage(endpoint, "429") // waited out in place, for two seconds
		}
		none := 0
		id := b.job(func(j *tasks.Job) { j.MaxRetries = &none })
		done := make(chan error, 1)
		go func() { done <- b.deliver(id) }()
		time.Sleep(time.Second)
		b.server.SetError("LOADING Redis is loading the dataset in memory")
		time.Sleep(5 * time.Second)
		b.server.SetError("")
		require.Error(t, <-done)
		result := b.result(id)
		assert.Equal(t, tasks.StatusQueued, result.Status)
		assert.Equal(t, "redis_away", result.Waiting.Reason)

		for _, endpoint := range []string{"a-1", "a-2", "b-1"} {
			b.sim.Region(endpoint).ClearOutage()
		}
		result, _ = b.finish(id)
		assert.Equal(t, tasks.StatusSucceeded, result.Status)
	})
}

func TestADeadlineThatHasPassedBeforeTheDelivery(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		deadline := time.Now().Add(time.Second)
		id := b.job(func(j *tasks.Job) { j.Deadline = &deadline })
		time.Sleep(2 * time.Second)
		require.NoError(t, b.deliver(id))
		assert.Equal(t, tasks.StatusExpired, b.result(id).Status)
		assert.Zero(t, b.sim.Counters().Total.Asked)
	})
}

func TestACancelEndsARunningCall(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.outage("a-1", "hang")
		require.NoError(t, b.worker.Start(t.Context()))
		id := b.job()
		done := make(chan error, 1)
		go func() { done <- b.deliver(id) }()
		time.Sleep(time.Second)
		reply, err := b.store.Cancel(t.Context(), id, "")
		require.NoError(t, err)
		assert.True(t, reply.Asked)
		require.NoError(t, <-done)
		result := b.result(id)
		assert.Equal(t, tasks.StatusCancelled, result.Status)
		assert.Equal(t, tasks.ClassCancelled, result.Attempts[0].Class)
		assert.True(t, result.Attempts[0].MaybeBilled)
	})
}

func TestACancelThatNobodyHeardEndsTheJobAtItsNextStep(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) { // the worker is not started: it does not listen
		b.outage("a-1", "500")
		id := b.job()
		done := make(chan error, 1)
		go func() { done <- b.deliver(id) }()
		time.Sleep(50 * time.Millisecond) // in the first call, which fails after 100ms
		_, err := b.store.Cancel(t.Context(), id, "")
		require.NoError(t, err)
		require.NoError(t, <-done)
		result := b.result(id)
		assert.Equal(t, tasks.StatusCancelled, result.Status)
		assert.Equal(t, "a-1", asked(result))
	})
}

func TestAConsolesCancelGivesTheDeliveryBack(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.outage("a-1", "hang")
		require.NoError(t, b.worker.Start(t.Context()))
		id := b.job()
		done := make(chan error, 1)
		go func() { done <- b.deliver(id) }()
		time.Sleep(time.Second)
		require.NoError(t, b.redis.Publish(t.Context(), "asynq:cancel", id).Err())
		require.Error(t, <-done)
		result := b.result(id)
		assert.Equal(t, tasks.StatusQueued, result.Status)
		assert.Equal(t, tasks.ClassAbandoned, result.Attempts[0].Class)
		assert.Zero(t, result.Retries)
	})
}

func TestTheFirstSignalFinishesTheCallAndNotTheWalk(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.outage("a-1", "500")
		w := b.newWorker()
		good, bad := b.job(func(j *tasks.Job) { j.Model = tasks.Models{"small"} }), b.job()
		goodDone, badDone := make(chan error, 1), make(chan error, 1)
		go func() { badDone <- b.deliverTo(w, bad) }()
		time.Sleep(50 * time.Millisecond)
		b.sim.Region("a-1").ClearOutage() // strikes calls when they arrive
		go func() { goodDone <- b.deliverTo(w, good) }()
		time.Sleep(10 * time.Millisecond)
		require.NoError(t, w.Shutdown(t.Context()))

		require.NoError(t, <-goodDone)
		assert.Equal(t, tasks.StatusSucceeded, b.result(good).Status)
		require.Error(t, <-badDone)
		result := b.result(bad)
		assert.Equal(t, tasks.StatusQueued, result.Status)
		assert.Equal(t, "a-1", asked(result))
		assert.Zero(t, result.Retries, "giving back is free")
	})
}

func TestTheSecondSignalGivesTheCallBack(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.outage("a-1", "hang")
		w := b.newWorker()
		id := b.job()
		done := make(chan error, 1)
		go func() { done <- b.deliverTo(w, id) }()
		time.Sleep(time.Second)
		w.Abort()
		require.Error(t, <-done)
		result := b.result(id)
		assert.Equal(t, tasks.StatusQueued, result.Status)
		assert.Equal(t, tasks.ClassAbandoned, result.Attempts[0].Class)
		assert.True(t, result.Attempts[0].MaybeBilled)
		assert.Zero(t, b.breaker("a-1").Failures)
	})
}

func TestAnOpenAttemptIsALease(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.outage("a-1", "hang") // for 10s, the endpoint's timeout
		require.NoError(t, b.worker.Start(t.Context()))
		other := b.newWorker()
		id := b.job()
		first := make(chan error, 1)
		go func() { first <- b.deliver(id) }()
		time.Sleep(time.Second)

		require.Error(t, b.deliverTo(other, id), "asynq delivered again although the first worker lives")
		assert.Equal(t, "attempt_open", b.result(id).Waiting.Reason)
		assert.Equal(t, int64(1), b.sim.Counters().Total.Asked, "the second delivery makes no call")

		b.sim.Region("a-1").ClearOutage()
		<-first
		result, _ := b.finish(id)
		assert.Equal(t, tasks.StatusSucceeded, result.Status)
	})
}

func TestTheAttemptOfADeadWorkerIsMaybeBilled(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		id, begun := b.job(), time.Now()
		record, err := b.store.Start(t.Context(), id, jobstore.Delivery{ID: "d-1", Worker: "dead"})
		require.NoError(t, err)
		route := gate.Route{Account: "a", Endpoint: "a-1", Model: "small"}
		permit, err := b.gate.Admit(t.Context(), route, gate.Ask{Token: "d-1.2", Lease: time.Minute})
		require.NoError(t, err)
		require.True(t, permit.Granted)
		_, err = b.store.Begin(t.Context(), id, record.Run, tasks.Attempt{
			Delivery: "d-1", Ask: 2, Worker: "dead", Model: "small", Endpoint: "a-1", Account: "a",
			StartedAt: time.Now(), CallDeadline: time.Now().Add(time.Minute),
		})
		require.NoError(t, err)

		require.NoError(t, b.deliver(id))
		result := b.result(id)
		assert.Equal(t, tasks.StatusSucceeded, result.Status)
		require.Len(t, result.Attempts, 2)
		assert.True(t, result.Attempts[0].MaybeBilled)
		assert.Equal(t, jobstore.CodeWorkerGone, result.Attempts[0].Code)
		assert.Less(t, time.Since(begun), time.Second, "the dead worker's permit does not stand in the way")
	}, oneEndpoint(catalog.Limits{Concurrency: 1}))
}

func TestAJobThatKillsItsWorkersEnds(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		id := b.job()
		for i := range 6 {
			_, err := b.store.Start(t.Context(), id, jobstore.Delivery{ID: string(rune('a' + i)), Worker: "dead"})
			require.NoError(t, err)
		}
		require.ErrorIs(t, b.deliver(id), asynq.SkipRetry)
		result := b.result(id)
		assert.Equal(t, tasks.StatusFailed, result.Status)
		assert.Equal(t, "workers_died", result.Error.Code)
		assert.Zero(t, b.sim.Counters().Total.Asked)
	})
}

func TestAPanicIsContained(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		id := b.job()
		b.catalog.Endpoints["a-1"].Name = "nobody" // a fault of ours that no validation lets happen
		err := b.deliver(id)
		require.Error(t, err)
		require.NotErrorIs(t, err, asynq.SkipRetry)
		result := b.result(id)
		assert.Equal(t, tasks.StatusRetrying, result.Status)
		assert.Equal(t, "panic", result.Error.Code)
		assert.Equal(t, 1, result.Retries)
	})
}

func TestATaskWithoutARecordIsTakenOut(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		require.ErrorIs(t, b.worker.ProcessTask(t.Context(), asynq.NewTask("completion:summary", []byte("nobody"))), asynq.SkipRetry)
		require.ErrorIs(t, b.worker.ProcessTask(t.Context(), asynq.NewTask("email:send", []byte("{}"))), asynq.SkipRetry)
	})
}

func TestFiveFailuresInAllOpenABreaker(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.outage("a-1", "500")
		workers := []*worker.Worker{b.worker, b.newWorker()}
		for call := range 4 {
			_ = b.deliverTo(workers[call%2], b.job())
		}
		assert.Equal(t, gate.StateClosed, b.breaker("a-1").State, "four failures, two of each worker")
		_ = b.deliverTo(workers[0], b.job())
		assert.Equal(t, gate.StateOpen, b.breaker("a-1").State)
		asked := b.sim.Counters().Regions["a-1"].Asked
		for range 10 {
			require.NoError(t, b.deliverTo(workers[1], b.job()))
		}
		assert.Equal(t, asked, b.sim.Counters().Regions["a-1"].Asked, "an open breaker keeps everybody away")
	}, func(c *catalog.Catalog) { c.Endpoints["a-1"].Tries = 1 })
}

func TestOneProbeInTheWholeFleet(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.outage("a-1", "500")
		for range 5 {
			require.NoError(t, b.deliver(b.job()))
		}
		require.Equal(t, gate.StateOpen, b.breaker("a-1").State)
		b.sim.Region("a-1").ClearOutage()
		before := b.sim.Counters().Regions["a-1"].Asked
		time.Sleep(time.Minute + time.Second) // a job of default priority leaves the probe to bulk for a second

		other := b.newWorker()
		var fleet sync.WaitGroup
		for i := range 20 {
			id, w := b.job(), []*worker.Worker{b.worker, other}[i%2]
			fleet.Go(func() { assert.NoError(t, b.deliverTo(w, id)) })
		}
		fleet.Wait()
		assert.Equal(t, before+1, b.sim.Counters().Regions["a-1"].Asked)
		assert.Equal(t, gate.StateClosed, b.breaker("a-1").State)
		assert.Equal(t, int64(1), b.breaker("a-1").Recoveries)
	}, func(c *catalog.Catalog) { c.Endpoints["a-1"].Tries = 1 })
}

func TestRunStopsWithItsContext(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		w, err := worker.New(worker.Config{Redis: b.redis, Catalog: b.catalog, Dial: b.dial})
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		require.NoError(t, w.Run(ctx))
		alive, err := b.store.WorkerAlive(t.Context(), w.ID())
		require.NoError(t, err)
		assert.False(t, alive)
	})
}
