package jobstore

import (
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

// all reads a whole list in pages of a size, and does something between them.
func (b bundle) all(t testing.TB, filter Filter, size int, between func()) []Row {
	t.Helper()
	var rows []Row
	for cursor := ""; ; {
		page, err := b.List(t.Context(), filter, cursor, size)
		require.NoError(t, err)
		require.LessOrEqual(t, len(page.Jobs), size)
		rows = append(rows, page.Jobs...)
		if page.Next == "" {
			return rows
		}
		require.NotEqual(t, cursor, page.Next, "a list goes on")
		cursor = page.Next
		between()
	}
}

func idsOf(rows []Row) []string {
	ids := make([]string, len(rows))
	for i, row := range rows {
		ids[i] = row.ID
	}
	return ids
}

// listed makes jobs of all sorts, many with the same deadline or end, and returns their records in the order of a list.
func (b bundle) listed(t testing.TB, count int) []*Record {
	t.Helper()
	random := rand.New(rand.NewPCG(1, uint64(count)))
	base := time.Now().Add(time.Hour).Truncate(time.Second)
	var jobs []NewJob
	for i := range count {
		job := b.job()
		deadline := base.Add(time.Duration(random.IntN(8)) * time.Second)
		job.Job.ID, job.Job.Deadline = fmt.Sprintf("%c-%d", "aZ_9"[random.IntN(4)], i), &deadline
		job.Job.Tenant = []string{"acme", "default"}[random.IntN(2)]
		job.Job.TaskType = []string{"fast_summary", "translation", ""}[random.IntN(3)]
		job.Job.Metadata = nil
		if i%7 == 0 {
			job.Job.Metadata = map[string]string{"document": fmt.Sprintf("Paper %d", i)}
		}
		jobs = append(jobs, job)
	}
	_, errs := b.CreateMany(t.Context(), jobs)
	records := make([]*Record, count)
	for i, job := range jobs {
		require.NoError(t, errs[i])
		b.end(t, job.Job.ID, []tasks.Status{"", tasks.StatusSucceeded, tasks.StatusFailed, tasks.StatusCancelled}[random.IntN(4)], random)
		records[i] = b.get(t, job.Job.ID)
	}
	place := func(r *Record) (bool, int64) {
		if r.Status.Ended() {
			return true, r.FinishedAt.UnixMilli()
		}
		return false, r.Job.Deadline.UnixMilli()
	}
	slices.SortFunc(records, func(x, y *Record) int {
		endedX, scoreX := place(x)
		endedY, scoreY := place(y)
		switch {
		case endedX != endedY && endedX:
			return 1
		case endedX != endedY:
			return -1
		}
		return cmp.Or(cmp.Compare(scoreY, scoreX), cmp.Compare(y.ID, x.ID))
	})
	return records
}

func (b bundle) end(t testing.TB, id string, status tasks.Status, random *rand.Rand) {
	t.Helper()
	switch status { //nolint:exhaustive // the others stay open
	case tasks.StatusSucceeded:
		_, err := b.Start(t.Context(), id, Delivery{ID: "d1", Worker: "w1", Run: 1})
		require.NoError(t, err)
		attempt := attemptOf("d1", "w1")
		attempt.Seq, err = b.Begin(t.Context(), id, 1, attempt)
		require.NoError(t, err)
		attempt = answered(attempt)
		_, err = b.Commit(t.Context(), success(id, 1, &attempt))
		require.NoError(t, err)
	case tasks.StatusFailed:
		record := b.get(t, id)
		failure := tasks.Failure{Class: tasks.ClassInvalid, Code: []string{"too_long", ""}[random.IntN(2)], Message: "apac refused it", Detail: "your secret prompt"}
		ended, err := b.Reap(t.Context(), record, status, failure, time.Now())
		require.NoError(t, err)
		require.True(t, ended)
	case tasks.StatusCancelled:
		_, err := b.Cancel(t.Context(), id, "")
		require.NoError(t, err)
	}
}

func TestListGivesEveryJobOnceInItsOrder(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t := b.t
		records := b.listed(t, 400)
		later := time.Now().Add(48 * time.Hour)
		for _, test := range []struct {
			name   string
			filter Filter
			means  func(r *Record) bool
		}{
			{"all", Filter{}, func(*Record) bool { return true }},
			{"failed", Filter{Statuses: []tasks.Status{tasks.StatusFailed}}, func(r *Record) bool { return r.Status == tasks.StatusFailed }},
			{"ended well or cancelled, of a tenant", Filter{Statuses: []tasks.Status{tasks.StatusSucceeded, tasks.StatusCancelled}, Tenant: "acme"}, func(r *Record) bool {
				return (r.Status == tasks.StatusSucceeded || r.Status == tasks.StatusCancelled) && r.Tenant == "acme"
			}},
			{"task types", Filter{TaskTypes: []string{"", "translation"}}, func(r *Record) bool { return r.TaskType != "fast_summary" }},
			{"no task type", Filter{TaskTypes: []string{"adhoc"}}, func(r *Record) bool { return r.TaskType == "" }},
			{"code", Filter{Codes: []string{"too_long"}}, func(r *Record) bool {
				return r.result != nil && r.result.Error != nil && r.result.Error.Code == "too_long"
			}},
			{"class", Filter{Codes: []string{"invalid"}}, func(r *Record) bool { return r.Status == tasks.StatusFailed }},
			{"text of the error", Filter{Text: "APAC Refused"}, func(r *Record) bool { return r.Status == tasks.StatusFailed }},
			{"text of the metadata", Filter{Text: "paper"}, func(r *Record) bool { return len(r.Job.Metadata) > 0 }},
			{"text of the id", Filter{Text: "z-1"}, func(r *Record) bool { return strings.HasPrefix(r.ID, "Z-1") }},
			{"what a provider said is not looked at", Filter{Text: "secret"}, func(*Record) bool { return false }},
			{"since", Filter{Since: records[300].FinishedAt}, func(r *Record) bool {
				return !cmp.Or(r.FinishedAt, r.CreatedAt).Before(records[300].FinishedAt)
			}},
			{"until", Filter{Until: records[300].FinishedAt}, func(r *Record) bool {
				return cmp.Or(r.FinishedAt, r.CreatedAt).Before(records[300].FinishedAt)
			}},
			{"nothing", Filter{Since: later}, func(*Record) bool { return false }},
		} {
			want := []string{}
			for _, r := range records {
				if test.means(r) {
					want = append(want, r.ID)
				}
			}
			for _, size := range []int{7, 50, MaxListLimit} {
				require.Equal(t, want, idsOf(b.all(t, test.filter, size, func() {})), "%s, pages of %d", test.name, size)
			}
		}
	})
}

// A cursor is a place and no number: what comes and goes elsewhere moves nothing.
func TestListSurvivesWhatChangesBetweenItsPages(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t := b.t
		records := b.listed(t, 200)
		var want []string
		for _, r := range records {
			want = append(want, r.ID)
		}
		before := b.all(t, Filter{}, 13, func() {
			// A new job is at the very beginning, so that no page shows it.
			job := b.job()
			far := time.Now().Add(100 * time.Hour)
			job.Job.Deadline = &far
			_, err := b.Create(t.Context(), job)
			require.NoError(t, err)
		})
		require.Equal(t, want, idsOf(before))

		// Jobs that were shown are gone, and with them the very one that the cursor names.
		open, err := b.List(t.Context(), Filter{Statuses: []tasks.Status{tasks.StatusSucceeded}}, "", 5)
		require.NoError(t, err)
		for _, row := range open.Jobs {
			require.NoError(t, b.client.Del(t.Context(), b.Keys().Job(row.ID)).Err())
			require.NoError(t, b.unindex(t.Context(), row.ID))
		}
		rest, err := b.List(t.Context(), Filter{Statuses: []tasks.Status{tasks.StatusSucceeded}}, open.Next, MaxListLimit)
		require.NoError(t, err)
		require.Empty(t, rest.Next)
		again, err := b.List(t.Context(), Filter{Statuses: []tasks.Status{tasks.StatusSucceeded}}, "", MaxListLimit)
		require.NoError(t, err)
		require.Equal(t, idsOf(again.Jobs), idsOf(rest.Jobs))
	})
}

func TestRowsSayWhatIsKnown(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t := b.t
		job := b.job()
		runAt := time.Now().Add(time.Hour)
		job.Job.RunAt = &runAt
		_, err := b.Create(t.Context(), job)
		require.NoError(t, err)
		b.end(t, b.created(t), tasks.StatusSucceeded, nil)

		page, err := b.List(t.Context(), Filter{}, "", 0)
		require.NoError(t, err)
		require.Len(t, page.Jobs, 2)
		waits, answered := page.Jobs[0], page.Jobs[1]
		require.Equal(t, "scheduled", waits.Waiting.Reason)
		require.Equal(t, map[string]string{"document": "7"}, waits.Metadata)
		require.NotNil(t, waits.CreatedAt)
		require.Nil(t, waits.FinishedAt)
		require.Equal(t, tasks.StatusSucceeded, answered.Status)
		require.Equal(t, "gemini-2.5-flash", answered.Model)
		require.Equal(t, "apac", answered.Endpoint)
		require.InDelta(t, 0.02, answered.CostUSD, 1e-9)
		require.Equal(t, 1, answered.Attempts)
		require.NotNil(t, answered.FinishedAt)
	})
}

func TestGroup(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t := b.t
		records := b.listed(t, 300)
		count := func(key func(r *Record) string) map[string]int {
			counts := map[string]int{}
			for _, r := range records {
				counts[key(r)]++
			}
			return counts
		}
		for by, want := range map[string]map[string]int{
			"status":    count(func(r *Record) string { return string(r.Status) }),
			"tenant":    count(func(r *Record) string { return r.Tenant }),
			"task_type": count(func(r *Record) string { return r.TaskType }),
			"day":       count(func(r *Record) string { return r.CreatedAt.Format(time.DateOnly) }),
			"code": count(func(r *Record) string {
				if r.result == nil || r.result.Error == nil {
					return ""
				}
				return cmp.Or(r.result.Error.Code, string(r.result.Error.Class))
			}),
			"model": count(func(r *Record) string {
				if r.Status == tasks.StatusSucceeded {
					return "gemini-2.5-flash"
				}
				return ""
			}),
		} {
			groups, err := b.Group(t.Context(), Filter{}, by)
			require.NoError(t, err)
			got := map[string]int{}
			for _, g := range groups.Groups {
				got[g.Key] = g.Jobs
				require.NotEmpty(t, g.Example)
			}
			require.Equal(t, want, got, by)
			require.Equal(t, 300, groups.Looked)
			require.False(t, groups.Partial)
		}
	})
}

func TestListRefuses(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t := b.t
		b.listed(t, 20)
		page, err := b.List(t.Context(), Filter{}, "", 3)
		require.NoError(t, err)
		for name, try := range map[string]func() error{
			"cursor": func() error { _, err := b.List(t.Context(), Filter{}, "garbage", 0); return err },
			"cursor, of another list": func() error {
				_, err := b.List(t.Context(), Filter{Statuses: []tasks.Status{tasks.StatusFailed}}, page.Next, 0)
				return err
			},
			"cursor, cut":       func() error { _, err := b.List(t.Context(), Filter{}, page.Next[:5], 0); return err },
			"cursor, prolonged": func() error { _, err := b.List(t.Context(), Filter{}, page.Next+"A", 0); return err },
			"limit":             func() error { _, err := b.List(t.Context(), Filter{}, "", MaxListLimit+1); return err },
			"status": func() error {
				_, err := b.List(t.Context(), Filter{Statuses: []tasks.Status{"done"}}, "", 0)
				return err
			},
			"batch":    func() error { _, err := b.List(t.Context(), Filter{Batch: "a b"}, "", 0); return err },
			"group_by": func() error { _, err := b.Group(t.Context(), Filter{}, "colour"); return err },
		} {
			field, _, _ := strings.Cut(name, ",")
			var refused *tasks.FieldError
			require.ErrorAs(t, try(), &refused, name)
			require.Equal(t, field, refused.Field, name)
		}
	})
}

// A filter that matches rarely takes many calls, each of which is quick; and nobody reads a prompt or an answer.
func TestListLooksAtABoundedNumber(t *testing.T) {
	t.Parallel()
	client, _ := redistest.Real(t)
	b := newBundle(t, client)
	const count = maxLooked + 5000
	pipe := client.Pipeline()
	for i := range count {
		id := fmt.Sprintf("job-%d", i)
		pipe.HSet(t.Context(), b.Keys().Job(id), "status", "queued", "tenant", map[bool]string{true: "rare", false: "default"}[i == 0])
		queueMoves(t.Context(), pipe, b.moves(id, indexOpen, time.UnixMilli(int64(1e12)+int64(i))))
	}
	_, err := pipe.Exec(t.Context())
	require.NoError(t, err)
	reads := &readsOfTexts{}
	client.AddHook(reads)

	page, err := b.List(t.Context(), Filter{Tenant: "rare"}, "", 10)
	require.NoError(t, err)
	require.Empty(t, page.Jobs)
	require.NotEmpty(t, page.Next)
	require.Less(t, page.Looked, maxLooked+mostRead)
	readable, err := base64.RawURLEncoding.DecodeString(page.Next)
	require.NoError(t, err)
	require.NotContains(t, string(readable), "job-", "the place is another tenant's job")
	for _, filter := range []Filter{{}, {Tenant: "default"}} {
		_, err = b.List(t.Context(), filter, page.Next, 10)
		require.ErrorIs(t, err, tasks.ErrInvalidJob, "it is no cursor of another tenant's list")
	}
	other, err := New(Config{Redis: client})
	require.NoError(t, err)
	again, err := other.List(t.Context(), Filter{Tenant: "rare"}, page.Next, 10)
	require.NoError(t, err)
	require.Len(t, again.Jobs, 1, "every process reads the cursors of all")
	page, err = b.List(t.Context(), Filter{Tenant: "rare"}, page.Next, 10)
	require.NoError(t, err)
	require.Equal(t, []string{"job-0"}, idsOf(page.Jobs))
	require.Empty(t, page.Next)
	require.Zero(t, reads.seen)
}

// readsOfTexts counts the reads of prompts and answers.
type readsOfTexts struct{ seen int }

func (r *readsOfTexts) DialHook(next redis.DialHook) redis.DialHook { return next }

func (r *readsOfTexts) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { r.look(cmd); return next(ctx, cmd) }
}

func (r *readsOfTexts) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			r.look(cmd)
		}
		return next(ctx, cmds)
	}
}

func (r *readsOfTexts) look(cmd redis.Cmder) {
	if cmd.Name() == "hgetall" || slices.Contains(cmd.Args(), any("job")) || slices.Contains(cmd.Args(), any("response")) {
		r.seen++
	}
}
