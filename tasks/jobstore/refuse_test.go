package jobstore

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
)

func refusalOf(what, id string) Refusal {
	return Refusal{
		What: what, Job: tasks.Job{ID: id, Tenant: "acme", Input: "secret", Metadata: map[string]string{"document": "7"}},
		Failure: tasks.Failure{Class: tasks.ClassInvalid, Code: "invalid_job", Message: "tier: unknown"},
	}
}

func TestRefuse(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t := b.t
		waited := make(chan *Record, 1)
		go func() {
			for { // as a poller does before the record is there
				if record, err := b.Wait(t.Context(), "r-1"); err == nil {
					waited <- record
					return
				}
				time.Sleep(time.Millisecond)
			}
		}()
		for range 2 { // once more, after a crash
			written, err := b.Refuse(t.Context(), refusalOf("entry 1-0", "r-1"))
			require.NoError(t, err)
			require.True(t, written)
		}
		record := <-waited
		result := record.Result()
		assert.Equal(t, tasks.StatusFailed, result.Status)
		assert.Equal(t, tasks.ClassInvalid, result.Error.Class)
		assert.Equal(t, "tier: unknown", result.Error.Message)
		assert.Equal(t, "acme", result.Tenant)
		assert.Equal(t, "7", result.Metadata["document"])
		assert.Empty(t, record.Job.Input, "what was asked is not kept")
		names, ttl := b.placed(t, "r-1")
		assert.Equal(t, []string{indexDead}, names)
		assert.InDelta(t, DefaultRetention, ttl, float64(time.Minute), "it is no dead letter")

		written, err := b.Refuse(t.Context(), refusalOf("entry 2-0", "r-1"))
		require.NoError(t, err)
		assert.False(t, written, "another refusal leaves it as it stands")
		_, err = b.Reopen(t.Context(), "r-1")
		require.ErrorIs(t, err, ErrRefused)
		cancelled, err := b.Cancel(t.Context(), "r-1", "")
		require.NoError(t, err)
		assert.Equal(t, tasks.StatusFailed, cancelled.Status)
	})
}

// Who has corrected a job sends it again under its id.
func TestARefusedJobMakesRoom(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t := b.t
		job := b.job()
		_, err := b.Refuse(t.Context(), refusalOf("entry 1-0", job.Job.ID))
		require.NoError(t, err)
		created, err := b.Create(t.Context(), job)
		require.NoError(t, err)
		assert.True(t, created.Created)
		names, ttl := b.placed(t, job.Job.ID)
		assert.Equal(t, []string{indexOpen}, names)
		assert.Negative(t, ttl, "it does not expire")
		record := b.get(t, job.Job.ID)
		assert.Empty(t, record.Refused)
		assert.Equal(t, tasks.StatusQueued, record.Status)
		assert.Nil(t, record.Result().Error)

		written, err := b.Refuse(t.Context(), refusalOf("entry 1-0", job.Job.ID))
		require.NoError(t, err)
		assert.False(t, written, "a job is never overwritten")
		assert.Equal(t, tasks.StatusQueued, b.get(t, job.Job.ID).Status)
	})
}
