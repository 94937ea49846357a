package httpapi

import (
	"context"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

// The script against what it promises: no 60 s hold more than the limit, what is refused takes nothing, and what it says
// to wait is enough.
func TestTakeKeepsItsPromises(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	client := redis.NewClient(redistest.Options(server.Addr()))
	t.Cleanup(func() { _ = client.Close() })
	rapid.Check(t, func(t *rapid.T) {
		server.FlushAll()
		r := &takeRun{t: t, server: server, limit: rapid.IntRange(1, 20).Draw(t, "limit"), now: time.Unix(1_800_000_000, 0)}
		r.meter = meter{client: client, keys: keyspace.New("")}
		r.pass(time.Duration(rapid.IntRange(0, 999).Draw(t, "begin")) * time.Millisecond)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			r.pass(time.Duration(rapid.IntRange(0, 20_000).Draw(t, "ms")) * time.Millisecond)
			asked := rapid.IntRange(1, 22).Draw(t, "asked")
			got := r.take(asked)
			require.Equal(t, asked > r.limit, got.wait < 0)
			if !got.granted && got.wait > 0 {
				r.pass(got.wait)
				require.True(t, r.take(asked).granted, "after the time that it said")
			}
		}
		r.pass(r.take(1).reset)
		require.True(t, r.take(r.limit).granted, "after the reset")
	})
}

type takeRun struct {
	t      *rapid.T
	server *miniredis.Miniredis
	meter  meter
	limit  int
	now    time.Time
	grants []time.Time // one for each that was granted
}

func (r *takeRun) pass(d time.Duration) {
	r.now = r.now.Add(d)
	r.server.SetTime(r.now)
	r.server.FastForward(d)
}

func (r *takeRun) take(asked int) taken {
	got, err := r.meter.take(context.Background(), "acme", ofJobs, r.limit, asked)
	require.NoError(r.t, err)
	if got.granted {
		for range asked {
			r.grants = append(r.grants, r.now)
		}
	}
	recent := 0
	for _, at := range r.grants {
		if r.now.Sub(at) <= time.Minute {
			recent++
		}
	}
	require.LessOrEqual(r.t, recent, r.limit)
	require.LessOrEqual(r.t, got.remaining, r.limit-recent)
	require.LessOrEqual(r.t, got.reset, 61*time.Second)
	return got
}
