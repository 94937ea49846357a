package jobstore

import (
	"encoding/hex"
	"flag"
	"fmt"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

var update = flag.Bool("update", false, "write the golden files anew")

// The record is read by other languages: its fields and their form change only on purpose.
func TestRecordGolden(t *testing.T) {
	t.Parallel()
	var stages strings.Builder
	synctest.Test(t, func(t *testing.T) {
		client, _ := redistest.InBubble(t)
		b := newBundle(t, client)
		b.shards = 4
		job := b.job()
		runAt := time.Now().Add(time.Second)
		job.Job.RunAt = &runAt
		show := func(stage string) {
			fields := client.HGetAll(t.Context(), b.Keys().Job(job.Job.ID)).Val()
			fmt.Fprintf(&stages, "# %s\n", stage)
			for _, name := range slices.Sorted(maps.Keys(fields)) {
				fmt.Fprintf(&stages, "%s: %s\n", name, printable(fields[name]))
			}
			stages.WriteString("\n")
		}
		job.Job.Member, job.Job.ReplyStream = &tasks.Member{Batch: "batch_7", Number: 3}, "mine"
		_, err := b.Create(t.Context(), job)
		require.NoError(t, err)
		show("created, scheduled")

		time.Sleep(1500 * time.Millisecond)
		id := job.Job.ID
		_, err = b.Start(t.Context(), id, Delivery{ID: "d1", Worker: "w1", Run: 1})
		require.NoError(t, err)
		attempt := attemptOf("d1", "w1")
		attempt.Seq, err = b.Begin(t.Context(), id, 1, attempt)
		require.NoError(t, err)
		attempt.Run = 1
		_, err = b.Cancel(t.Context(), id, "")
		require.NoError(t, err)
		show("running, with an open attempt, asked to end")
		require.NoError(t, client.HDel(t.Context(), b.Keys().Job(id), "cancel").Err())

		end := failed(attempt)
		_, err = b.GiveBack(t.Context(), id, 1, "d1", GiveBack{
			Status: tasks.StatusRetrying, SpendRetry: true, Attempt: &end,
			Waiting:   &tasks.Waiting{Reason: "backoff", Since: time.Now(), Until: time.Now().Add(time.Second)},
			LastError: &tasks.Failure{Class: tasks.ClassUnavailable, Code: "http_503", Message: "apac answered 503"},
		})
		require.NoError(t, err)
		show("retrying")

		_, err = b.Start(t.Context(), id, Delivery{ID: "d2", Worker: "w1", Run: 1})
		require.NoError(t, err)
		record, err := b.Start(t.Context(), id, Delivery{ID: "d3", Worker: "w2", Run: 1})
		require.NoError(t, err)
		result := record.Outcome(tasks.StatusFailed, time.Now())
		result.Error = &tasks.Failure{Class: tasks.ClassUnavailable, Message: "no endpoint could answer", Hint: "try later"}
		_, err = b.Commit(t.Context(), Commit{ID: id, Run: 1, Delivery: "d3", Status: tasks.StatusFailed, Result: result})
		require.NoError(t, err)
		show("failed, after a death")

		_, err = b.Reopen(t.Context(), id)
		require.NoError(t, err)
		show("reopened")

		record, err = b.Start(t.Context(), id, Delivery{ID: "d4", Worker: "w2", Run: 2})
		require.NoError(t, err)
		second := attemptOf("d4", "w2")
		second.Seq, err = b.Begin(t.Context(), id, 2, second)
		require.NoError(t, err)
		second.Run = 2
		time.Sleep(120 * time.Millisecond)
		second = answered(second)
		result = record.Outcome(tasks.StatusSucceeded, time.Now(), second)
		result.Model, result.Tier, result.Endpoint, result.Region = second.Model, "low", second.Endpoint, second.Region
		result.Text, result.Usage = "short", second.Usage
		_, err = b.Commit(t.Context(), Commit{
			ID: id, Run: 2, Delivery: "d4", Status: tasks.StatusSucceeded, Result: result,
			Response: []byte("{\n \"choices\": []\n}\n"), Attempt: &second, Record: record,
		})
		require.NoError(t, err)
		show("succeeded")

		view, err := tasks.Encode(b.get(t, id).Result())
		require.NoError(t, err)
		fmt.Fprintf(&stages, "# as its user reads it\n%s\n\n", view)

		require.NoError(t, client.Del(t.Context(), b.Keys().Job(id)).Err())
		_, err = b.Refuse(t.Context(), refusalOf("entry 1700000000000-0 of the inbox", id))
		require.NoError(t, err)
		show("refused at the way in")
	})

	const path = "testdata/record.golden"
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(path, []byte(stages.String()), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), stages.String(), "run `go test ./tasks/jobstore -update` if the change is meant")
	assertDocumented(t, string(want))
}

// assertDocumented compares the fields that were seen with the table in the package's documentation.
func assertDocumented(t *testing.T, golden string) {
	t.Helper()
	written := map[string]bool{}
	for _, match := range regexp.MustCompile(`(?m)^([a-z_]+|a:)\d*: `).FindAllStringSubmatch(golden, -1) {
		written[strings.Replace(match[1], "a:", "a:<seq>", 1)] = true
	}
	file, err := parser.ParseFile(token.NewFileSet(), "doc.go", nil, parser.ParseComments)
	require.NoError(t, err)
	_, table, found := strings.Cut(file.Doc.Text(), "# Fields")
	require.True(t, found)
	table, _, _ = strings.Cut(table, "An absent field")
	documented := map[string]bool{}
	for _, match := range regexp.MustCompile(`(?m)^\t([a-z_:<>]+)  `).FindAllStringSubmatch(table, -1) {
		documented[match[1]] = true
	}
	assert.Equal(t, slices.Sorted(maps.Keys(documented)), slices.Sorted(maps.Keys(written)))
}

func printable(text string) string {
	if !utf8.ValidString(text) {
		return hex.EncodeToString([]byte(text))
	}
	return strings.ReplaceAll(text, "\n", `\n`)
}
