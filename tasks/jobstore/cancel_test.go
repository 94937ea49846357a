package jobstore

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
)

func TestCancelOfAWaitingJob(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t := b.t
		id := b.created(t)
		_, err := b.Cancel(t.Context(), id, "acme")
		require.ErrorIs(t, err, ErrNotFound, "another tenant's job is not shown")

		reply, err := b.Cancel(t.Context(), id, "default")
		require.NoError(t, err)
		require.Equal(t, CancelReply{Status: tasks.StatusCancelled, Cancelled: true, Run: 1, Priority: tasks.PriorityDefault}, reply)
		result := b.get(t, id).Result()
		assert.Equal(t, tasks.ClassCancelled, result.Error.Class)
		assert.NotNil(t, result.FinishedAt)
		assert.Equal(t, []string{indexEnded}, b.inIndex(t, id))
		assert.Positive(t, b.client.PTTL(t.Context(), b.Keys().Job(id)).Val())

		reply, err = b.Cancel(t.Context(), id, "default")
		require.NoError(t, err)
		require.Equal(t, CancelReply{Status: tasks.StatusCancelled, Run: 1, Priority: tasks.PriorityDefault}, reply)
	})
}

func TestCancelOfARunningJob(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t := b.t
		id, _ := b.calling(t)
		workers := b.client.Subscribe(t.Context(), b.Keys().Cancel())
		defer func() { _ = workers.Close() }()
		_, err := workers.Receive(t.Context())
		require.NoError(t, err)

		for range 2 {
			reply, err := b.Cancel(t.Context(), id, "")
			require.NoError(t, err)
			require.Equal(t, CancelReply{Status: tasks.StatusRunning, Asked: true, Run: 1, Priority: tasks.PriorityDefault}, reply)
			message, err := workers.ReceiveMessage(t.Context())
			require.NoError(t, err)
			require.Equal(t, id, message.Payload)
		}
		record, err := b.Start(t.Context(), id, Delivery{ID: "d2", Worker: "w2", Run: 1})
		require.NoError(t, err)
		require.True(t, record.Cancel)

		committed, err := b.Commit(t.Context(), success(id, 1, nil))
		require.NoError(t, err)
		require.True(t, committed.Committed, "an answer that was paid for is kept")
		reply, err := b.Cancel(t.Context(), id, "")
		require.NoError(t, err)
		require.Equal(t, tasks.StatusSucceeded, reply.Status)
		require.False(t, reply.Asked)
	})
}

// A result that was made from an older reading would hide what was spent since.
func TestCancelReadsAgain(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t := b.t
		id, attempt := b.calling(t)
		old := b.get(t, id)
		end := answered(attempt)
		_, err := b.GiveBack(t.Context(), id, 1, "d1", GiveBack{Status: tasks.StatusQueued, Attempt: &end})
		require.NoError(t, err)
		old.Attempts = nil
		word, _, err := b.cancel(t.Context(), old, cancelling{})
		require.NoError(t, err)
		require.Equal(t, "changed", word)
		_, err = b.Cancel(t.Context(), id, "")
		require.NoError(t, err)
		require.InDelta(t, 0.02, b.get(t, id).result.CostUSD, 1e-9)
	})
}

func TestCancelComesSecond(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t := b.t
		id, _ := b.running(t)
		old := b.get(t, id)
		_, err := b.Commit(t.Context(), success(id, 1, nil))
		require.NoError(t, err)
		word, stands, err := b.cancel(t.Context(), old, cancelling{})
		require.NoError(t, err)
		require.Equal(t, "refused", word)
		require.Equal(t, tasks.StatusSucceeded, stands)
		require.Equal(t, "short", b.get(t, id).Result().Text)
	})
}

// What nobody waits for is not begun; a call that is out is finished.
func TestWithdraw(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t := b.t
		running, _ := b.running(t)
		reply, err := b.Withdraw(t.Context(), running)
		require.NoError(t, err)
		require.Equal(t, tasks.StatusRunning, reply.Status)
		require.False(t, reply.Asked || reply.Cancelled)
		record := b.get(t, running)
		require.False(t, record.Cancel)
		_, err = b.GiveBack(t.Context(), running, 1, "d1", GiveBack{Status: tasks.StatusQueued})
		require.NoError(t, err)
		reply, err = b.Withdraw(t.Context(), running)
		require.NoError(t, err)
		require.True(t, reply.Cancelled)
		require.Equal(t, CodeWithdrawn, b.get(t, running).Result().Error.Code)
	})
}

func TestOrphans(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t := b.t
		id, attempt := b.calling(t)
		require.NoError(t, b.client.Set(t.Context(), b.Keys().Worker("w1"), "", time.Minute).Err())
		record, err := b.Start(t.Context(), id, Delivery{ID: "d2", Worker: "w2", Run: 1})
		require.NoError(t, err)

		until, err := b.CloseOrphans(t.Context(), record, "d2")
		require.NoError(t, err)
		require.Equal(t, toMilliseconds(attempt.CallDeadline).Add(openMargin), until, "w1 lives: its call may still be answered")
		require.Len(t, record.Open("d2"), 1)

		require.NoError(t, b.client.Del(t.Context(), b.Keys().Worker("w1")).Err())
		for range 2 {
			until, err = b.CloseOrphans(t.Context(), record, "d2")
			require.NoError(t, err)
			require.Zero(t, until)
			require.Empty(t, record.Open("d2"))
		}
		stands := b.get(t, id).Attempts
		require.Equal(t, record.Attempts, stands)
		require.True(t, stands[0].MaybeBilled)
		require.Equal(t, CodeWorkerGone, stands[0].Code)

		require.NoError(t, b.End(t.Context(), id, answered(attempt)), "its end arrives after all")
		require.InDelta(t, 0.02, b.get(t, id).Result().CostUSD, 1e-9)
	})
}

func TestAnOrphanNeverReplacesAnEnd(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t := b.t
		id, attempt := b.calling(t)
		record := b.get(t, id)
		require.NoError(t, b.End(t.Context(), id, answered(attempt)))
		require.NoError(t, b.Orphan(t.Context(), record, attempt.Seq))
		require.False(t, record.Attempts[0].MaybeBilled)
		require.InDelta(t, 0.02, record.Result().CostUSD, 1e-9, "the record takes the end over")
	})
}

func TestAnOpenAttemptEndsWithItsDeadline(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t := b.t
		id, _ := b.running(t)
		attempt := attemptOf("d1", "w1")
		attempt.StartedAt = time.Now().Add(-time.Minute)
		attempt.CallDeadline = time.Now().Add(-6 * time.Second)
		_, err := b.Begin(t.Context(), id, 1, attempt)
		require.NoError(t, err)
		require.NoError(t, b.client.Set(t.Context(), b.Keys().Worker("w1"), "", time.Minute).Err())
		record, err := b.Start(t.Context(), id, Delivery{ID: "d2", Worker: "w2", Run: 1})
		require.NoError(t, err)
		until, err := b.CloseOrphans(t.Context(), record, "d2")
		require.NoError(t, err)
		require.Zero(t, until)
	})
}
