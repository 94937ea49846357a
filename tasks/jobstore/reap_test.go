package jobstore

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

var overdue = tasks.Failure{Class: tasks.ClassExpired, Code: "deadline_passed", Message: "too late"}

func TestReap(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t := b.t
		at := time.Now().Add(-time.Second)
		id := b.created(t)
		done, err := b.Reap(t.Context(), b.get(t, id), tasks.StatusExpired, overdue, at)
		require.NoError(t, err)
		require.True(t, done)
		result := b.get(t, id).Result()
		require.Equal(t, tasks.StatusExpired, result.Status)
		require.Equal(t, "deadline_passed", result.Error.Code)
		require.Equal(t, at.UnixMilli(), result.FinishedAt.UnixMilli())
		names, ttl := b.placed(t, id)
		require.Equal(t, []string{indexEnded}, names)
		require.Positive(t, ttl)

		held, attempt := b.calling(t)
		before := b.get(t, held)
		done, err = b.Reap(t.Context(), before, tasks.StatusFailed, overdue, at)
		require.NoError(t, err)
		require.True(t, done, "what is running with a dead worker is ended, too")
		names, ttl = b.placed(t, held)
		require.Equal(t, []string{indexDead}, names)
		require.Negative(t, ttl, "a dead letter stays")
		done, err = b.Reap(t.Context(), before, tasks.StatusFailed, overdue, at)
		require.NoError(t, err)
		require.False(t, done, "once")
		require.NoError(t, b.End(t.Context(), held, answered(attempt)))

		_, err = b.Reap(t.Context(), b.get(t, id), tasks.StatusSucceeded, overdue, at)
		require.ErrorContains(t, err, "not an end without an answer")
	})
}

// Whatever has happened to the job since it was read keeps it.
func TestReapOnlyWhatWasRead(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t := b.t
		for name, change := range map[string]func(id string){
			"taken": func(id string) {
				_, err := b.Start(t.Context(), id, Delivery{ID: "d2", Worker: "w2"})
				require.NoError(t, err)
			},
			"given back": func(id string) {
				_, err := b.GiveBack(t.Context(), id, 1, "d1", GiveBack{Status: tasks.StatusQueued})
				require.NoError(t, err)
			},
			"called": func(id string) {
				_, err := b.Begin(t.Context(), id, 1, attemptOf("d1", "w1"))
				require.NoError(t, err)
			},
			"ended": func(id string) {
				_, err := b.Commit(t.Context(), success(id, 1, nil))
				require.NoError(t, err)
			},
			"gone": func(id string) { b.client.Del(t.Context(), b.Keys().Job(id)) },
		} {
			id, record := b.running(t)
			change(id)
			done, err := b.Reap(t.Context(), record, tasks.StatusExpired, overdue, time.Now())
			require.NoError(t, err, name)
			require.False(t, done, name)
			if name != "gone" {
				require.NotEqual(t, tasks.StatusExpired, b.get(t, id).Status, name)
			}
		}
	})
}

func TestSurvey(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t := b.t
		waiting := b.created(t)
		running, _ := b.running(t)
		glances, err := b.Survey(t.Context(), []string{waiting, "unknown", running})
		require.NoError(t, err)
		require.Equal(t, []Glance{
			{ID: waiting, Status: tasks.StatusQueued, Run: 1, Priority: tasks.PriorityDefault},
			{ID: "unknown"},
			{ID: running, Status: tasks.StatusRunning, Run: 1, Priority: tasks.PriorityDefault, Worker: "w1", Deliveries: 1},
		}, glances)
		require.True(t, glances[2].Held())
		glances, err = b.Survey(t.Context(), nil)
		require.NoError(t, err)
		require.Empty(t, glances)

		require.NoError(t, b.client.Set(t.Context(), b.Keys().Worker("w1"), "", time.Minute).Err())
		alive, err := b.WorkersAlive(t.Context(), []string{"w1", "w2", "w1", ""})
		require.NoError(t, err)
		require.Equal(t, map[string]bool{"w1": true, "w2": false}, alive)
		alive, err = b.WorkersAlive(t.Context(), []string{""})
		require.NoError(t, err)
		require.Empty(t, alive)
	})
}

func TestTheIndexIsWalkedAndMended(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t := b.t
		ids := map[string]bool{}
		for range 30 {
			ids[b.created(t)] = true
		}
		found := map[string]bool{}
		for shard := range keyspace.IndexShards {
			for from := 0; ; from += 2 {
				page, err := b.Page(t.Context(), shard, SetOpen, from, 2)
				require.NoError(t, err)
				for _, id := range page {
					found[id] = true
				}
				if len(page) < 2 {
					break
				}
			}
		}
		require.Equal(t, ids, found)
		late, err := b.Overdue(t.Context(), time.Now(), 10)
		require.NoError(t, err)
		require.Empty(t, late)
		late, err = b.Overdue(t.Context(), time.Now().Add(2*time.Hour), 1000)
		require.NoError(t, err)
		require.Len(t, late, 30)

		gone, ended := late[0], late[1]
		require.NoError(t, b.client.Del(t.Context(), b.Keys().Job(gone)).Err())
		require.NoError(t, b.MendIndex(t.Context(), gone))
		assert.Empty(t, b.inIndex(t, gone))
		require.NoError(t, b.client.HSet(t.Context(), b.Keys().Job(ended), "status", "cancelled").Err())
		require.NoError(t, b.MendIndex(t.Context(), ended))
		assert.Equal(t, []string{indexEnded}, b.inIndex(t, ended))
		require.NoError(t, b.MendIndex(t.Context(), late[2]))
		assert.Equal(t, []string{indexOpen}, b.inIndex(t, late[2]))
	})
}
