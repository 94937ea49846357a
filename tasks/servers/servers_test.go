package servers_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks/redistest"
	"github.com/forebay-queue/forebay/tasks/servers"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		args          []string
		err, warnings string
	}{
		"in order":       {[]string{"--appendonly", "yes"}, "", "[]"},
		"no AOF":         {nil, "", "[Redis keeps no append-only file: accepted jobs and paid answers are lost when it restarts; CONFIG SET appendonly yes, and the same in redis.conf]"},
		"allkeys":        {[]string{"--maxmemory-policy", "allkeys-lru"}, "Redis has the maxmemory-policy allkeys-lru: when its memory runs out it deletes jobs and leases without a word; CONFIG SET maxmemory-policy noeviction, and the same in redis.conf", "[]"},
		"volatile":       {[]string{"--maxmemory-policy", "volatile-ttl"}, "maxmemory-policy volatile-ttl", "[]"},
		"INFO is hidden": {[]string{"--rename-command", "INFO", ""}, "", "[INFO is refused (ERR unknown command 'info', with args beginning with: 'everything' ): see yourself that maxmemory-policy is noeviction and the append-only file on]"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, _ := redistest.Real(t, row.args...)
			warnings, err := servers.Check(t.Context(), client)
			if row.err == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, row.err)
			}
			assert.Equal(t, row.warnings, fmt.Sprint(warnings))
		})
	}
}

func TestCheckOfAReplicaAndOfACluster(t *testing.T) {
	t.Parallel()
	cluster, nodes := redistest.ReplicatedCluster(t, "--appendonly", "yes")
	warnings, err := servers.Check(t.Context(), cluster)
	require.NoError(t, err)
	assert.Empty(t, warnings)
	all, err := servers.Look(t.Context(), cluster)
	require.NoError(t, err)
	require.Len(t, all, 3)
	for _, s := range all {
		assert.True(t, s.Cluster)
		assert.Equal(t, 1, s.Replicas)
		assert.Equal(t, "master", s.Role)
	}
	require.NoError(t, client(t, nodes[1]).ConfigSet(t.Context(), "maxmemory-policy", "allkeys-lfu").Err())
	_, err = servers.Check(t.Context(), cluster)
	require.ErrorContains(t, err, "Redis at "+nodes[1].Addr+" has the maxmemory-policy allkeys-lfu")
	_, err = servers.Check(t.Context(), client(t, nodes[4]))
	require.ErrorContains(t, err, "Redis is a replica, which takes no writes")
}

func TestCheckOfASentinel(t *testing.T) {
	t.Parallel()
	addrs, _ := redistest.Sentinel(t)
	sentinel := redis.NewClient(redistest.Options(addrs[0]))
	t.Cleanup(func() { _ = sentinel.Close() })
	_, err := servers.Check(t.Context(), sentinel)
	require.ErrorContains(t, err, "what answers there is a Sentinel, which keeps no jobs; write redis-sentinel://")
}

func TestEmbeddedRedisHasRoom(t *testing.T) {
	t.Parallel()
	client, _ := redistest.Embedded(t)
	warnings, err := servers.Check(t.Context(), client)
	require.NoError(t, err)
	assert.Empty(t, warnings)
	require.NoError(t, servers.NewMeter(client, servers.DefaultLimit).Check(t.Context()))
}

func TestMeter(t *testing.T) {
	t.Parallel()
	cluster, nodes := redistest.Cluster(t)
	meter := servers.NewMeter(cluster, 0.5)
	require.NoError(t, meter.Check(t.Context()), "without a maxmemory there is room")
	node := client(t, nodes[2])
	require.NoError(t, node.ConfigSet(t.Context(), "maxmemory", "3mb").Err())
	require.NoError(t, meter.Check(t.Context()), "the servers are asked once a second")
	meter.Forget()
	var full *servers.FullError
	require.ErrorAs(t, meter.Check(t.Context()), &full)
	assert.Equal(t, nodes[2].Addr, full.Server.Addr)
	assert.Regexp(t, `^Redis at 127\.0\.0\.1:\d+ uses \d+ % of its maxmemory of 3 MiB, and from 50 % on no job is accepted, so that running ones have room for their results$`, full.Error())

	require.NoError(t, servers.NewMeter(cluster, 1).Check(t.Context()), "off")
	nodes[2].Kill()
	meter.Forget()
	require.NoError(t, meter.Check(t.Context()), "whether it can be written is found by writing")
	nodes[2].Start() // without a maxmemory
	require.Eventually(t, func() bool {
		_, err := servers.Look(t.Context(), cluster)
		return err == nil && meter.Check(t.Context()) == nil
	}, 30*time.Second, 50*time.Millisecond, "there is room again")
}

// TestMeterAsksOncePerSecond: however many ask it.
func TestMeterAsksOncePerSecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client, _ := redistest.InBubble(t)
		asked := &questions{}
		client.AddHook(asked)
		meter := servers.NewMeter(client, servers.DefaultLimit)
		for range 10 {
			for range 100 {
				require.NoError(t, meter.Check(t.Context()))
			}
			time.Sleep(time.Second)
		}
		assert.Equal(t, 10, asked.count)
	})
}

// questions counts INFO.
type questions struct{ count int }

func (q *questions) DialHook(next redis.DialHook) redis.DialHook { return next }

func (q *questions) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (q *questions) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "info" {
			q.count++
		}
		return next(ctx, cmd)
	}
}

func client(t *testing.T, server *redistest.Server) *redis.Client {
	t.Helper()
	client := redis.NewClient(redistest.Options(server.Addr))
	t.Cleanup(func() { _ = client.Close() })
	return client
}
