package jobstore

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

// A cluster refuses a script whose keys lie in several slots, also a cluster of one node.
func TestCluster(t *testing.T) {
	t.Parallel()
	client, server := redistest.Real(t, "--cluster-enabled", "yes")
	require.NoError(t, client.ClusterAddSlotsRange(t.Context(), 0, 16383).Err())
	require.Eventually(t, func() bool {
		return client.Set(t.Context(), "ready", "yes", 0).Err() == nil
	}, 10*time.Second, 10*time.Millisecond)
	cluster := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs: []string{server.Addr}, MaintNotificationsConfig: redistest.Options(server.Addr).MaintNotificationsConfig,
	})
	t.Cleanup(func() { _ = cluster.Close() })
	b := newBundle(t, cluster)
	require.NoError(t, b.Load(t.Context()))

	jobs := make([]NewJob, 50)
	for i := range jobs {
		jobs[i] = b.job()
	}
	_, errs := b.CreateMany(t.Context(), jobs)
	for _, err := range errs {
		require.NoError(t, err)
	}
	ids := []string{jobs[0].Job.ID, jobs[1].Job.ID, jobs[2].Job.ID}
	ends := make(chan tasks.Status, len(ids))
	for _, id := range ids {
		go func() {
			record, err := b.Wait(t.Context(), id)
			if assert.NoError(t, err) {
				ends <- record.Status
			}
		}()
	}
	record, err := b.Start(t.Context(), ids[0], Delivery{ID: "d1", Worker: "w1", Run: 1})
	require.NoError(t, err)
	attempt := attemptOf("d1", "w1")
	attempt.Seq, err = b.Begin(t.Context(), ids[0], 1, attempt)
	require.NoError(t, err)
	record, err = b.Start(t.Context(), ids[0], Delivery{ID: "d2", Worker: "w2", Run: record.Run})
	require.NoError(t, err)
	_, err = b.CloseOrphans(t.Context(), record, "d2")
	require.NoError(t, err)
	require.NoError(t, b.End(t.Context(), ids[0], answered(attempt)))
	_, err = b.Commit(t.Context(), success(ids[0], 1, nil))
	require.NoError(t, err)

	_, err = b.Start(t.Context(), ids[1], Delivery{ID: "d1", Worker: "w1"})
	require.NoError(t, err)
	_, err = b.GiveBack(t.Context(), ids[1], 1, "d1", GiveBack{Status: tasks.StatusQueued})
	require.NoError(t, err)
	for _, id := range ids[1:] {
		_, err = b.Cancel(t.Context(), id, "")
		require.NoError(t, err)
	}
	got := []tasks.Status{<-ends, <-ends, <-ends}
	require.ElementsMatch(t, []tasks.Status{tasks.StatusSucceeded, tasks.StatusCancelled, tasks.StatusCancelled}, got)
	record, err = b.Reopen(t.Context(), ids[1])
	require.NoError(t, err)
	require.Equal(t, 2, record.Run)
	require.Equal(t, []string{indexOpen}, b.inIndex(t, ids[1]))
	require.Equal(t, []string{indexEnded}, b.inIndex(t, ids[2]))
}
