package jobstore

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
)

func TestCreate(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t := b.t
		job := b.job()
		runAt := time.Now().Add(time.Minute).Truncate(time.Millisecond).UTC()
		job.Job.RunAt = &runAt

		created, err := b.Create(t.Context(), job)
		require.NoError(t, err)
		want := Created{Created: true, Status: tasks.StatusQueued, Run: 1, Priority: tasks.PriorityDefault, RunAt: runAt}
		require.Equal(t, want, created)
		record := b.get(t, job.Job.ID)
		assert.Equal(t, "scheduled", record.Waiting.Reason)
		assert.Equal(t, runAt, record.Waiting.Until)
		assert.Equal(t, 11, record.PromptTokens)
		assert.Equal(t, []string{indexOpen}, b.inIndex(t, job.Job.ID))

		again := job
		again.Job.Priority, again.Job.RunAt = tasks.PriorityBulk, nil
		created, err = b.Create(t.Context(), again)
		require.NoError(t, err)
		want.Created = false
		require.Equal(t, want, created, "the record decides where the task belongs")
		assert.Equal(t, record, b.get(t, job.Job.ID))

		other := job
		other.Fingerprint = "f2"
		created, err = b.Create(t.Context(), other)
		require.ErrorIs(t, err, ErrIDConflict)
		require.ErrorContains(t, err, job.Job.ID)
		assert.Zero(t, created, "nothing of the other job is shown")

		foreign := job
		foreign.Job.Tenant = "acme"
		_, err = b.Create(t.Context(), foreign)
		require.ErrorIs(t, err, ErrIDConflict)
	})
}

// Producers of an earlier release write records without the count.
func TestARecordWithoutPromptTokens(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		job := b.job()
		_, err := b.Create(b.t.Context(), job)
		require.NoError(b.t, err)
		require.NoError(b.t, b.client.HDel(b.t.Context(), b.keys.Job(job.Job.ID), "prompt_tokens").Err())
		assert.Zero(b.t, b.get(b.t, job.Job.ID).PromptTokens)
	})
}

func TestCreateManyKeepsErrorsApart(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t := b.t
		taken := b.job()
		_, err := b.Create(t.Context(), taken)
		require.NoError(t, err)
		taken.Fingerprint = "f2"
		unprepared := b.job()
		unprepared.Fingerprint = ""
		good := b.job()

		created, errs := b.CreateMany(t.Context(), []NewJob{taken, unprepared, good, good})
		require.ErrorIs(t, errs[0], ErrIDConflict)
		require.ErrorContains(t, errs[1], "prepare the job")
		require.NoError(t, errs[2])
		require.NoError(t, errs[3])
		assert.True(t, created[2].Created)
		assert.False(t, created[3].Created, "the same job twice in one batch is one job")
	})
}

func TestStart(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t := b.t
		id, first := b.running(t)
		require.Equal(t, tasks.StatusRunning, first.Status)
		require.Equal(t, 1, first.Deliveries)
		require.False(t, first.StartedAt.IsZero())
		require.Equal(t, "fast_summary", first.Job.TaskType)

		twice, err := b.Start(t.Context(), id, Delivery{ID: "d1", Worker: "w1", Run: 1})
		require.NoError(t, err)
		require.Equal(t, first, twice)

		second, err := b.Start(t.Context(), id, Delivery{ID: "d2", Worker: "w2"})
		require.NoError(t, err)
		assert.Equal(t, 2, second.Deliveries)
		assert.Equal(t, 1, second.Deaths, "d1 has lost the job")
		assert.Equal(t, first.StartedAt, second.StartedAt)

		_, err = b.Start(t.Context(), id, Delivery{ID: "d3", Worker: "w3", Run: 7})
		require.ErrorIs(t, err, ErrStaleRun)
		_, err = b.Start(t.Context(), "absent", Delivery{ID: "d1", Worker: "w1"})
		require.ErrorIs(t, err, ErrNotFound)
		require.ErrorContains(t, err, "absent")
	})
}

func TestStartOfAnEndedJobChangesNothing(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t := b.t
		id, attempt := b.calling(t)
		end := answered(attempt)
		_, err := b.Commit(t.Context(), success(id, 1, &end))
		require.NoError(t, err)
		before := b.get(t, id)
		record, err := b.Start(t.Context(), id, Delivery{ID: "d2", Worker: "w2", Run: 1})
		require.NoError(t, err)
		require.Equal(t, before, record)
		require.Equal(t, before, b.get(t, id))
	})
}

func TestBeginAndEnd(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t := b.t
		id, _ := b.running(t)
		attempt := attemptOf("d1", "w1")
		seq, err := b.Begin(t.Context(), id, 1, attempt)
		require.NoError(t, err)
		require.Equal(t, 1, seq)
		twice, err := b.Begin(t.Context(), id, 1, attempt)
		require.NoError(t, err)
		require.Equal(t, seq, twice, "a repeated execution is the same attempt")

		open := b.get(t, id).Open("d2")
		require.Len(t, open, 1)
		assert.Equal(t, "apac", open[0].Endpoint)
		assert.Empty(t, b.get(t, id).Open("d1"), "one's own attempts are not in one's way")

		attempt.Seq, attempt.Run = seq, 1
		for range 2 {
			require.NoError(t, b.End(t.Context(), id, failed(attempt)))
			record := b.get(t, id)
			require.Len(t, record.Attempts, 1)
			require.True(t, record.Attempts[0].Ended)
			require.Equal(t, 503, record.Attempts[0].HTTPStatus)
		}
		seq, err = b.Begin(t.Context(), id, 1, attemptOf("d1", "w1"))
		require.NoError(t, err)
		require.Equal(t, 2, seq)

		attempt.Seq = 9
		require.ErrorIs(t, b.End(t.Context(), id, attempt), ErrNoAttempt)
		require.ErrorIs(t, b.End(t.Context(), "absent", attempt), ErrNotFound)
		require.ErrorContains(t, b.End(t.Context(), id, attemptOf("d1", "w1")), "begin it first")
		exists, err := b.client.Exists(t.Context(), b.Keys().Job("absent")).Result()
		require.NoError(t, err)
		require.Zero(t, exists, "no ghost of a record is made")
	})
}

func TestBeginIsRefused(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t := b.t
		begin := func(id string, run int, delivery string) error {
			_, err := b.Begin(t.Context(), id, run, attemptOf(delivery, "w1"))
			return err
		}
		require.ErrorIs(t, begin("absent", 1, "d1"), ErrNotFound)
		require.ErrorIs(t, begin(b.created(t), 1, "d1"), ErrSuperseded, "not started")

		id, _ := b.running(t)
		require.ErrorIs(t, begin(id, 2, "d1"), ErrStaleRun)
		require.ErrorIs(t, begin(id, 1, "d2"), ErrSuperseded)
		_, err := b.Cancel(t.Context(), id, "")
		require.NoError(t, err)
		require.ErrorIs(t, begin(id, 1, "d1"), ErrCancelled)
		_, err = b.Commit(t.Context(), success(id, 1, nil))
		require.NoError(t, err)
		require.ErrorIs(t, begin(id, 1, "d1"), ErrEnded)
		require.Empty(t, b.get(t, id).Attempts)
	})
}

func TestGiveBack(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t := b.t
		id, attempt := b.calling(t)
		end := failed(attempt)
		back := GiveBack{
			Status: tasks.StatusRetrying, SpendRetry: true, Attempt: &end,
			Waiting:   &tasks.Waiting{Reason: "backoff", Since: time.Now(), Until: time.Now().Add(time.Second)},
			LastError: &tasks.Failure{Class: tasks.ClassUnavailable, Message: "apac answered 503"},
		}
		for range 2 {
			failures, err := b.GiveBack(t.Context(), id, 1, "d1", back)
			require.NoError(t, err)
			require.Equal(t, 1, failures)
		}
		record := b.get(t, id)
		assert.Equal(t, tasks.StatusRetrying, record.Status)
		assert.True(t, record.Attempts[0].Ended)
		result := record.Result()
		assert.Equal(t, "backoff", result.Waiting.Reason)
		assert.Equal(t, "apac answered 503", result.Error.Message)
		assert.Equal(t, 1, result.Retries)

		_, err := b.GiveBack(t.Context(), id, 1, "d2", back)
		require.ErrorIs(t, err, ErrSuperseded)
		_, err = b.GiveBack(t.Context(), id, 2, "d1", back)
		require.ErrorIs(t, err, ErrStaleRun)
		_, err = b.GiveBack(t.Context(), id, 1, "d1", GiveBack{Status: tasks.StatusFailed})
		require.ErrorContains(t, err, "neither queued nor retrying")

		record, err = b.Start(t.Context(), id, Delivery{ID: "d2", Worker: "w2", Run: 1})
		require.NoError(t, err)
		assert.Zero(t, record.Deaths, "a job that was given back was not lost")
		assert.Nil(t, record.Waiting)
		failures, err := b.GiveBack(t.Context(), id, 1, "d2", GiveBack{Status: tasks.StatusQueued})
		require.NoError(t, err)
		assert.Equal(t, 1, failures, "waiting spends nothing")
	})
}

func TestGiveBackOfACancelledJob(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t := b.t
		id, attempt := b.calling(t)
		_, err := b.Cancel(t.Context(), id, "default")
		require.NoError(t, err)
		end := failed(attempt)
		_, err = b.GiveBack(t.Context(), id, 1, "d1", GiveBack{Status: tasks.StatusRetrying, SpendRetry: true, Attempt: &end})
		require.ErrorIs(t, err, ErrCancelled)
		record := b.get(t, id)
		require.Equal(t, tasks.StatusRunning, record.Status)
		require.True(t, record.Attempts[0].Ended, "what was spent is known all the same")
		require.Zero(t, record.Failures)
	})
}

func TestReopen(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t := b.t
		id, attempt := b.calling(t)
		end := failed(attempt)
		_, err := b.Reopen(t.Context(), id)
		require.ErrorIs(t, err, ErrNotEnded)
		_, err = b.Commit(t.Context(), Commit{
			ID: id, Run: 1, Delivery: "d1", Status: tasks.StatusFailed, Attempt: &end,
			Result: tasks.Result{Error: &tasks.Failure{Class: tasks.ClassUnavailable, Message: "all are down"}},
		})
		require.NoError(t, err)
		require.Equal(t, []string{indexDead}, b.inIndex(t, id))

		record, err := b.Reopen(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, tasks.StatusQueued, record.Status)
		require.Equal(t, 2, record.Run)
		require.Equal(t, "all are down", record.Previous[0].Error.Message)
		require.Len(t, record.Attempts, 1, "the ledger goes on")
		require.Zero(t, record.Failures)
		require.Equal(t, []string{indexOpen}, b.inIndex(t, id))
		_, err = b.Reopen(t.Context(), id)
		require.ErrorIs(t, err, ErrNotEnded)

		committed, err := b.Commit(t.Context(), success(id, 1, nil))
		require.NoError(t, err)
		require.Equal(t, Committed{Status: tasks.StatusQueued}, committed, "an older run's result comes too late")
		require.Equal(t, []string{indexOpen}, b.inIndex(t, id))

		_, err = b.Start(t.Context(), id, Delivery{ID: "d1", Worker: "w1", Run: 2})
		require.NoError(t, err)
		seq, err := b.Begin(t.Context(), id, 2, attemptOf("d1", "w1"))
		require.NoError(t, err)
		require.Equal(t, 2, seq, "attempts are numbered over all runs")
		_, err = b.Commit(t.Context(), success(id, 2, nil))
		require.NoError(t, err)
		_, err = b.Reopen(t.Context(), id)
		require.ErrorIs(t, err, ErrSucceeded)
		_, err = b.Reopen(t.Context(), "absent")
		require.ErrorIs(t, err, ErrNotFound)
	})
}

func TestReopenAfterTheDeadline(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t := b.t
		job := b.job()
		createdAt := time.Now().Add(-2 * time.Hour)
		deadline := createdAt.Add(time.Hour)
		job.Job.CreatedAt, job.Job.Deadline = &createdAt, &deadline
		_, err := b.Create(t.Context(), job)
		require.NoError(t, err)
		key := b.Keys().Job(job.Job.ID)
		text, err := b.client.HGet(t.Context(), key, "job").Result()
		require.NoError(t, err)
		text, err = b.openField(job.Job.ID, fieldJob, text)
		require.NoError(t, err)
		text, err = b.sealField("write", job.Job.ID, fieldJob, strings.Replace(text, "{", `{"of_a_newer_contract":1,`, 1))
		require.NoError(t, err)
		require.NoError(t, b.client.HSet(t.Context(), key, "job", text).Err())
		_, err = b.Commit(t.Context(), Commit{ID: job.Job.ID, Run: 1, Status: tasks.StatusExpired})
		require.NoError(t, err)
		require.Positive(t, b.client.PTTL(t.Context(), key).Val())

		record, err := b.Reopen(t.Context(), job.Job.ID)
		require.NoError(t, err)
		require.WithinDuration(t, time.Now().Add(time.Hour), *record.Job.Deadline, time.Minute)
		require.Contains(t, record.jobText, "of_a_newer_contract")
		require.Negative(t, b.client.PTTL(t.Context(), key).Val(), "an open job does not expire")
	})
}
