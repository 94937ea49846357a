package producer_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/producer/httpapi"
	"github.com/forebay-queue/forebay/tasks"
)

// ways are all that implement Jobs, each on a server of the bundle's.
var ways = map[string]func(t *testing.T, b bundle) producer.Jobs{
	"redis": func(_ *testing.T, b bundle) producer.Jobs { return b.Client },
	"http": func(t *testing.T, b bundle) producer.Jobs {
		t.Helper()
		return overHTTP(t, b, func(next http.Handler) http.Handler { return next })
	},
}

// overHTTP is a client of an API that has something before it.
func overHTTP(t *testing.T, b bundle, before func(http.Handler) http.Handler) *producer.HTTPClient {
	t.Helper()
	api, err := httpapi.Handler(httpapi.Config{Client: b.Client})
	require.NoError(t, err)
	server := httptest.NewServer(before(api))
	t.Cleanup(server.Close)
	client, err := producer.NewHTTP(producer.HTTPConfig{URL: server.URL})
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func onEveryWay(t *testing.T, test func(t *testing.T, b bundle, jobs producer.Jobs)) {
	t.Helper()
	for name, open := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(b bundle) { test(b.t, b, open(b.t, b)) })
		})
	}
}

// Whatever lies between a program and the jobs, it is told the same.
func TestEveryWayTellsTheSame(t *testing.T) {
	t.Parallel()
	onEveryWay(t, func(t *testing.T, b bundle, jobs producer.Jobs) {
		require.NoError(t, jobs.Ready(t.Context()))
		for _, created := range []bool{true, false} {
			receipt, err := jobs.Enqueue(t.Context(), summary("a"))
			require.NoError(t, err)
			require.Equal(t, producer.Receipt{ID: "a", Created: created, Status: tasks.StatusQueued}, receipt)
		}
		receipt, err := jobs.Enqueue(t.Context(), summary(""))
		require.NoError(t, err)
		require.Len(t, receipt.ID, 36)

		other := summary("a")
		other.Input = "Another long text."
		_, err = jobs.Enqueue(t.Context(), other)
		require.ErrorIs(t, err, producer.ErrIDConflict)
		require.ErrorContains(t, err, "a")
		require.NotContains(t, err.Error(), "long text")
		for field, bad := range map[string]func(*tasks.Job){
			"task_type":      func(j *tasks.Job) { j.TaskType = "unknown_type" },
			"id":             func(j *tasks.Job) { j.ID = "no/id" },
			"input":          func(j *tasks.Job) { j.Input = "\xff" },
			"request.stream": func(j *tasks.Job) { j.Input, j.Request = "", []byte(`{"messages":[],"stream":true}`) },
		} {
			job := summary("refused")
			bad(&job)
			_, err := jobs.Enqueue(t.Context(), job)
			var refused *tasks.FieldError
			require.ErrorIs(t, err, tasks.ErrInvalidJob, field)
			require.ErrorAs(t, err, &refused, field)
			require.Equal(t, field, refused.Field)
		}

		result, err := jobs.Get(t.Context(), "a")
		require.NoError(t, err)
		require.Equal(t, tasks.StatusQueued, result.Status)
		for _, act := range []func(context.Context, string) (tasks.Result, error){jobs.Get, jobs.Wait, jobs.Cancel, jobs.Reopen} {
			_, err := act(t.Context(), "absent")
			require.ErrorIs(t, err, producer.ErrNotFound)
			require.ErrorContains(t, err, "job absent")
			_, err = act(t.Context(), "no/id")
			require.ErrorIs(t, err, tasks.ErrInvalidJob)
		}
		_, err = jobs.Reopen(t.Context(), "a")
		require.ErrorIs(t, err, producer.ErrNotEnded)
	})
}

func TestEveryWayWaitsCancelsAndReopens(t *testing.T) {
	t.Parallel()
	onEveryWay(t, func(t *testing.T, b bundle, jobs producer.Jobs) {
		for _, id := range []string{"a", "b"} {
			_, err := jobs.Enqueue(t.Context(), summary(id))
			require.NoError(t, err)
		}
		short, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		_, err := jobs.Wait(short, "a")
		cancel()
		require.ErrorIs(t, err, context.DeadlineExceeded)

		results := make(chan tasks.Result, 1)
		go func() {
			result, err := jobs.Wait(t.Context(), "a")
			assert.NoError(t, err)
			results <- result
		}()
		b.work(t, "a", tasks.StatusSucceeded)
		result := <-results
		require.Equal(t, "short", result.Text)
		require.JSONEq(t, `{"choices":[]}`, string(result.Response))
		_, err = jobs.Reopen(t.Context(), "a")
		require.ErrorIs(t, err, producer.ErrSucceeded)

		for range 2 {
			result, err = jobs.Cancel(t.Context(), "b")
			require.NoError(t, err)
			require.Equal(t, tasks.StatusCancelled, result.Status)
		}
		result, err = jobs.Reopen(t.Context(), "b")
		require.NoError(t, err)
		require.Equal(t, 2, result.Run)
		require.Equal(t, tasks.StatusQueued, result.Status)

		_, err = jobs.ReopenRun(t.Context(), "b", 1)
		require.ErrorIs(t, err, producer.ErrStaleRun)
		require.ErrorIs(t, jobs.Discard(t.Context(), "b", 1), producer.ErrStaleRun)
		require.ErrorIs(t, jobs.Discard(t.Context(), "b", 0), producer.ErrNotEnded)
		b.work(t, "b", tasks.StatusFailed)
		result, err = jobs.ReopenRun(t.Context(), "b", 2)
		require.NoError(t, err)
		require.Equal(t, 3, result.Run)
		b.work(t, "b", tasks.StatusFailed)
		require.NoError(t, jobs.Discard(t.Context(), "b", 3))
		require.ErrorIs(t, jobs.Discard(t.Context(), "b", 0), producer.ErrNotFound)
		_, err = jobs.Get(t.Context(), "b")
		require.ErrorIs(t, err, producer.ErrNotFound)
	})
}

func TestEveryWayTakesMany(t *testing.T) {
	t.Parallel()
	onEveryWay(t, func(t *testing.T, b bundle, jobs producer.Jobs) {
		var all []tasks.Job
		for i := range 600 {
			all = append(all, summary("doc-"+strings.Repeat("x", i%7)+string(rune('a'+i%26))+time.Duration(i).String()))
			all[i].ID = strings.NewReplacer("µ", "u", ".", "_").Replace(all[i].ID)
		}
		all[3].TaskType, all[300].ID, all[599] = "unknown_type", "bad id", all[598]
		next := 0
		for receipt, err := range jobs.EnqueueMany(t.Context(), slices.Values(slices.Clone(all))) {
			require.Equal(t, next, receipt.Index)
			switch next {
			case 3, 300:
				require.ErrorIs(t, err, tasks.ErrInvalidJob)
			default:
				require.NoError(t, err)
				require.Equal(t, producer.Receipt{Index: next, ID: all[next].ID, Created: next != 599, Status: tasks.StatusQueued}, receipt)
			}
			next++
		}
		require.Equal(t, 600, next)
		require.Len(t, b.taskIDs(t, "default"), 597)
	})
}

func TestEveryWayLists(t *testing.T) {
	t.Parallel()
	onEveryWay(t, func(t *testing.T, b bundle, jobs producer.Jobs) {
		for _, id := range []string{"a", "b", "c"} {
			job := summary(id)
			job.Metadata = map[string]string{"paper": "No. " + id}
			_, err := jobs.Enqueue(t.Context(), job)
			require.NoError(t, err)
		}
		b.work(t, "b", tasks.StatusSucceeded)
		queued := producer.Filter{Statuses: []tasks.Status{tasks.StatusQueued, tasks.StatusRunning}, TaskTypes: []string{"fast_summary", ""}}
		page, err := jobs.List(t.Context(), queued, "", 1)
		require.NoError(t, err)
		require.Len(t, page.Jobs, 1)
		page, err = jobs.List(t.Context(), queued, page.Next, 1)
		require.NoError(t, err)
		require.Len(t, page.Jobs, 1)
		require.Empty(t, page.Next)
		page, err = jobs.List(t.Context(), producer.Filter{Text: "NO. B", Since: time.Now().Add(-time.Hour), Until: time.Now().Add(time.Hour)}, "", 0)
		require.NoError(t, err)
		require.Len(t, page.Jobs, 1)
		require.Equal(t, "b", page.Jobs[0].ID)
		require.Equal(t, tasks.StatusSucceeded, page.Jobs[0].Status)

		groups, err := jobs.Group(t.Context(), producer.Filter{}, "status")
		require.NoError(t, err)
		require.Equal(t, "queued", groups.Groups[0].Key)
		require.Equal(t, 2, groups.Groups[0].Jobs)
		for field, refused := range map[string]error{
			"group_by": second(jobs.Group(t.Context(), producer.Filter{}, "colour")),
			"cursor":   second(jobs.List(t.Context(), producer.Filter{}, "garbage", 0)),
			"limit":    second(jobs.List(t.Context(), producer.Filter{}, "", 1001)),
			"batch":    second(jobs.List(t.Context(), producer.Filter{Batch: "a b"}, "", 0)),
		} {
			var problem *tasks.FieldError
			require.ErrorAs(t, refused, &problem, field)
			require.Equal(t, field, problem.Field)
		}
	})
}

func second[T any](_ T, err error) error { return err }

// A connection that breaks after the job was accepted is no loss and no double: the id was there before the request.
func TestHTTPRepeatsWhatWasLost(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t := b.t
		var asked atomic.Int64
		jobs := overHTTP(t, b, func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch asked.Add(1) % 3 {
				case 1:
					next.ServeHTTP(httptest.NewRecorder(), r)
					panic(http.ErrAbortHandler)
				case 2:
					w.Header().Set("Retry-After", "1")
					http.Error(w, `{"error":{"message":"too many","type":"rate_limit_error","param":null,"code":"rate_limited"}}`, http.StatusTooManyRequests)
				default:
					next.ServeHTTP(w, r)
				}
			})
		})
		begun := time.Now()
		receipt, err := jobs.Enqueue(t.Context(), summary(""))
		require.NoError(t, err)
		require.EqualValues(t, 3, asked.Load())
		require.GreaterOrEqual(t, time.Since(begun), time.Second, "it waits as it is told")
		require.Equal(t, []string{receipt.ID}, b.taskIDs(t, "default"))
	})
}

func TestHTTPSaysWhatIsNotKnown(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	defer server.Close()
	jobs, err := producer.NewHTTP(producer.HTTPConfig{URL: server.URL, Key: "fb_secret", Tries: 2})
	require.NoError(t, err)
	defer func() { _ = jobs.Close() }()
	receipt, err := jobs.Enqueue(t.Context(), summary("a"))
	require.ErrorIs(t, err, producer.ErrUnaccepted)
	require.ErrorContains(t, err, "enqueue job a again")
	require.Equal(t, "a", receipt.ID)
	for _, secret := range []string{"fb_secret", "long text"} {
		require.NotContains(t, err.Error(), secret)
	}
	for receipt, err := range jobs.EnqueueMany(t.Context(), slices.Values([]tasks.Job{summary("b")})) {
		require.ErrorIs(t, err, producer.ErrUnaccepted)
		require.Equal(t, "b", receipt.ID)
	}
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = jobs.Get(short, "a")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NoError(t, jobs.Close())
	_, err = jobs.Get(t.Context(), "a")
	require.ErrorContains(t, err, "closed")
}

func TestHTTPAnswersOfOthers(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]http.HandlerFunc{
		"a page":     func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) },
		"a redirect": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/login", http.StatusFound) },
		"a refusal":  func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusForbidden) },
	} {
		server := httptest.NewServer(answer)
		jobs, err := producer.NewHTTP(producer.HTTPConfig{URL: server.URL})
		require.NoError(t, err)
		_, err = jobs.Get(t.Context(), "a")
		var told *producer.HTTPError
		require.ErrorAs(t, err, &told, name)
		require.ErrorContains(t, err, "check the address", name)
		require.NotErrorIs(t, err, tasks.ErrInvalidJob, name)
		require.NoError(t, jobs.Close())
		server.Close()
	}
	for _, bad := range []string{"", "forebay.example.com", "https://key@forebay.example.com", "redis://x"} {
		_, err := producer.NewHTTP(producer.HTTPConfig{URL: bad})
		require.ErrorContains(t, err, "HTTPConfig.URL", bad)
		require.NotContains(t, err.Error(), "key@")
	}
}
