package jobstore

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
)

func TestCommit(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t := b.t
		id, attempt := b.calling(t)
		end := answered(attempt)
		commit := success(id, 1, &end)
		for range 2 {
			committed, err := b.Commit(t.Context(), commit)
			require.NoError(t, err)
			require.Equal(t, Committed{Committed: true, Status: tasks.StatusSucceeded}, committed)
		}
		record := b.get(t, id)
		require.Equal(t, commit.Response, record.Response, "byte for byte")
		result := record.Result()
		assert.Equal(t, tasks.StatusSucceeded, result.Status)
		assert.Equal(t, "short", result.Text)
		assert.InDelta(t, 0.02, result.CostUSD, 1e-9)
		assert.Equal(t, map[string]string{"document": "7"}, result.Metadata)
		assert.NotNil(t, result.FinishedAt)
		_, err := tasks.Encode(result)
		require.NoError(t, err)
		assert.Equal(t, []string{indexEnded}, b.inIndex(t, id))
		ttl := b.client.PTTL(t.Context(), b.Keys().Job(id)).Val()
		assert.InDelta(t, time.Hour.Seconds(), ttl.Seconds(), 60)
	})
}

func TestASecondCommitIsRefused(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t := b.t
		id, attempt := b.calling(t)
		_, err := b.Commit(t.Context(), Commit{ID: id, Run: 1, Delivery: "d2", Status: tasks.StatusFailed})
		require.NoError(t, err)
		end := answered(attempt)
		committed, err := b.Commit(t.Context(), success(id, 1, &end))
		require.NoError(t, err)
		require.Equal(t, Committed{Status: tasks.StatusFailed}, committed)
		record := b.get(t, id)
		require.Nil(t, record.Response)
		require.True(t, record.Attempts[0].Ended, "the money is on the ledger")
		require.InDelta(t, 0.02, record.Result().CostUSD, 1e-9)
		require.Equal(t, []string{indexDead}, b.inIndex(t, id), "the index is mended")
		require.Equal(t, time.Duration(-1), b.client.PTTL(t.Context(), b.Keys().Job(id)).Val(), "a dead letter is kept")

		_, err = b.Commit(t.Context(), success("absent", 1, nil))
		require.ErrorIs(t, err, ErrNotFound)
		require.Empty(t, b.inIndex(t, "absent"))
		_, err = b.Commit(t.Context(), Commit{ID: id, Run: 1, Status: tasks.StatusRunning})
		require.ErrorContains(t, err, "not an end")
	})
}

func TestVerbsTravelWithOtherCommands(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t := b.t
		// No script is loaded: the first pipeline meets servers that know none.
		first, _ := b.calling(t)
		second, attempt := b.calling(t)
		third, lost := b.calling(t)
		require.NoError(t, b.client.ScriptFlush(t.Context()).Err())
		pipe := b.client.Pipeline()
		other := pipe.Set(t.Context(), "other", "1", 0)
		commit, err := b.SendCommit(t.Context(), success(first, 1, nil))
		require.NoError(t, err)
		end, err := b.EndOn(t.Context(), pipe, second, failed(attempt))
		require.NoError(t, err)
		lost = failed(lost)
		_, _ = pipe.Exec(t.Context())

		require.NoError(t, other.Err())
		committed, err := commit()
		require.NoError(t, err)
		require.True(t, committed.Committed)
		_, err = end.Reply(t.Context())
		require.NoError(t, err)
		failures, err := b.GiveBack(t.Context(), third, 1, "d1",
			GiveBack{Status: tasks.StatusRetrying, SpendRetry: true, Attempt: &lost})
		require.NoError(t, err)
		require.Equal(t, 1, failures)
		require.Equal(t, []string{indexEnded}, b.inIndex(t, first))
		require.True(t, b.get(t, second).Attempts[0].Ended)

		require.NoError(t, b.Load(t.Context()))
		for _, exists := range b.client.ScriptExists(t.Context(), commitScript.Hash(), endScript.Hash()).Val() {
			require.True(t, exists)
		}
	})
}

func TestOutcomeAddsUpTheLedger(t *testing.T) {
	t.Parallel()
	record := &Record{Attempts: []tasks.Attempt{{Seq: 1, CostUSD: 1}, {Seq: 2}}}
	result := record.Outcome(tasks.StatusSucceeded, time.Now(), tasks.Attempt{Seq: 2, CostUSD: 2}, tasks.Attempt{Seq: 3, CostUSD: 4})
	require.Len(t, result.Attempts, 3, "whoever is told of the end hears of all calls")
	require.InDelta(t, 7, result.CostUSD, 1e-9)
}

func TestAResponseThatIsNoJSON(t *testing.T) {
	t.Parallel()
	result := (&Record{Status: tasks.StatusSucceeded, Response: []byte("oops\xff")}).Result()
	_, err := tasks.Encode(result)
	require.NoError(t, err)
}

func TestAnImpossibleResultIsAnError(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t := b.t
		id, _ := b.running(t)
		commit := success(id, 1, nil)
		commit.Result.CostUSD = math.NaN()
		_, err := b.Commit(t.Context(), commit)
		require.ErrorContains(t, err, id)
		require.Equal(t, tasks.StatusRunning, b.get(t, id).Status)
	})
}

func TestAnswersOfManyMegabytes(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t := b.t
		id, _ := b.running(t)
		commit := success(id, 1, nil)
		commit.Response = make([]byte, 8<<20)
		for i := range commit.Response {
			commit.Response[i] = byte(i)
		}
		_, err := b.Commit(t.Context(), commit)
		require.NoError(t, err)
		require.Equal(t, commit.Response, b.get(t, id).Response)
	})
}
