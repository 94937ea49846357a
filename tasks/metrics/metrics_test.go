package metrics

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

func TestCodesAreBounded(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]string{
		"": "", "insufficient_quota": "insufficient_quota", "deadline_passed": "deadline_passed", "http_503": "http_503",
		"http_99": Other, "http_1000": Other, "http_999": Other, "http_+50": Other, "sk-0123456789": Other, "Bearer x": Other,
	} {
		assert.Equal(t, want, Code(code), code)
	}
	assert.Equal(t, OK, Class(""))
	assert.Equal(t, "throttled", Class(tasks.ClassThrottled))
	assert.Equal(t, Other, Class("made up"))
	assert.Equal(t, "adhoc", TaskType(nil, tasks.Job{}))
	assert.Equal(t, Other, TaskType(nil, tasks.Job{TaskType: "anything"}))
	assert.Equal(t, Other, Tier(nil, tasks.Job{}, "anything"))
}

// Two workers of a process count together, and one without a registry counts for nobody.
func TestEqualSeriesAreOne(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewPedanticRegistry()
	first, second := NewIntake(registry, WayHTTP), NewIntake(registry, WayHTTP)
	first.Accepted()
	second.Accepted()
	NewIntake(nil, WayHTTP).Accepted()
	NewIntake(registry, WayInbox).Refused("id_conflict")
	assert.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP forebay_jobs_accepted_total Jobs that were accepted and had not been before.
# TYPE forebay_jobs_accepted_total counter
forebay_jobs_accepted_total{way="http"} 2
forebay_jobs_accepted_total{way="inbox"} 0
# HELP forebay_jobs_refused_total Jobs that were not accepted, by the code that their sender was told.
# TYPE forebay_jobs_refused_total counter
forebay_jobs_refused_total{code="id_conflict",way="inbox"} 1
`)))
	assert.Panics(t, func() { Counter(registry, "forebay_jobs_accepted_total", "Something else.", "other") })
}

// What Redis answers is counted: a pipeline is one round trip, and what waits is not timed.
func TestCommandsOfRedisAreCounted(t *testing.T) {
	t.Parallel()
	client, _ := redistest.Real(t)
	registry := prometheus.NewPedanticRegistry()
	client.AddHook(RedisHook(registry))
	commands := func(status string) float64 {
		return testutil.ToFloat64(Counter(registry, "forebay_redis_commands_total", "Commands that this process has sent to Redis.", "status").WithLabelValues(status))
	}
	trips := func() uint64 {
		families, err := registry.Gather()
		require.NoError(t, err)
		for _, family := range families {
			if family.GetName() == "forebay_redis_command_duration_seconds" {
				return family.GetMetric()[0].GetHistogram().GetSampleCount()
			}
		}
		return 0
	}
	ctx := t.Context()
	ok, before := commands(OK), trips()
	require.NoError(t, client.Set(ctx, "a", "text", 0).Err())
	assert.ErrorIs(t, client.Get(ctx, "absent").Err(), redis.Nil)
	assert.InDelta(t, ok+2, commands(OK), 0, "that there is nothing is an answer")
	assert.Equal(t, before+2, trips())

	assert.Error(t, client.LPush(ctx, "a", "b").Err())
	assert.InDelta(t, 1, commands("error"), 0)
	_, err := client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		pipe.Get(ctx, "a")
		pipe.LPush(ctx, "a", "b")
		pipe.Get(ctx, "absent")
		return nil
	})
	assert.Error(t, err)
	assert.InDelta(t, ok+4, commands(OK), 0)
	assert.InDelta(t, 2, commands("error"), 0)
	assert.Equal(t, before+4, trips())

	script := redis.NewScript("return 'never seen before'")
	require.NoError(t, script.Run(ctx, client, nil).Err())
	assert.InDelta(t, 2, commands("error"), 0, "a script that is not known is sent again, which is no error")

	before = trips()
	assert.ErrorIs(t, client.BLPop(ctx, 10*time.Millisecond, "nothing").Err(), redis.Nil)
	assert.Equal(t, before, trips())
	ended, cancel := context.WithCancel(ctx)
	cancel()
	assert.Error(t, client.Get(ended, "a").Err())
	assert.InDelta(t, 3, commands("error"), 0)
}

// What a command costs beside its round trip.
func BenchmarkRedisHook(b *testing.B) {
	process := RedisHook(prometheus.NewRegistry()).ProcessHook(func(context.Context, redis.Cmder) error { return nil })
	cmd := redis.NewStringCmd(b.Context(), "get", "a")
	b.ReportAllocs()
	for b.Loop() {
		_ = process(b.Context(), cmd)
	}
}
