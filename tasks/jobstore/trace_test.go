package jobstore

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
)

// A job stays in the trace that it was first handed in with, also in its next run; it is no part of what was asked.
func TestTheRecordKeepsTheTrace(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		job := b.job()
		id := job.Job.ID
		job.Job.Trace = tasks.TraceContext{Parent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", State: "a=b"}
		first := job.Job.Trace
		created, err := b.Create(b.t.Context(), job)
		require.NoError(b.t, err)
		require.True(b.t, created.Created)
		job.Job.Trace = tasks.TraceContext{Parent: "00-1af7651916cd43dd8448eb211c80319c-c7ad6b7169203331-01"}
		created, err = b.Create(b.t.Context(), job)
		require.NoError(b.t, err, "the same job")
		require.False(b.t, created.Created)
		requireTrace := func() {
			b.t.Helper()
			record, err := b.Get(b.t.Context(), id)
			require.NoError(b.t, err)
			assert.Equal(b.t, first, record.Job.Trace)
		}
		requireTrace()
		_, err = b.Cancel(b.t.Context(), id, "")
		require.NoError(b.t, err)
		_, err = b.Reopen(b.t.Context(), id)
		require.NoError(b.t, err)
		requireTrace()
	})
}

// Records of before have no such fields.
func TestARecordWithoutATrace(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		job := b.job()
		_, err := b.Create(b.t.Context(), job)
		require.NoError(b.t, err)
		assert.False(b.t, b.client.HExists(b.t.Context(), b.Keys().Job(job.Job.ID), tasks.TraceParentField).Val())
		record, err := b.Get(b.t.Context(), job.Job.ID)
		require.NoError(b.t, err)
		assert.Zero(b.t, record.Job.Trace)
	})
}
