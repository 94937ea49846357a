package worker_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/gate"
	"github.com/forebay-queue/forebay/tasks/jobstore"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/worker"
)

// worstCall is a little more than a call of the model small costs at worst: 1,024 tokens of answer at a dollar per
// million, and a short prompt at a tenth of that.
const worstCall = 0.00105

// daily sets the budget of the day.
func daily(usd float64, change ...func(*catalog.Catalog)) func(*catalog.Catalog) {
	return func(c *catalog.Catalog) {
		c.Budget.DailyUSD = catalog.DailyLimit(usd)
		for _, apply := range change {
			apply(c)
		}
	}
}

// onExhausted sets what becomes of jobs, and adds the model tiny, at a tenth of the price, in a cheaper tier.
func onExhausted(policy catalog.OnExhausted) func(*catalog.Catalog) {
	return func(c *catalog.Catalog) {
		c.Budget.OnExhausted = policy
		c.Models["tiny"] = &catalog.Model{Output: new(0.1), ContextWindow: 1000}
		c.Tiers = append([]catalog.Tier{{Name: "ultra", Models: []string{"tiny"}}}, c.Tiers...)
	}
}

func (b *bench) budget() *gate.Budget {
	return gate.NewBudget(b.redis, keyspace.New(""), b.catalog.Budget)
}

// scopes are what is held and spent today, in US dollars.
func (b *bench) today() (spent, held float64) {
	b.t.Helper()
	budget := b.budget()
	states, err := budget.Scopes(b.t.Context(), budget.Today().Name)
	require.NoError(b.t, err)
	return gate.USD(states[0].Spent), gate.USD(states[0].Held)
}

func TestWhatAJobCostsIsInTheBudget(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.outage("a-1", "500")
		id := b.job()
		require.NoError(t, b.deliver(id))
		result := b.result(id)
		spent, held := b.today()
		assert.InDelta(t, result.CostUSD, spent, 1e-9)
		assert.Zero(t, held)
		costs, err := b.budget().Costs(t.Context(), []string{"2000-01-01"})
		require.NoError(t, err)
		require.Len(t, costs, 2)
		assert.Equal(t, "a-1", costs[0].Endpoint)
		assert.EqualValues(t, 3, costs[0].Calls)
		assert.Zero(t, costs[0].Nanos, "an error of the server costs nothing")
		usage := *result.Usage
		usage.Estimated = false
		assert.Equal(t, gate.Cost{
			Day: "2000-01-01", TaskType: "summary", Model: "small", Endpoint: "a-2", Tenant: "default", Calls: 1,
			Nanos: gate.Nanos(result.CostUSD), Usage: usage,
		}, costs[1])
		assert.Equal(t, 4, result.Attempts[3].Hold, "each call has its hold")
	})
}

// With defer the rest of the work goes on after midnight where the budget lives.
func TestAnExhaustedBudgetDefersToTheNextDay(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		_, deliveries := b.finish(b.job())
		require.Equal(t, 1, deliveries)

		late := b.job()
		require.Error(t, b.deliver(late))
		result := b.result(late)
		assert.Equal(t, tasks.StatusQueued, result.Status)
		assert.Equal(t, "budget", result.Waiting.Reason)
		assert.Equal(t, "all jobs", result.Waiting.Limit)
		assert.Empty(t, result.Attempts)
		midnight := time.Date(2000, 1, 1, 16, 0, 0, 0, time.UTC) // in Shanghai
		assert.WithinRange(t, result.Waiting.Until, midnight, midnight.Add(3*time.Minute))
		_, held := b.today()
		assert.Zero(t, held)

		result, _ = b.finish(late)
		assert.Equal(t, tasks.StatusSucceeded, result.Status)
		assert.Zero(t, result.Retries, "waiting is free")
		assert.True(t, result.Attempts[0].StartedAt.After(midnight))

		hurried := b.job(func(j *tasks.Job) { j.Deadline = new(time.Now().Add(time.Hour)) })
		result, _ = b.finish(hurried)
		assert.Equal(t, tasks.StatusExpired, result.Status)
	}, daily(1.02*worstCall, func(c *catalog.Catalog) { c.Budget.TimeZone = "Asia/Shanghai" }))
}

// Sixteen workers race for the last of the day's money. What they spend never passes it, those that only other holds
// keep from going on do not wait for the next day, and then all is done.
func TestSixteenWorkersNeverPassTheBudget(t *testing.T) {
	const limit = 3 * worstCall
	inBubble(t, func(t *testing.T, b *bench) {
		workers := make([]*worker.Worker, 16)
		for i := range workers {
			workers[i] = b.newWorker()
		}
		var ids []string
		for range 96 {
			ids = append(ids, b.job())
		}
		begun, days := time.Now(), map[string]int{}
		var mutex sync.Mutex
		var racing sync.WaitGroup
		for i, id := range ids {
			racing.Go(func() {
				for b.deliverTo(workers[i%16], id) != nil {
					time.Sleep(time.Until(b.result(id).Waiting.Until))
				}
				mutex.Lock()
				defer mutex.Unlock()
				days[b.result(id).FinishedAt.Format(time.DateOnly)]++
			})
		}
		for ; time.Since(begun) < 2*time.Hour; time.Sleep(100 * time.Millisecond) {
			if spent, held := b.today(); spent+held > limit+1e-9 {
				require.Failf(t, "passed the budget", "%f spent, %f held", spent, held)
			} else if time.Since(begun) > 20*time.Second {
				time.Sleep(10 * time.Minute)
			}
		}
		spent, _ := b.today()
		assert.Greater(t, spent, limit-worstCall, "used until not one more call is sure to fit")
		assert.LessOrEqual(t, spent, limit)
		racing.Wait()
		t.Logf("%v, $%f of $%f spent on the first", days, spent, limit)
		assert.Greater(t, len(days), 1, "%v", days)
		assert.Greater(t, days["2000-01-01"], 20, "%v", days)
	}, daily(limit))
}

func TestHoldsOfCallsThatAreOutMakeAJobWaitForSeconds(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		first, second := b.job(), b.job()
		var racing sync.WaitGroup
		racing.Go(func() { assert.NoError(t, b.deliver(first)) })
		time.Sleep(50 * time.Millisecond)
		require.Error(t, b.deliver(second))
		waiting := b.result(second).Waiting
		assert.Equal(t, "budget", waiting.Reason)
		assert.Less(t, waiting.Until.Sub(waiting.Since), 11*time.Second)
		racing.Wait()
		result, _ := b.finish(second)
		assert.Equal(t, tasks.StatusSucceeded, result.Status)
	}, daily(1.5*worstCall))
}

func TestAnExhaustedBudgetDegradesToACheaperModel(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		result, _ := b.finish(b.job())
		require.Equal(t, "small", result.Model)
		result, _ = b.finish(b.job())
		assert.Equal(t, "tiny", result.Model, "the dearer ones are not asked")
		assert.Equal(t, "ultra", result.Tier)
		assert.Equal(t, "a-1", asked(result))
		assert.Less(t, time.Since(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)), time.Minute)

		named := b.job(func(j *tasks.Job) { j.Model = tasks.Models{"small"} })
		require.Error(t, b.deliver(named))
		assert.Equal(t, "budget", b.result(named).Waiting.Reason, "who names models gets no other")
	}, daily(1.02*worstCall, onExhausted(catalog.Degrade)))
}

func TestAnExhaustedBudgetMayFailJobs(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.finish(b.job())
		id := b.job()
		require.ErrorIs(t, b.deliver(id), asynq.SkipRetry)
		result := b.result(id)
		assert.Equal(t, tasks.StatusFailed, result.Status)
		assert.Equal(t, "budget_exhausted", result.Error.Code)
		assert.Contains(t, result.Error.Hint, "set on_exhausted to defer")
		assert.Contains(t, result.Error.Hint, "after 2000-01-02 00:00 UTC")
		assert.Contains(t, result.Error.Message, "of the daily budget of tenant default, $0.001071, $0.0000")
	}, func(c *catalog.Catalog) {
		c.Budget.Tenants = map[string]float64{"default": 1.02 * worstCall}
		c.TaskTypes["summary"].OnBudgetExhausted = catalog.Fail
	})
}

func TestACallThatNoDayHasRoomForFailsAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		id := b.job()
		require.ErrorIs(t, b.deliver(id), asynq.SkipRetry)
		result := b.result(id)
		assert.Equal(t, tasks.ClassInvalid, result.Error.Class)
		assert.Equal(t, "over_budget", result.Error.Code)
		assert.Regexp(t, `^a call of \w+ may cost \$0\.0010\d+ \(\d+ tokens of prompt, at most 1024 of answer\), more than the whole daily budget of task type summary, \$0\.001$`, result.Error.Message)
		assert.Empty(t, result.Attempts)

		result, _ = b.finish(b.job(func(j *tasks.Job) { j.Model = tasks.Models{"small", "tiny"} }))
		assert.Equal(t, "tiny", result.Model, "a cheaper one that fits is used")
	}, onExhausted(catalog.Defer), func(c *catalog.Catalog) { c.Budget.TaskTypes = map[string]float64{"summary": 0.001} })
}

func TestMaxCost(t *testing.T) {
	most := func(usd float64, models ...string) func(*tasks.Job) {
		return func(j *tasks.Job) { j.MaxCostUSD, j.Model = &usd, models }
	}
	inBubble(t, func(t *testing.T, b *bench) {
		id := b.job(most(0.001, "small"))
		require.ErrorIs(t, b.deliver(id), asynq.SkipRetry)
		result := b.result(id)
		assert.Equal(t, "over_max_cost", result.Error.Code)
		assert.Contains(t, result.Error.Message, "$0.001 of the job's max_cost_usd of $0.001 are left")
		assert.Empty(t, result.Attempts)

		result, _ = b.finish(b.job(most(0.001, "small", "tiny")))
		assert.Equal(t, "tiny", result.Model)
		for _, models := range []tasks.Models{{"small", "tiny"}, {"tiny", "small"}} {
			id = b.job(most(0.000001, models...))
			require.ErrorIs(t, b.deliver(id), asynq.SkipRetry)
			assert.Contains(t, b.result(id).Error.Message, "a call of tiny may cost", "the least that is missing")
		}
		result, _ = b.finish(b.job(most(worstCall, "small")))
		assert.Equal(t, tasks.StatusSucceeded, result.Status)

		// A call of which nobody knows whether it was billed counts as the dearest that it can be.
		b.outage("a-1", "truncated-json")
		result, _ = b.finish(b.job(most(2*worstCall, "small")))
		assert.Equal(t, "a-1 a-1", asked(result))
		assert.Equal(t, "over_max_cost", result.Error.Code)
		costs, err := b.budget().Costs(t.Context(), []string{"2000-01-01"})
		require.NoError(t, err)
		assert.EqualValues(t, 2, costs[0].MaybeBilled)
		assert.InDelta(t, 2*worstCall, gate.USD(costs[0].MaybeNanos), 0.1*worstCall)
	}, onExhausted(catalog.Defer))
}

// A job that the budget stops has not taken the one probe of a sick endpoint away from the others.
func TestTheGateIsGivenBackWhatTheBudgetRefuses(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.finish(b.job())
		_, err := b.gate.Open(t.Context(), gate.Endpoint{Account: "a", Name: "a-1"}, time.Minute)
		require.NoError(t, err)
		time.Sleep(time.Minute + 2*time.Second) // and some for bulk work, which probes first
		require.Error(t, b.deliver(b.job()))
		state := b.breaker("a-1")
		assert.Equal(t, gate.StateHalfOpen, state.State)
		assert.Zero(t, state.ProbeUntil)
	}, daily(1.02*worstCall))
}

// What dead workers held comes back if it was never sent, and is spent at its worst if it may have been.
func TestLeakedHoldsAreSwept(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		require.NoError(t, b.worker.Start(t.Context()))
		require.NoError(t, b.redis.Set(t.Context(), b.store.Keys().Worker("late"), "", time.Hour).Err())
		hold := func(delivery, workerID string, begins bool, end func(*tasks.Attempt)) {
			id := b.job()
			record, err := b.store.Start(t.Context(), id, jobstore.Delivery{ID: delivery, Worker: workerID, Run: 1})
			require.NoError(t, err)
			answer, err := b.budget().Hold(gate.HoldRequest{
				Token: delivery + ".2", Job: id, Tenant: "default", TaskType: "summary", Amount: 1e9, Lease: 25 * time.Second,
			})
			require.NoError(t, err)
			require.NotNil(t, answer.Hold)
			if !begins {
				return
			}
			attempt := tasks.Attempt{
				Run: 1, Delivery: delivery, Worker: workerID, Model: "small", Endpoint: "a-1", Account: "a", Hold: 2,
				StartedAt: time.Now(), CallDeadline: time.Now().Add(10 * time.Second),
			}
			attempt.Seq, err = b.store.Begin(t.Context(), id, record.Run, attempt)
			require.NoError(t, err)
			if end != nil {
				end(&attempt)
				require.NoError(t, b.store.End(t.Context(), id, attempt))
			}
		}
		hold("unsent", "dead", false, nil)
		hold("sent", "dead", true, nil)
		hold("ended", "dead", true, func(a *tasks.Attempt) {
			a.Usage, a.CostUSD = &tasks.Usage{CompletionTokens: 9}, 0.25
		})
		hold("failed", "dead", true, func(a *tasks.Attempt) { a.Class = tasks.ClassUnavailable })
		hold("given-up", "dead", true, func(a *tasks.Attempt) { a.Class = tasks.ClassDeferred })
		hold("late", "late", true, nil)
		require.NoError(t, b.redis.Del(t.Context(), b.store.Keys().Job(b.job())).Err())
		answer, err := b.budget().Hold(gate.HoldRequest{Token: "no.1", Job: "unknown", Tenant: "default", Amount: 1e9, Lease: 25 * time.Second})
		require.NoError(t, err)
		require.NotNil(t, answer.Hold)

		spent, held := b.today()
		assert.Zero(t, spent)
		assert.InDelta(t, 7, held, 1e-9)
		time.Sleep(20 * time.Second)
		_, held = b.today()
		assert.InDelta(t, 7, held, 1e-9, "none has expired")
		time.Sleep(15 * time.Second)
		spent, held = b.today()
		assert.InDelta(t, 2.25, spent, 1e-9, "the open one and the unknown one at their worst, the ended one as it ended")
		assert.InDelta(t, 1, held, 1e-9, "the worker that lives may still report")

		costs, err := b.budget().Costs(t.Context(), []string{"2000-01-01"})
		require.NoError(t, err)
		require.Len(t, costs, 2)
		assert.EqualValues(t, 3, costs[1].Calls)
		assert.EqualValues(t, 1, costs[1].MaybeBilled)
		assert.Equal(t, "small", costs[1].Model)
		time.Sleep(11 * time.Minute)
		spent, held = b.today()
		assert.InDelta(t, 3.25, spent, 1e-9)
		assert.Zero(t, held)
	})
}

// A hold that outlives its walk would be the worst case of every deferred job.
func TestARefusedWalkHoldsNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		for _, endpoint := range []string{"a-1", "a-2", "b-1"} {
			_, err := b.gate.Open(t.Context(), gate.Endpoint{Account: endpoint[:1], Name: endpoint}, time.Hour)
			require.NoError(t, err)
		}
		id := b.job()
		require.Error(t, b.deliver(id))
		assert.Equal(t, "breaker_open", b.result(id).Waiting.Reason)
		spent, held := b.today()
		assert.Zero(t, spent)
		assert.Zero(t, held)
		holds, err := b.redis.ZCard(t.Context(), keyspace.New("").BudgetHolds()).Result()
		require.NoError(t, err)
		assert.Zero(t, holds)
	})
}

func TestTheBudgetTellsThatItIsExhausted(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.finish(b.job())
		require.Error(t, b.deliver(b.job()))
		require.Error(t, b.deliver(b.job()))
		events, err := b.redis.XRange(t.Context(), keyspace.New("").Events(), "-", "+").Result()
		require.NoError(t, err)
		var types []string
		for _, event := range events {
			types = append(types, event.Values["type"].(string))
		}
		assert.Equal(t, "budget.100", strings.Join(types, " "))
	}, daily(1.02*worstCall))
}
