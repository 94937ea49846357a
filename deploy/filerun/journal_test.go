package filerun

import (
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/forebay-queue/forebay/deploy/batchio"
	"github.com/forebay-queue/forebay/tasks"
)

func itemsOf(texts ...string) iter.Seq2[batchio.Item, error] {
	return func(yield func(batchio.Item, error) bool) {
		for i, text := range texts {
			item := batchio.Item{Line: i + 1, Key: fmt.Sprint(i + 1), Job: tasks.Job{TaskType: "s", Input: text}}
			if text == "" {
				item.Problem = assert.AnError
			}
			if !yield(item, nil) {
				return
			}
		}
	}
}

func anyEntry(*entry) bool { return true }

// planTexts plans lines and returns the numbers of their members.
func planTexts(t require.TestingT, j *Journal, texts ...string) []int {
	plan, err := j.planInput(itemsOf(texts...), j.chain(anyEntry), func() error {
		if len(j.batches) > 0 {
			return nil
		}
		return j.begin("batch_a")
	})
	require.NoError(t, err)
	return plan.entries
}

func TestLinesKeepTheirMembers(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "out.forebay")
	j, err := OpenJournal(dir)
	require.NoError(t, err)
	assert.Equal(t, []int{0, 1, 2, 3}, planTexts(t, j, "a", "", "b", "a", "c"))
	_, err = OpenJournal(dir)
	require.ErrorContains(t, err, "another run has it")
	require.NoError(t, j.ended(map[int]tasks.Result{2: {ID: "batch_a-2", Status: tasks.StatusSucceeded, Text: "A.", CostUSD: 2}}))
	require.NoError(t, j.Close())

	j, err = OpenJournal(dir)
	require.NoError(t, err)
	assert.Equal(t, []int{3, 4, 0, 1}, planTexts(t, j, "c", "new", "a", "b"), "lines move, one is new, one of two alike is gone")
	assert.Equal(t, "batch_a-4", j.id(4))
	e := j.entry(2)
	assert.True(t, e.answered())
	assert.InDelta(t, 2, e.cost, 0)
	result, err := j.result(2)
	require.NoError(t, err)
	assert.Equal(t, "A.", result.Text)
	require.NoError(t, j.Close())

	j, err = OpenJournal(dir)
	require.NoError(t, err)
	defer func() { require.NoError(t, j.Close()) }()
	chains := j.chain(func(e *entry) bool { return e.answered() })
	_, err = j.planInput(itemsOf("a", "b"), chains, func() error { return j.begin("batch_b") })
	require.NoError(t, err)
	assert.Equal(t, "batch_b-0", j.id(5), "what may not be taken gets a member of the next batch")
	var keys []string
	for line, err := range j.lines() {
		require.NoError(t, err)
		keys = append(keys, fmt.Sprint(line.Key, *line.Entry))
	}
	assert.Equal(t, []string{"12", "25"}, keys)
}

// A crash leaves what was synced, and of the rest any beginning and any garbage; the next run finds all that was synced.
func TestCrashes(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	run := 0
	rapid.Check(t, func(t *rapid.T) {
		run++
		dir := filepath.Join(root, fmt.Sprint(run))
		j, err := OpenJournal(dir)
		require.NoError(t, err)
		var texts []string
		answered := map[int]string{}
		for range rapid.IntRange(1, 6).Draw(t, "steps") {
			if rapid.Bool().Draw(t, "plan") || len(texts) == 0 {
				for range rapid.IntRange(1, 20).Draw(t, "lines") {
					texts = append(texts, fmt.Sprint("text ", len(texts)))
				}
				planTexts(t, j, texts...)
				continue
			}
			results := map[int]tasks.Result{}
			for range rapid.IntRange(1, 5).Draw(t, "answers") {
				at := rapid.IntRange(0, len(texts)-1).Draw(t, "entry")
				answered[at] = rapid.String().Draw(t, "text")
				results[at] = tasks.Result{ID: j.id(at), Status: tasks.StatusSucceeded, Text: answered[at]}
			}
			require.NoError(t, j.ended(results))
		}
		// What follows is written, and not synced.
		sizes := map[string]int64{planName: j.plan.size, answersName: j.answers.size}
		for i := range 5 {
			_, err := j.add(mark{byte(i)})
			require.NoError(t, err)
			_, _, err = j.answers.add(answerLine{Entry: 0, Status: tasks.StatusFailed, Result: []byte(`{}`)})
			require.NoError(t, err)
		}
		require.NoError(t, j.Close())
		for name, synced := range sizes {
			path := filepath.Join(dir, name)
			data, err := os.ReadFile(path)
			require.NoError(t, err)
			kept := data[:synced+int64(rapid.IntRange(0, int(int64(len(data))-synced)).Draw(t, "kept of "+name))]
			if name == answersName { // the answers of whole lines would be as good as synced ones
				kept = data[:min(int64(len(kept)), synced+10)]
			}
			kept = append(kept, rapid.SampledFrom([]string{"", "\x00\x00\x00", "{", "\n{}x"}).Draw(t, "garbage")...)
			require.NoError(t, os.WriteFile(path, kept, 0o600))
		}
		j, err = OpenJournal(dir)
		require.NoError(t, err)
		entries := planTexts(t, j, texts...)
		for at := range texts {
			require.Equal(t, at, entries[at], "the same members")
			e := j.entry(at)
			require.Equal(t, e.answered(), answered[at] != "" || hasKey(answered, at))
			if e.answered() {
				result, err := j.result(at)
				require.NoError(t, err)
				require.Equal(t, answered[at], result.Text)
			}
		}
		require.NoError(t, j.Close())
	})
}

func hasKey(m map[int]string, key int) bool {
	_, found := m[key]
	return found
}

func TestDamagedJournals(t *testing.T) {
	t.Parallel()
	for name, texts := range map[string][2]string{
		"newer build":       {`{"v":2}` + "\n", ""},
		"entry 0 is damag":  {`{"v":1}` + "\n" + `{"print":"00"}` + "\n", ""},
		"does not have":     {`{"v":1}` + "\n", `{"e":3,"status":"failed","result":{}}` + "\n"},
		"a limit of the en": {`{"v":1}` + "\n" + `{"limits":{"7":1}}` + "\n", ""},
	} {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, planName), []byte(texts[0]), 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(dir, answersName), []byte(texts[1]), 0o600))
		_, err := OpenJournal(dir)
		require.ErrorContains(t, err, name)
	}
}
