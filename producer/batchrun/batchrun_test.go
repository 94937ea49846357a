package batchrun_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/producer/batchlines"
	"github.com/forebay-queue/forebay/producer/batchrun"
	"github.com/forebay-queue/forebay/producer/files"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/batches"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/jobstore"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

const chat = "/v1/chat/completions"

// bundle is a Runner's surroundings.
type bundle struct {
	t       testing.TB
	redis   *redis.Client
	client  *producer.Client
	files   *files.Store
	jobs    *jobstore.Store
	catalog *catalog.Catalog
}

func newBundle(t testing.TB, client *redis.Client) bundle {
	t.Helper()
	price := 2.5
	c := &catalog.Catalog{
		Accounts:     map[string]*catalog.Account{"local": {}},
		Endpoints:    map[string]*catalog.Endpoint{"here": {Account: "local", Priority: 1, URL: "http://127.0.0.1:1/v1", Auth: catalog.AuthNone}},
		Models:       map[string]*catalog.Model{"small": {Output: &price}},
		Tiers:        []catalog.Tier{{Name: "low", Models: []string{"small"}}},
		FallbackTier: "low",
	}
	require.NoError(t, c.Validate())
	jobs, err := producer.New(producer.Config{Redis: client, Catalog: c})
	require.NoError(t, err)
	t.Cleanup(func() { _ = jobs.Close() })
	kept, err := files.New(files.Config{Redis: client, URL: "file://" + filepath.Join(t.TempDir(), "files")})
	require.NoError(t, err)
	t.Cleanup(func() { _ = kept.Close() })
	store, err := jobstore.New(jobstore.Config{Redis: client})
	require.NoError(t, err)
	t.Cleanup(func() { _ = store.Close() })
	return bundle{t: t, redis: client, client: jobs, files: kept, jobs: store, catalog: c}
}

func embedded(t testing.TB) bundle {
	t.Helper()
	client, _ := redistest.Embedded(t)
	return newBundle(t, client)
}

// run starts a Runner; it ends with the returned function, or the test.
func (b bundle) run() (stop func()) {
	b.t.Helper()
	runner, err := batchrun.New(batchrun.Config{Client: b.client, Files: b.files, Look: 10 * time.Millisecond, Log: zerolog.New(zerolog.NewTestWriter(b.t))})
	require.NoError(b.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- runner.Run(ctx); close(ended) }()
	stop = func() {
		cancel()
		require.NoError(b.t, <-ended)
	}
	b.t.Cleanup(stop)
	return stop
}

func line(id, body string) string {
	return fmt.Sprintf(`{"custom_id":%q,"method":"POST","url":%q,"body":%s}`, id, chat, body)
}

const good = `{"model":"small","messages":[{"role":"user","content":"a"}]}`

// batch makes a batch of a file.
func (b bundle) batch(text string, deadline time.Duration) string {
	b.t.Helper()
	w, err := b.files.Create(b.t.Context(), "", 0)
	require.NoError(b.t, err)
	_, err = io.WriteString(w, text)
	require.NoError(b.t, err)
	file, err := w.Commit(b.t.Context(), files.File{Tenant: "acme", Filename: "in.jsonl", Purpose: files.PurposeBatch}, 0)
	require.NoError(b.t, err)
	id := batches.NewID()
	made := batches.Batch{
		ID: id, Tenant: "acme", Kind: batches.KindFile, Endpoint: chat, CompletionWindow: "24h", InputFileID: file.ID,
		Retention: time.Hour, CreatedAt: time.Now(), Deadline: time.Now().Add(deadline), OutputExpiresAfter: 2 * time.Hour,
	}
	require.NoError(b.t, batchrun.Take(b.t.Context(), b.files, file, &made))
	require.NoError(b.t, b.files.Delete(b.t.Context(), file.ID, "acme")) // it is not needed any more
	_, err = b.client.Batches().Create(b.t.Context(), made)
	require.NoError(b.t, err)
	return id
}

func (b bundle) get(id string) batches.Batch {
	b.t.Helper()
	batch, err := b.client.Batches().Get(b.t.Context(), id, "acme")
	require.NoError(b.t, err)
	return batch
}

// await waits until a batch has a status.
func (b bundle) await(id string, status batches.Status) batches.Batch {
	b.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if batch := b.get(id); batch.Status == status {
			return batch
		}
	}
	require.Fail(b.t, "the batch is not "+string(status), "%+v", b.get(id))
	return batches.Batch{}
}

// awaitEnqueued waits until all lines of a batch are enqueued.
func (b bundle) awaitEnqueued(id string) batches.Batch {
	b.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if batch := b.get(id); batch.Total > 0 && batch.Notes["enqueued"] == fmt.Sprint(batch.Total) {
			return batch
		}
	}
	require.Fail(b.t, "the batch is not enqueued", "%+v", b.get(id))
	return batches.Batch{}
}

// end ends a member, as a worker does.
func (b bundle) end(id string, number int, status tasks.Status) {
	b.t.Helper()
	member := batches.MemberID(id, number)
	record, err := b.jobs.Start(b.t.Context(), member, jobstore.Delivery{ID: "d", Worker: "w"})
	require.NoError(b.t, err)
	result := record.Outcome(status, time.Now())
	response := []byte(fmt.Sprintf("{\"id\": \"answer-%d\",\n\"choices\":[]}", number))
	if status != tasks.StatusSucceeded {
		result.Error, response = &tasks.Failure{Class: tasks.ClassUnavailable, Code: "unavailable", Message: "inner address"}, nil
	}
	committed, err := b.jobs.Commit(b.t.Context(), jobstore.Commit{ID: member, Run: record.Run, Delivery: "d", Status: status, Result: result, Response: response, Record: record})
	require.NoError(b.t, err)
	require.True(b.t, committed.Committed)
}

// lines reads a file of a batch; none for no file.
func (b bundle) lines(id string) (list []batchlines.Output) {
	b.t.Helper()
	if id == "" {
		return nil
	}
	file, err := b.files.Get(b.t.Context(), id, "acme")
	require.NoError(b.t, err)
	require.Equal(b.t, files.PurposeBatchOutput, file.Purpose)
	require.Equal(b.t, 2*time.Hour, file.ExpiresAt.Sub(file.CreatedAt))
	reader, err := b.files.Open(b.t.Context(), file)
	require.NoError(b.t, err)
	defer reader.Close()
	for scanner := bufio.NewScanner(reader); scanner.Scan(); {
		var line batchlines.Output
		require.NoError(b.t, json.Unmarshal(scanner.Bytes(), &line))
		list = append(list, line)
	}
	return list
}

// From the file to its answers, on the embedded Redis and on a real one: what is refused fails alone.
func TestABatchFromEndToEnd(t *testing.T) {
	t.Parallel()
	client, _ := redistest.Real(t)
	for name, b := range map[string]bundle{"embedded": embedded(t), "real": newBundle(t, client)} {
		id := b.batch(strings.Join([]string{
			line("one", good), "", line("no model", `{"messages":[]}`), line("two", good), line("unknown", `{"model":"nobody","messages":[]}`),
			line("streams", `{"model":"small","stream":true,"messages":[{"role":"user","content":"a"}]}`), line("three", good),
		}, "\r\n"), time.Hour)
		b.run()
		batch := b.awaitEnqueued(id)
		require.Equal(t, 6, batch.Total, name)
		b.end(id, 5, tasks.StatusSucceeded)
		b.end(id, 0, tasks.StatusSucceeded)
		b.end(id, 2, tasks.StatusFailed)
		batch = b.await(id, batches.StatusCompleted)
		require.Equal(t, batches.Counts{Succeeded: 2, Failed: 4}, batch.Counts, name)

		output := b.lines(batch.OutputFileID)
		require.Len(t, output, 2)
		require.Equal(t, []string{"one", "three"}, []string{output[0].CustomID, output[1].CustomID}, "in the input's order")
		require.Equal(t, 200, output[1].Response.StatusCode)
		require.JSONEq(t, `{"id":"answer-5","choices":[]}`, string(output[1].Response.Body))
		require.Equal(t, batches.MemberID(id, 5), output[1].Response.RequestID)
		require.Nil(t, output[0].Error)

		failed := b.lines(batch.ErrorFileID)
		require.Len(t, failed, 4)
		for i, want := range []struct {
			customID string
			status   int
			code     string
		}{{"no model", 400, "missing_required_parameter"}, {"two", 503, "provider_unavailable"}, {"unknown", 400, "model_not_found"}, {"streams", 400, "unsupported_value"}} {
			require.Equal(t, want.customID, failed[i].CustomID)
			require.Nil(t, failed[i].Error)
			require.Equal(t, want.status, failed[i].Response.StatusCode, string(failed[i].Response.Body))
			require.Contains(t, string(failed[i].Response.Body), want.code)
			require.NotContains(t, string(failed[i].Response.Body), "inner address")
		}
		require.Eventually(t, func() bool { // the end is told after it has come
			open, err := b.client.Batches().Open(t.Context())
			return err == nil && len(open) == 0
		}, 10*time.Second, 5*time.Millisecond)
	}
}

// A file of a wrong form fails the batch, with its lines; nothing of it is enqueued.
func TestABatchThatIsNotValid(t *testing.T) {
	t.Parallel()
	b := embedded(t)
	b.run()
	id := b.batch(line("a", good)+"\nnot JSON\n"+line("a", good), time.Hour)
	batch := b.await(id, batches.StatusFailed)
	require.Len(t, batch.Problems, 2)
	require.Equal(t, "invalid_json_line", batch.Problems[0].Code)
	require.Equal(t, 2, batch.Problems[0].Line)
	require.Equal(t, "duplicate_custom_id", batch.Problems[1].Code)
	_, err := b.client.Get(t.Context(), batches.MemberID(id, 0))
	require.ErrorIs(t, err, producer.ErrNotFound)

	require.Equal(t, "empty_file", b.await(b.batch("\n", time.Hour), batches.StatusFailed).Problems[0].Code)

	late := b.batch(line("a", good), -time.Second)
	batch = b.await(late, batches.StatusExpired)
	require.Equal(t, "batch_expired", b.lines(batch.ErrorFileID)[0].Error.Code)
	require.Empty(t, batch.OutputFileID)
}

// A Runner that is stopped anywhere is followed by another one, and each member is enqueued once.
func TestAnotherRunnerGoesOn(t *testing.T) {
	t.Parallel()
	b := embedded(t)
	var text strings.Builder
	const requests = 700
	for i := range requests {
		text.WriteString(line(fmt.Sprint(i), good) + "\n")
	}
	id := b.batch(text.String(), time.Hour)
	for i := 0; ; i++ {
		require.Less(t, i, 100, "%+v", b.get(id)) // on a busy machine it gets little done each time
		stop := b.run()
		time.Sleep(time.Duration(5+60*i) * time.Millisecond) // wherever it is then
		stop()
		if batch := b.get(id); batch.Notes["enqueued"] == fmt.Sprint(requests) {
			require.Positive(t, i, "it was stopped on the way")
			break
		}
	}
	queues, err := b.client.Queues(t.Context())
	require.NoError(t, err)
	shown, err := json.Marshal(queues)
	require.NoError(t, err)
	require.Contains(t, string(shown), fmt.Sprint(requests))
	for number := range requests {
		b.end(id, number, tasks.StatusSucceeded)
	}
	for i := 0; b.get(id).Status != batches.StatusCompleted; i++ {
		require.Less(t, i, 30, "%+v", b.get(id))
		stop := b.run()
		time.Sleep(time.Duration(5+60*i) * time.Millisecond)
		stop()
	}
	output := b.lines(b.get(id).OutputFileID)
	require.Len(t, output, requests)
	for i, line := range output {
		require.Equal(t, fmt.Sprint(i), line.CustomID)
	}
	list, _, err := b.files.List(t.Context(), files.Query{Tenant: "acme", Purpose: files.PurposeBatchOutput, Limit: 10})
	require.NoError(t, err)
	require.Len(t, list, 1, "one file, however often it was begun")
}

// A cancel ends what waits, and the answers that came before it are in the files.
func TestACancelledBatch(t *testing.T) {
	t.Parallel()
	b := embedded(t)
	b.run()
	id := b.batch(line("a", good)+"\n"+line("b", good)+"\n"+line("c", good), time.Hour)
	b.awaitEnqueued(id)
	b.end(id, 1, tasks.StatusSucceeded)
	_, err := b.client.Batches().Cancel(t.Context(), id, "acme")
	require.NoError(t, err)
	batch := b.await(id, batches.StatusCancelled)
	require.Equal(t, batches.Counts{Succeeded: 1, Cancelled: 2}, batch.Counts)
	require.Equal(t, "b", b.lines(batch.OutputFileID)[0].CustomID)
	failed := b.lines(batch.ErrorFileID)
	require.Len(t, failed, 2)
	require.Equal(t, "batch_cancelled", failed[0].Error.Code)
	require.Nil(t, failed[0].Response)

	// While it is enqueued: nothing of it is left to run.
	var text strings.Builder
	const requests = 2500
	for i := range requests {
		text.WriteString(line(fmt.Sprint(i), good) + "\n")
	}
	id = b.batch(text.String(), time.Hour)
	b.await(id, batches.StatusInProgress)
	_, err = b.client.Batches().Cancel(t.Context(), id, "acme")
	require.NoError(t, err)
	b.await(id, batches.StatusCancelled)
	for number := range requests {
		result, err := b.client.Get(t.Context(), batches.MemberID(id, number))
		if !errors.Is(err, producer.ErrNotFound) {
			require.NoError(t, err)
			require.Equal(t, tasks.StatusCancelled, result.Status)
		}
	}

	// All of it is run after all: what was enqueued, and what was not.
	reopened, err := b.client.RetryBatch(t.Context(), id, "acme")
	require.NoError(t, err)
	require.Equal(t, requests, reopened)
	b.awaitEnqueued(id)
	for number := range requests {
		b.end(id, number, tasks.StatusSucceeded)
	}
	batch = b.await(id, batches.StatusCompleted)
	require.Equal(t, batches.Counts{Succeeded: requests}, batch.Counts)
	require.Len(t, b.lines(batch.OutputFileID), requests)
	require.Empty(t, batch.ErrorFileID)
}

// A member is run again when the records of the others have expired: their answers are in the earlier output.
func TestRetriedAfterTheRecordsAreGone(t *testing.T) {
	t.Parallel()
	b := embedded(t)
	b.run()
	id := b.batch(line("a", good)+"\n"+line("b", good)+"\n"+line("c", good)+"\n", time.Hour)
	b.awaitEnqueued(id)
	b.end(id, 0, tasks.StatusSucceeded)
	b.end(id, 1, tasks.StatusFailed)
	b.end(id, 2, tasks.StatusSucceeded)
	first := b.await(id, batches.StatusCompleted)
	require.Len(t, b.lines(first.OutputFileID), 2)
	for _, number := range []int{0, 2} {
		require.NoError(t, b.jobs.Discard(t.Context(), batches.MemberID(id, number), 0))
	}
	reopened, err := b.client.RetryBatch(t.Context(), id, "acme")
	require.NoError(t, err)
	require.Equal(t, 1, reopened)
	b.end(id, 1, tasks.StatusSucceeded)
	second := b.await(id, batches.StatusCompleted)
	require.NotEqual(t, first.OutputFileID, second.OutputFileID)
	require.Empty(t, second.ErrorFileID)
	var answers []string
	for _, line := range b.lines(second.OutputFileID) {
		answers = append(answers, line.CustomID+" "+string(line.Response.Body))
	}
	require.Equal(t, []string{
		`a {"id":"answer-0","choices":[]}`, `b {"id":"answer-1","choices":[]}`, `c {"id":"answer-2","choices":[]}`,
	}, answers)
}
