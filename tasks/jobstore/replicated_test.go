package jobstore

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

// waiting is a store that waits for replicas, with jobs that were created.
func waiting(t *testing.T, client redis.UniversalClient, replicas int, timeout time.Duration) (b bundle, ids []string) {
	t.Helper()
	b = newBundle(t, client)
	b.Store.barrier = newBarrier(client, Replication{replicas, timeout})
	jobs := make([]NewJob, 40)
	for i := range jobs {
		jobs[i] = b.job()
		ids = append(ids, jobs[i].Job.ID)
	}
	_, errs := b.CreateMany(t.Context(), jobs)
	for _, err := range errs {
		require.NoError(t, err)
	}
	return b, ids
}

func TestAwaitReplicas(t *testing.T) {
	t.Parallel()
	cluster, nodes := redistest.ReplicatedCluster(t)
	b, ids := waiting(t, cluster, 1, 200*time.Millisecond)
	for _, err := range b.AwaitReplicas(t.Context(), ids) {
		require.NoError(t, err)
	}

	nodes[3].Pause() // the replica of the first master
	defer nodes[3].Resume()
	failed := 0
	for i, err := range b.AwaitReplicas(t.Context(), ids) {
		first := belongsTo(t, cluster, nodes[0].Addr, b.keys.Job(ids[i])) || belongsTo(t, cluster, nodes[0].Addr, b.keys.Index(keyspace.IndexShard(ids[i]), indexOpen))
		if !first {
			require.NoError(t, err, "the other masters' replicas answer")
			continue
		}
		failed++
		require.ErrorIs(t, err, ErrUnreplicated)
		require.EqualError(t, err, "too few replicas have it: 0 of 1 after 200ms; see in INFO replication whether they follow, or set redis.wait_replicas lower")
	}
	assert.Positive(t, failed)
	nodes[3].Resume()
	require.Eventually(t, func() bool {
		for _, err := range b.AwaitReplicas(t.Context(), ids) {
			if err != nil {
				return false
			}
		}
		return true
	}, 30*time.Second, 10*time.Millisecond)
}

func belongsTo(t *testing.T, cluster *redis.ClusterClient, addr, key string) bool {
	t.Helper()
	node, err := cluster.MasterForKey(t.Context(), key)
	require.NoError(t, err)
	return node.Options().Addr == addr
}

// TestAwaitReplicasFindsWhatIsLost: a master that has taken over has not what its predecessor had acknowledged.
func TestAwaitReplicasFindsWhatIsLost(t *testing.T) {
	t.Parallel()
	client, _ := redistest.Real(t)
	b, ids := waiting(t, client, 1, time.Millisecond)
	// Without a replica, so that only what is lost is told apart.
	require.NoError(t, client.Del(t.Context(), b.keys.Job(ids[0])).Err())
	require.NoError(t, client.ZRem(t.Context(), b.keys.Index(keyspace.IndexShard(ids[1]), indexOpen), ids[1]).Err())
	require.NoError(t, client.ZRem(t.Context(), b.keys.Index(keyspace.IndexShard(ids[2]), indexOpen), ids[2]).Err())
	require.NoError(t, client.HSet(t.Context(), b.keys.Job(ids[2]), "status", "succeeded").Err())
	errs := b.AwaitReplicas(t.Context(), ids)
	require.ErrorIs(t, errs[0], ErrUnreplicated)
	require.ErrorContains(t, errs[0], "the master that has taken it over does not have it")
	require.ErrorContains(t, errs[1], "its place in the index is gone")
	require.NoError(t, errs[2], "it has ended")
	require.ErrorContains(t, errs[3], "0 of 1 after 1ms")
}

// TestAwaitReplicasTogether: many wait by one WAIT.
func TestAwaitReplicasTogether(t *testing.T) {
	t.Parallel()
	master, server := redistest.Real(t)
	host, port := "127.0.0.1", server.Addr[len("127.0.0.1:"):]
	replica, _ := redistest.Real(t, "--replicaof", host+" "+port)
	require.Eventually(t, func() bool {
		return replica.Do(t.Context(), "ROLE").Val().([]any)[3] == "connected"
	}, 30*time.Second, 10*time.Millisecond)
	b, ids := waiting(t, master, 1, 5*time.Second)
	require.NoError(t, master.ConfigResetStat(t.Context()).Err())
	for _, err := range b.AwaitReplicas(t.Context(), ids) {
		require.NoError(t, err)
	}
	stats, err := master.Info(t.Context(), "commandstats").Result()
	require.NoError(t, err)
	assert.Regexp(t, `cmdstat_wait:calls=([1-9]|1[0-9]),`, stats, "far fewer than the 40 jobs")
}
