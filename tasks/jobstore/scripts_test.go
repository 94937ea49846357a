package jobstore

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

// The header of every script is its contract, and the body keeps to it.
func TestScriptsKeepTheirForm(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.lua")
	require.NoError(t, err)
	require.Len(t, files, 17)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		header, body, found := strings.Cut(string(text), "\n\n")
		require.True(t, found, file)
		assert.True(t, strings.HasPrefix(header, "-- "+strings.TrimSuffix(file, ".lua")+": "), file)
		for _, part := range []string{"KEYS[1]", "ARGV[1]", "RETURNS", "CLOCK", "WRITES"} {
			assert.Contains(t, header, "-- "+part, file)
		}
		aliased := regexp.MustCompile(`(?:KEYS|ARGV)\[\d+\]`)
		declared := map[string]bool{}
		for _, name := range aliased.FindAllString(header, -1) {
			declared[name] = true
		}
		for line := range strings.SplitSeq(body, "\n") {
			for _, name := range aliased.FindAllString(line, -1) {
				assert.True(t, strings.HasPrefix(line, "local "), "%s: %s stands bare in %q", file, name, line)
				assert.True(t, declared[name], "%s: %s is not in the header", file, name)
				delete(declared, name)
			}
		}
		if strings.Contains(header, "-- EACH") {
			// The names are those of the first job; the body goes through all of them.
			assert.Contains(t, body, "pcall(", "%s: an error of one job must not be that of the others", file)
			continue
		}
		assert.Empty(t, declared, "%s: the header names what the body does not use", file)
		assert.NotContains(t, body, "cjson", file)
	}
}

// The client that merges the commands of concurrent jobs runs all scripts.
func TestMergedScripts(t *testing.T) {
	t.Parallel()
	client, _ := redistest.Real(t)
	merging, err := client.AutoPipeline()
	require.NoError(t, err)
	t.Cleanup(func() { _ = merging.Close() })
	store, err := New(Config{Redis: client, Pipe: merging, Prefix: "other:"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = store.Close() })
	var _ redis.Scripter = merging

	plain := newBundle(t, client)
	jobs := make([]NewJob, 100)
	for i := range jobs {
		jobs[i] = plain.job()
	}
	_, errs := store.CreateMany(t.Context(), jobs)
	var group sync.WaitGroup
	for i, job := range jobs {
		require.NoError(t, errs[i])
		group.Go(func() {
			id := job.Job.ID
			_, err := store.Start(t.Context(), id, Delivery{ID: "d1", Worker: "w1", Run: 1})
			assert.NoError(t, err)
			attempt := attemptOf("d1", "w1")
			attempt.Seq, err = store.Begin(t.Context(), id, 1, attempt)
			assert.NoError(t, err)
			end := answered(attempt)
			committed, err := store.Commit(t.Context(), success(id, 1, &end))
			assert.NoError(t, err)
			assert.True(t, committed.Committed)
		})
	}
	group.Wait()
	record, err := store.Get(t.Context(), jobs[7].Job.ID)
	require.NoError(t, err)
	require.Equal(t, tasks.StatusSucceeded, record.Status)
	keys, err := client.Keys(t.Context(), "*").Result()
	require.NoError(t, err)
	for _, key := range keys {
		require.True(t, strings.HasPrefix(key, "other:{"), key)
	}
}

func TestNewAsksForAClient(t *testing.T) {
	t.Parallel()
	_, err := New(Config{})
	require.ErrorContains(t, err, "Config.Redis is missing")
}

func TestUnreadableRecordsAreNamed(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t := b.t
		for _, field := range []string{"job", "run", "waiting", "a:1", "created_at"} {
			id := b.created(t)
			require.NoError(t, b.client.HSet(t.Context(), b.Keys().Job(id), field, "{").Err())
			_, err := b.Get(t.Context(), id)
			require.ErrorContains(t, err, id)
			require.ErrorContains(t, err, "field "+field)
		}
		id := b.created(t)
		require.NoError(t, b.client.Del(t.Context(), b.Keys().Job(id)).Err())
		require.NoError(t, b.client.Set(t.Context(), b.Keys().Job(id), "x", 0).Err())
		_, err := b.Cancel(t.Context(), id, "")
		require.ErrorContains(t, err, "WRONGTYPE")
	})
}
