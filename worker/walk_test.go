package worker_test

import (
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/gate"
)

func TestAJobIsDone(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		id := b.job(func(j *tasks.Job) { j.Metadata = map[string]string{"document": "7"} })
		require.NoError(t, b.deliver(id))

		result := b.result(id)
		assert.Equal(t, tasks.StatusSucceeded, result.Status)
		assert.Equal(t, "small", result.Model)
		assert.Equal(t, "low", result.Tier)
		assert.Equal(t, "a-1", result.Endpoint)
		assert.Equal(t, "region-a-1", result.Region)
		assert.Contains(t, document, result.Text[:20])
		assert.Contains(t, string(result.Response), `"chat.completion"`)
		assert.Equal(t, map[string]string{"document": "7"}, result.Metadata)
		require.Len(t, result.Attempts, 1)
		attempt := result.Attempts[0]
		assert.True(t, attempt.Ended)
		assert.Empty(t, attempt.Class)
		assert.Equal(t, 200, attempt.HTTPStatus)
		assert.InDelta(t, 100, attempt.LatencyMS, 5)
		assert.InDelta(t, b.catalog.Cost("small", *result.Usage), result.CostUSD, 1e-12)
		assert.Positive(t, result.CostUSD)
		assert.Equal(t, int64(1), b.breaker("a-1").Successes)

		require.NoError(t, b.deliver(id), "a second delivery finds the result")
		assert.Equal(t, result, b.result(id))
		assert.Len(t, b.sim.Counters().Jobs, 1)
	})
}

func TestTheWalk(t *testing.T) {
	t.Parallel()
	down := []string{"500"}
	for _, test := range []struct {
		name    string
		outages map[string][]string
		change  func(*catalog.Catalog)
		asked   string
		model   string
		class   tasks.Class
	}{
		{"past a sick endpoint", map[string][]string{"a-1": down}, nil, "a-1 a-1 a-1 a-2", "small", ""},
		{
			"past two of them, until the breakers open",
			map[string][]string{"a-1": down, "a-2": down},
			nil,
			"a-1 a-1 a-1 a-2 a-2 b-1", "small", "",
		},
		{"past an account without money", map[string][]string{"a-1": {"insufficient-quota"}}, nil, "a-1 b-1", "small", ""},
		{"past a refused key", map[string][]string{"a-1": {"401"}}, nil, "a-1 b-1", "small", ""},
		{"past a wrong address", map[string][]string{"a-1": {"404-html"}}, nil, "a-1 a-2", "small", ""},
		{"past an endpoint without the model", map[string][]string{"a-1": {"relay-no-channel-zh"}}, nil, "a-1 a-2", "small", ""},
		{"past a limit, to the other account", map[string][]string{"a-1": {"429"}}, nil, "a-1 b-1", "small", ""},
		{"to a larger window", map[string][]string{"a-1": {"context-length", "no-usage"}}, nil, "a-1 a-1", "large", ""},
		{"no larger window", map[string][]string{"a-1": {"context-length"}}, nil, "a-1 a-1", "", tasks.ClassContextLength},
		{"content policy", map[string][]string{"a-1": {"content-filter"}}, nil, "a-1", "", tasks.ClassContentPolicy},
		{
			"content policy, other models allowed",
			map[string][]string{"a-1": {"refusal", "no-usage"}},
			func(c *catalog.Catalog) { c.TaskTypes["summary"].ContentPolicyFallback = true }, "a-1 a-1", "large", "",
		},
		{"a bad request", map[string][]string{"a-1": {"400"}}, nil, "a-1", "", tasks.ClassInvalid},
	} {
		t.Run(test.name, func(t *testing.T) {
			change := test.change
			if change == nil {
				change = func(*catalog.Catalog) {}
			}
			inBubble(t, func(t *testing.T, b *bench) {
				for endpoint, kinds := range test.outages {
					b.outage(endpoint, kinds...)
				}
				id := b.job()
				err := b.deliver(id)
				result := b.result(id)
				assert.Equal(t, test.asked, asked(result))
				if test.class != "" {
					require.ErrorIs(t, err, asynq.SkipRetry)
					assert.Equal(t, tasks.StatusFailed, result.Status)
					require.NotNil(t, result.Error)
					assert.Equal(t, test.class, result.Error.Class)
					assert.NotEmpty(t, result.Error.Hint)
					return
				}
				require.NoError(t, err)
				assert.Equal(t, tasks.StatusSucceeded, result.Status)
				assert.Equal(t, test.model, result.Model)
			}, change)
		})
	}
}

func TestAFailedDeliveryIsRepeatedUntilItsRetriesAreSpent(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		for _, endpoint := range []string{"a-1", "a-2", "b-1"} {
			b.outage(endpoint, "500")
		}
		retries := 2
		id := b.job(func(j *tasks.Job) { j.MaxRetries = &retries })
		result, _ := b.finish(id)
		assert.Equal(t, tasks.StatusFailed, result.Status)
		assert.Equal(t, 2, result.Retries)
		assert.Equal(t, tasks.ClassUnavailable, result.Error.Class)
	}, func(c *catalog.Catalog) { c.Breaker.Failures = 1000 })
}

func TestWhenEveryRouteIsOpenAJobWaitsForTheNearestProbe(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		for _, endpoint := range []string{"a-1", "a-2", "b-1"} {
			b.outage(endpoint, "500")
		}
		first := b.job()
		require.Error(t, b.deliver(first))
		for range 3 { // until every breaker is open
			_ = b.deliver(first)
		}
		for _, endpoint := range []string{"a-1", "a-2", "b-1"} {
			require.Equal(t, gate.StateOpen, b.breaker(endpoint).State, endpoint)
			b.sim.Region(endpoint).ClearOutage()
		}
		waiting := b.job()
		require.Error(t, b.deliver(waiting))
		result := b.result(waiting)
		assert.Equal(t, tasks.StatusQueued, result.Status, "waiting is no failure")
		assert.Equal(t, "breaker_open", result.Waiting.Reason)
		assert.Empty(t, result.Attempts)

		result, deliveries := b.finish(waiting)
		assert.Equal(t, tasks.StatusSucceeded, result.Status)
		assert.LessOrEqual(t, deliveries, 2)
		assert.True(t, result.Attempts[0].Probe)
		assert.Zero(t, result.Retries)
	})
}

func TestLimitsAreNotFailures(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.outage("a-1", "429")
		b.outage("a-2", "429")
		b.outage("b-1", "429")
		id := b.job()
		started := time.Now()
		done := make(chan error, 1)
		go func() { done <- b.deliver(id) }()
		time.Sleep(time.Second)
		for _, endpoint := range []string{"a-1", "a-2", "b-1"} {
			b.sim.Region(endpoint).ClearOutage()
		}
		require.NoError(t, <-done, "the wait is short enough to be sat out in place")
		result := b.result(id)
		assert.Equal(t, tasks.StatusSucceeded, result.Status)
		assert.Equal(t, "small", result.Model, "limits do not lead to another model")
		assert.Equal(t, "a-1 b-1 a-1", asked(result), "the second endpoint of the account is not asked: its limit is the account's")
		assert.GreaterOrEqual(t, time.Since(started), 2*time.Second)
	})
}
