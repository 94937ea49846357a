package jobstore

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/redistest"
	"github.com/forebay-queue/forebay/tasks/seal"
)

// with is the store of another process, on the same server, with keys of those names.
func (b bundle) with(keys ...string) bundle {
	other := newBundle(b.t, b.client, keys...)
	other.jobs = b.jobs
	return other
}

// planted is what nobody may find.
const planted = "PLANTED"

// secretJob has something planted wherever a user can write.
func (b bundle) secretJob() NewJob {
	job := b.job()
	job.Job.Request = []byte(`{"messages":[{"role":"user","content":"` + planted + `-request"}]}`)
	job.Job.Metadata = map[string]string{"document": planted + "-metadata"}
	return job
}

// fields is a record as it stands in Redis, and sealed names its fields that are sealed.
func (b bundle) fields(t testing.TB, id string) (fields map[string]string, sealed []string) {
	t.Helper()
	fields = b.client.HGetAll(t.Context(), b.Keys().Job(id)).Val()
	for _, name := range sealedFields {
		if seal.Sealed(fields[name]) {
			sealed = append(sealed, name)
		}
	}
	for name, text := range fields {
		require.NotContains(t, text, planted, name)
	}
	return fields, sealed
}

// Through its whole life, nothing of what was asked or answered stands in a record, and all of it is read from there.
func TestNothingPlainStandsInASealedRecord(t *testing.T) {
	t.Parallel()
	client, _ := redistest.Real(t)
	b := newBundle(t, client, "k1")
	job := b.secretJob()
	id := job.Job.ID
	_, err := b.Create(t.Context(), job)
	require.NoError(t, err)
	fields, sealed := b.fields(t, id)
	assert.Equal(t, []string{"job", "metadata"}, sealed)
	assert.NotContains(t, fields["fingerprint"], job.Fingerprint)

	record, err := b.Start(t.Context(), id, Delivery{ID: "d1", Worker: "w1", Run: 1})
	require.NoError(t, err)
	assert.JSONEq(t, string(job.Job.Request), string(record.Job.Request))
	refusal := tasks.Failure{Class: tasks.ClassUnavailable, Code: "http_503", Message: planted + "-message", Detail: planted + "-detail"}
	_, err = b.GiveBack(t.Context(), id, 1, "d1", GiveBack{Status: tasks.StatusRetrying, LastError: &refusal})
	require.NoError(t, err)
	_, sealed = b.fields(t, id)
	assert.Equal(t, []string{"job", "metadata", "last_error"}, sealed)
	assert.Equal(t, &refusal, b.get(t, id).LastError)

	_, err = b.Start(t.Context(), id, Delivery{ID: "d1", Worker: "w1", Run: 1})
	require.NoError(t, err)
	_, err = b.Commit(t.Context(), Commit{
		ID: id, Run: 1, Delivery: "d1", Status: tasks.StatusFailed, Response: []byte(planted + "-body"), Result: tasks.Result{Error: &refusal},
	})
	require.NoError(t, err)
	_, sealed = b.fields(t, id)
	assert.Equal(t, []string{"job", "result", "response", "metadata"}, sealed)
	assert.Equal(t, &refusal, b.get(t, id).Result().Error)
	page, err := b.List(t.Context(), Filter{Codes: []string{"http_503"}, Text: strings.ToLower(planted) + "-metadata"}, "", 0)
	require.NoError(t, err)
	require.Len(t, page.Jobs, 1, "lists find what they look for in sealed fields")
	assert.Empty(t, page.Jobs[0].Error.Detail)

	_, err = b.Reopen(t.Context(), id)
	require.NoError(t, err)
	_, sealed = b.fields(t, id)
	assert.Equal(t, []string{"job", "previous", "metadata"}, sealed)
	assert.Equal(t, &refusal, b.get(t, id).Previous[0].Error)

	_, err = b.Start(t.Context(), id, Delivery{ID: "d2", Worker: "w1", Run: 2})
	require.NoError(t, err)
	commit := Commit{
		ID: id, Run: 2, Delivery: "d2", Status: tasks.StatusSucceeded, Response: []byte(`{"choices":"` + planted + `"}`),
		Result: tasks.Result{Text: planted + "-text"},
	}
	for range 2 { // it may be sent twice
		committed, err := b.Commit(t.Context(), commit)
		require.NoError(t, err)
		assert.True(t, committed.Committed)
	}
	fields, sealed = b.fields(t, id)
	assert.Equal(t, []string{"job", "result", "response", "previous", "metadata"}, sealed)
	result := b.get(t, id).Result()
	assert.Equal(t, planted+"-text", result.Text)
	assert.Equal(t, string(commit.Response), string(result.Response))
	assert.Equal(t, job.Job.Metadata, result.Metadata)
	assert.Equal(t, "succeeded", fields["status"], "what is not sealed is readable")

	refused := b.secretJob().Job
	_, err = b.Refuse(t.Context(), Refusal{What: "entry 1", Job: refused, Failure: refusal})
	require.NoError(t, err)
	_, sealed = b.fields(t, refused.ID)
	assert.Equal(t, []string{"job", "result"}, sealed)
}

// A text that was sealed for one place does not open in another.
func TestSealedFieldsStayInTheirPlace(t *testing.T) {
	t.Parallel()
	client, _ := redistest.Embedded(t)
	b := newBundle(t, client, "k1")
	one, two := b.created(t), b.created(t)
	text := client.HGet(t.Context(), b.Keys().Job(one), fieldJob).Val()
	require.NoError(t, client.HSet(t.Context(), b.Keys().Job(two), fieldJob, text).Err())
	_, err := b.Get(t.Context(), two)
	require.ErrorIs(t, err, ErrUnreadable)
	require.ErrorContains(t, err, "read job "+two+": field job: sealed under the key k1, ")
}

// Keys are rotated, and encryption turned on, while jobs are there and are enqueued again.
func TestRotationKeepsJobs(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t := b.t
		plain, first, both, after := b.with(), b.with("k1"), b.with("k2", "k1"), b.with("k2")
		job, younger := b.job(), b.job()
		again := func(by bundle, job NewJob) error {
			created, err := by.Create(t.Context(), job)
			assert.False(t, created.Created)
			return err
		}
		_, err := plain.Create(t.Context(), job)
		require.NoError(t, err)
		_, err = first.Create(t.Context(), younger)
		require.NoError(t, err)
		for _, by := range []bundle{first, both, after} {
			require.NoError(t, again(by, job), "what was plain stays the same job")
			require.Equal(t, job.Job.Request, by.get(t, job.Job.ID).Job.Request)
		}
		require.NoError(t, again(first, younger))
		require.NoError(t, again(both, younger), "and what an older key has sealed")
		require.ErrorIs(t, again(after, younger), ErrIDConflict, "without its key it is not known whether it is the same")
		other := younger
		other.Fingerprint = "f2"
		require.ErrorIs(t, again(both, other), ErrIDConflict)

		// What is written anew is sealed under the first key.
		_, err = both.Cancel(t.Context(), younger.Job.ID, "")
		require.NoError(t, err)
		record, err := both.Reopen(t.Context(), younger.Job.ID)
		require.NoError(t, err)
		require.Equal(t, 2, record.Run)
		text := b.client.HGet(t.Context(), b.Keys().Job(younger.Job.ID), fieldJob).Val()
		require.Contains(t, text, `{"sealed":"k2:`)
	})
}

// One record that cannot be opened stops nobody, and can be taken away.
func TestUnreadableRecordsStopNothing(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t := b.t
		lost := b.with("lost")
		waits := lost.created(t)
		ended := lost.secretJob()
		_, err := lost.Create(t.Context(), ended)
		require.NoError(t, err)
		_, err = lost.Commit(t.Context(), Commit{ID: ended.Job.ID, Run: 1, Status: tasks.StatusFailed, Result: tasks.Result{Error: &tasks.Failure{Class: tasks.ClassInvalid, Message: "m"}}})
		require.NoError(t, err)
		good := b.created(t)

		page, err := b.List(t.Context(), Filter{}, "", 0)
		require.NoError(t, err)
		rows := map[string]Row{}
		for _, row := range page.Jobs {
			rows[row.ID] = row
		}
		require.Len(t, rows, 3)
		assert.Equal(t, map[string]string{"document": "7"}, rows[good].Metadata)
		assert.Equal(t, tasks.StatusQueued, rows[waits].Status)
		assert.Empty(t, rows[waits].Metadata)
		assert.Equal(t, CodeUnreadable, rows[ended.Job.ID].Error.Code)
		assert.Contains(t, rows[ended.Job.ID].Error.Message, "the key lost")

		record, err := b.Get(t.Context(), waits)
		require.ErrorIs(t, err, ErrUnreadable)
		require.ErrorContains(t, err, "read job "+waits+": field job: sealed under the key lost, which this process does not have")
		assert.Equal(t, tasks.StatusQueued, record.Status)
		assert.Equal(t, waits, record.Job.ID)
		records, err := b.GetMany(t.Context(), []string{good, waits})
		require.ErrorIs(t, err, ErrUnreadable)
		assert.NotNil(t, records[0])
		assert.Nil(t, records[1])

		// A delivery takes the job, and can give it back.
		record, err = b.Start(t.Context(), waits, Delivery{ID: "d1", Worker: "w1", Run: 1})
		require.ErrorIs(t, err, ErrUnreadable)
		_, err = b.GiveBack(t.Context(), waits, record.Run, "d1", GiveBack{Status: tasks.StatusQueued})
		require.NoError(t, err)

		require.ErrorIs(t, b.MendIndex(t.Context(), ended.Job.ID), ErrUnreadable)
		require.NoError(t, b.Postpone(t.Context(), waits, time.Now().Add(-time.Hour)))
		late, err := b.Overdue(t.Context(), time.Now(), 10)
		require.NoError(t, err)
		assert.Equal(t, []string{waits}, late)
		_, err = b.Reopen(t.Context(), ended.Job.ID)
		require.ErrorIs(t, err, ErrUnreadable, "what it asks for is not known")

		reply, err := b.Cancel(t.Context(), waits, "")
		require.NoError(t, err)
		assert.True(t, reply.Cancelled)
		for _, id := range []string{waits, ended.Job.ID} {
			require.NoError(t, b.Discard(t.Context(), id, 0))
		}
	})
}

// BenchmarkSealedRecord writes and reads a record.
func BenchmarkSealedRecord(b *testing.B) {
	client, _ := redistest.Real(b)
	for name, keys := range map[string][]string{"plain": nil, "sealed": {"k1"}} {
		for _, size := range []int{4 << 10, 64 << 10} {
			b.Run(name+"/"+map[int]string{4 << 10: "4KB", 64 << 10: "64KB"}[size], func(b *testing.B) {
				store, err := New(Config{Redis: client, Sealer: testSealer(b, keys...)})
				require.NoError(b, err)
				defer store.Close()
				now := time.Now()
				job := NewJob{Fingerprint: "f1", Job: tasks.Job{
					ID: "bench-" + name, Tenant: "default", Priority: tasks.PriorityDefault, CreatedAt: &now,
					Request: []byte(`{"input":"` + strings.Repeat("x", size) + `"}`),
				}}
				for b.Loop() {
					if _, err := store.Create(b.Context(), job); err != nil {
						b.Fatal(err)
					}
					if _, err := store.Get(b.Context(), job.Job.ID); err != nil {
						b.Fatal(err)
					}
				}
				client.Del(b.Context(), store.Keys().Job(job.Job.ID))
			})
		}
	}
}
