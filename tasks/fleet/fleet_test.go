package fleet_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks/fleet"
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

func ids(processes []fleet.Process) []string {
	list := make([]string, len(processes))
	for i, p := range processes {
		list[i] = p.ID
	}
	return list
}

func TestTheFleetKnowsWhoLives(t *testing.T) {
	t.Parallel()
	onAll(t, func(t *testing.T, client redis.UniversalClient) {
		ctx, keys := t.Context(), keyspace.New("other:")
		found, err := fleet.Read(ctx, client, keys)
		require.NoError(t, err)
		require.Empty(t, found)

		began := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
		join := func(kind fleet.Kind, id, host string) *fleet.Member {
			m := fleet.Join(client, keys, fleet.Process{ID: id, Kind: kind, Host: host, PID: 7, Version: "v1", StartedAt: began})
			require.NoError(t, m.Beat(ctx))
			return m
		}
		join(fleet.Worker, "w-b", "b")
		first := join(fleet.Worker, "w-a", "a")
		join(fleet.Producer, "p", "a")
		join(fleet.Scheduler, "s", "a")
		join(fleet.Dev, "d", "a")
		found, err = fleet.Read(ctx, client, keys)
		require.NoError(t, err)
		require.Equal(t, []string{"d", "p", "s", "w-a", "w-b"}, ids(found))
		assert.Equal(t, int64(1), client.Exists(ctx, keys.Worker("w-a")).Val(), "by which others find out whether it lives")
		assert.Nil(t, found[3].Config)
		assert.WithinDuration(t, time.Now(), found[3].SeenAt, time.Minute)

		config := fleet.Config{Version: "abc", LoadedAt: began, Restart: []string{"redis.url"}, Refused: &fleet.Refusal{At: began, Problems: []string{"f:1:1: no"}}}
		first.Update(config)
		require.NoError(t, first.Beat(ctx))
		// A process of another version lives, too; one whose key has expired does not.
		require.NoError(t, client.Set(ctx, keys.Worker("w-b"), "2026-01-02T03:04:05Z", time.Minute).Err())
		require.NoError(t, client.Del(ctx, keys.Process("p")).Err())
		found, err = fleet.Read(ctx, client, keys)
		require.NoError(t, err)
		require.Equal(t, []string{"d", "s", "w-b", "w-a"}, ids(found), "what is not known of w-b stands before")
		assert.Equal(t, fleet.Process{ID: "w-b", Kind: fleet.Worker}, found[2])
		assert.Equal(t, &config, found[3].Config)
		assert.NotContains(t, client.HGetAll(ctx, keys.Fleet()).Val(), "p", "it is forgotten")

		require.NoError(t, first.Leave(ctx))
		require.NoError(t, first.Beat(ctx), "nothing comes after the farewell")
		found, err = fleet.Read(ctx, client, keys)
		require.NoError(t, err)
		assert.Equal(t, []string{"d", "s", "w-b"}, ids(found))
	})
}

func TestRunBeatsUntilItsEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client, server := redistest.InBubble(t)
		keys := keyspace.New("")
		m := fleet.Join(client, keys, fleet.Process{Kind: fleet.Producer})
		assert.NotEmpty(t, m.ID())
		ctx, cancel := context.WithCancel(t.Context())
		failed := 0
		done := make(chan struct{})
		go func() {
			defer close(done)
			m.Run(ctx, func(err error) {
				if err != nil {
					failed++
				}
			})
		}()
		time.Sleep(time.Minute)
		assert.True(t, server.Exists(keys.Process(m.ID())))
		server.SetError("LOADING the data")
		time.Sleep(8 * time.Second)
		server.SetError("")
		time.Sleep(fleet.Every)
		assert.True(t, server.Exists(keys.Process(m.ID())), "it goes on after an outage")
		cancel()
		<-done
		assert.Positive(t, failed)
		assert.False(t, server.Exists(keys.Process(m.ID())), "it leaves")
	})
}
