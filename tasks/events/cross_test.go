package events_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks/events"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

func onAll(t *testing.T, test func(t *testing.T, client redis.UniversalClient)) {
	t.Helper()
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		client, _ := redistest.Embedded(t)
		test(t, client)
	})
	t.Run("real", func(t *testing.T) {
		t.Parallel()
		client, _ := redistest.Real(t)
		test(t, client)
	})
	t.Run("cluster", func(t *testing.T) {
		t.Parallel()
		client, _ := redistest.Cluster(t)
		test(t, client)
	})
}

// Levels go up and down: a level is told of when it is reached from below, and else never.
func TestALevelIsToldOfOnce(t *testing.T) {
	t.Parallel()
	onAll(t, func(t *testing.T, client redis.UniversalClient) {
		keys, random := keyspace.New(""), rand.New(rand.NewPCG(1, 2))
		before, want := map[string]int{}, 0
		for i := range 300 {
			name, level := fmt.Sprintf("thing-%d", random.IntN(2)), random.IntN(5)
			told, err := events.Cross(t.Context(), client, keys, name, level, "thing.grown", "name", name, "step", i)
			require.NoError(t, err)
			require.Equal(t, level > before[name], told, "%s from %d to %d", name, before[name], level)
			if before[name] = level; told {
				want++
			}
		}
		entries, err := client.XRange(t.Context(), keys.Events(), "-", "+").Result()
		require.NoError(t, err)
		require.Len(t, entries, want)
		require.Equal(t, "thing.grown", entries[0].Values["type"])
		require.Contains(t, entries[0].Values, "at")
		require.Contains(t, entries[0].Values, "step")
	})
}

func TestManyLookersTellOnce(t *testing.T) {
	t.Parallel()
	onAll(t, func(t *testing.T, client redis.UniversalClient) {
		keys := keyspace.New("other:")
		var told atomic.Int64
		var group sync.WaitGroup
		for range 20 {
			group.Go(func() {
				once, err := events.Cross(context.WithoutCancel(t.Context()), client, keys, "thing", 3, "thing.grown")
				assert.NoError(t, err)
				if once {
					told.Add(1)
				}
			})
		}
		group.Wait()
		require.Equal(t, int64(1), told.Load())
		require.Equal(t, int64(1), client.XLen(t.Context(), keys.Events()).Val())
	})
}
