package jobstore

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

// startOf is the call that Start makes.
func (b bundle) startOf(id string) batched {
	return batched{
		call: call{
			verb: "start", id: id, script: startScript, keys: []string{b.Keys().Job(id)},
			args: []any{1, "d1", "w1", formatTime(time.Now())},
		},
		read: true,
	}
}

// What is wrong with one job is its own error: the others of its script do not notice.
func TestAnErrorOfOneJobIsItsOwn(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t := b.t
		good, broken, last := b.created(t), b.created(t), b.created(t)
		require.NoError(t, b.client.Del(t.Context(), b.Keys().Job(broken)).Err())
		require.NoError(t, b.client.Set(t.Context(), b.Keys().Job(broken), "x", 0).Err())
		require.NoError(t, b.client.ScriptFlush(t.Context()).Err())
		answers := together(t.Context(), b.client, []batched{
			b.startOf(good), b.startOf(broken), b.startOf("absent"), b.startOf(last),
		})
		require.Len(t, answers, 4)
		for i, word := range []string{"ok", "", "not_found", "ok"} {
			assert.Equal(t, word, answers[i].reply.word, "job %d", i)
		}
		require.ErrorContains(t, answers[1].err, "WRONGTYPE")
		require.ErrorContains(t, answers[1].err, broken)
		var reply redis.Error
		require.ErrorAs(t, answers[1].err, &reply, "as from a script alone")
		for _, i := range []int{0, 3} {
			require.NoError(t, answers[i].err)
			assert.Equal(t, "running", answers[i].fields.Val()["status"], "the record is read behind the script")
		}
	})
}

// Calls of several scripts share a round trip, also while the server knows only some of the scripts.
func TestSeveralScriptsInOneRoundTrip(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t := b.t
		started, begun := b.created(t), b.created(t)
		_, err := b.Start(t.Context(), begun, Delivery{ID: "d1", Worker: "w1", Run: 1})
		require.NoError(t, err)
		require.NoError(t, b.client.ScriptFlush(t.Context()).Err())
		require.NoError(t, startScript.Load(t.Context(), b.client).Err())
		intent, err := encodeAttempt("begin", begun, attemptOf("d1", "w1"))
		require.NoError(t, err)
		begin := batched{call: call{
			verb: "begin", id: begun, script: beginScript, keys: []string{b.Keys().Job(begun)}, args: []any{1, "d1", intent},
		}}
		answers := together(t.Context(), b.client, []batched{b.startOf("absent"), begin, b.startOf(started)})
		for i, word := range []string{"not_found", "ok", "ok"} {
			require.NoError(t, answers[i].err)
			assert.Equal(t, word, answers[i].reply.word, "call %d", i)
		}
		assert.Equal(t, "1", answers[1].reply.text(0), "the number of the attempt")
		assert.Nil(t, answers[1].fields, "nobody asked for it")
		assert.Equal(t, "running", answers[2].fields.Val()["status"])
	})
}

// Together or one by one, with short answers or long ones: the same becomes of the jobs.
func TestConcurrentDeliveries(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t := b.t
		const count = 200
		ids := make([]string, count)
		for i := range ids {
			ids[i] = b.created(t)
		}
		var deliveries sync.WaitGroup
		for i, id := range ids {
			deliveries.Go(func() { b.deliver(id, i) })
		}
		deliveries.Wait()
		for i, id := range ids {
			record := b.get(t, id)
			require.Equal(t, tasks.StatusSucceeded, record.Status)
			require.Equal(t, 1, record.Deliveries)
			require.Len(t, record.Attempts, 1)
			require.True(t, record.Attempts[0].Ended)
			require.Equal(t, responseOf(i), string(record.Response))
			require.Equal(t, []string{indexEnded}, b.inIndex(t, id))
		}
	})
}

// deliver takes a job, begins a call, and commits its answer, twice each.
func (b bundle) deliver(id string, i int) {
	t := b.t
	for range 2 {
		_, err := b.Start(t.Context(), id, Delivery{ID: "d1", Worker: "w1", Run: 1})
		assert.NoError(t, err)
	}
	attempt := attemptOf("d1", "w1")
	for range 2 {
		seq, err := b.Begin(t.Context(), id, 1, attempt)
		assert.NoError(t, err)
		assert.Equal(t, 1, seq)
	}
	attempt.Seq = 1
	end := answered(attempt)
	commit := success(id, 1, &end)
	commit.Delivery, commit.Response = "d1", []byte(responseOf(i))
	for range 2 {
		committed, err := b.Commit(t.Context(), commit)
		assert.NoError(t, err)
		assert.True(t, committed.Committed)
	}
}

// responseOf is a long one for every tenth job.
func responseOf(i int) string {
	if i%10 == 0 {
		return `"` + strings.Repeat("x", largestTogether) + `"`
	}
	return `"short"`
}

// A cluster may stand behind one address, and refuses scripts with keys of several slots.
func TestAClusterThatLooksLikeOneServer(t *testing.T) {
	t.Parallel()
	client, _ := redistest.Real(t, "--cluster-enabled", "yes")
	require.NoError(t, client.ClusterAddSlotsRange(t.Context(), 0, 16383).Err())
	require.Eventually(t, func() bool {
		return client.Set(t.Context(), "ready", "yes", 0).Err() == nil
	}, 10*time.Second, 10*time.Millisecond)
	b := newBundle(t, client)
	first, second := b.created(t), b.created(t)
	for _, answer := range together(t.Context(), client, []batched{b.startOf(first), b.startOf(second)}) {
		require.NoError(t, answer.err)
		assert.Equal(t, "ok", answer.reply.word)
		assert.Equal(t, "running", answer.fields.Val()["status"])
	}
}
