package alerts

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

func onAll(t *testing.T, test func(t *testing.T, s *Store)) {
	t.Helper()
	for name, start := range map[string]func(*testing.T) redis.UniversalClient{
		"embedded": func(t *testing.T) redis.UniversalClient {
			t.Helper()
			client, _ := redistest.Embedded(t)
			return client
		},
		"real":    func(t *testing.T) redis.UniversalClient { t.Helper(); client, _ := redistest.Real(t); return client },
		"cluster": func(t *testing.T) redis.UniversalClient { t.Helper(); client, _ := redistest.Cluster(t); return client },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, New(start(t), keyspace.New("")))
		})
	}
}

var at = time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)

func state(name string, fired bool) State {
	s := State{Alert: Alert{Name: name, Subject: "first", Severity: Warning, Since: at, Summary: "It is open."}}
	if fired {
		s.FiredAt = at
	}
	return s
}

func TestAChangeIsWrittenWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	onAll(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		message := Message{ID: "alert_1", Channel: "ops", At: at, Alerts: []Alert{state(BreakerOpen, true).Alert}}
		revision, err := s.Record(ctx, 3, 0, Change{
			Write: []State{state(BreakerOpen, true), state(JobsWait, false)}, Messages: []Message{message},
			Samples: map[string][]Sample{"jobs": {{At: at, Count: 7}}},
		})
		require.NoError(t, err)
		require.Equal(t, int64(1), revision)
		want := Snapshot{
			Revision: 1, States: map[string]State{"breaker_open/first": state(BreakerOpen, true), "jobs_wait/first": state(JobsWait, false)},
			Samples: map[string][]Sample{"jobs": {{At: at, Count: 7}}},
		}
		read, err := s.Read(ctx)
		require.NoError(t, err)
		require.Equal(t, want, read)
		firing, err := Firing(ctx, s.redis, s.keys)
		require.NoError(t, err)
		require.Equal(t, []Alert{state(BreakerOpen, true).Alert}, firing, "what is pending does not fire")

		again := Message{ID: "alert_2", Channel: "ops", At: at}
		_, err = s.Record(ctx, 3, 0, Change{Forget: []string{"breaker_open/first"}, Messages: []Message{again}})
		require.ErrorIs(t, err, ErrChanged)
		var stale *StaleError
		_, err = s.Record(ctx, 2, 1, Change{Forget: []string{"breaker_open/first"}, Messages: []Message{again}})
		require.ErrorAs(t, err, &stale)
		require.Equal(t, int64(3), stale.Term)
		unchanged, err := s.Read(ctx)
		require.NoError(t, err)
		require.Equal(t, want, unchanged)
		waiting, err := s.Outbox(ctx)
		require.NoError(t, err)
		require.Equal(t, []Message{message}, waiting)

		_, err = s.Record(ctx, 4, 1, Change{Forget: []string{"breaker_open/first", "jobs_wait/first"}})
		require.NoError(t, err, "a new term goes on at the revision")
		read, err = s.Read(ctx)
		require.NoError(t, err)
		require.Empty(t, read.States)
		require.Equal(t, want.Samples, read.Samples, "samples stay where there are none")
	})
}

func TestAMessageIsSentByOneAtATime(t *testing.T) {
	t.Parallel()
	onAll(t, func(t *testing.T, s *Store) {
		ctx := t.Context()
		_, err := s.Record(ctx, 1, 0, Change{Messages: []Message{{ID: "a", Channel: "ops", At: at}, {ID: "b", Channel: "ops", At: at.Add(time.Second)}}})
		require.NoError(t, err)
		try, err := s.Begin(ctx, 1, "a", time.Minute)
		require.NoError(t, err)
		require.Equal(t, 1, try)
		var wait *WaitError
		_, err = s.Begin(ctx, 2, "a", time.Minute)
		require.ErrorAs(t, err, &wait, "also the next leader waits for what is on its way")
		require.Greater(t, wait.For, 50*time.Second)
		var stale *StaleError
		_, err = s.Begin(ctx, 1, "b", time.Minute)
		require.ErrorAs(t, err, &stale)
		require.NoError(t, s.Rest(ctx, "a", try, 0), "the old leader may say what has come of it")
		try, err = s.Begin(ctx, 2, "a", time.Minute)
		require.NoError(t, err)
		require.Equal(t, 2, try)
		require.NoError(t, s.Done(ctx, "a", 1), "of an older try nothing is believed")
		waiting, err := s.Outbox(ctx)
		require.NoError(t, err)
		require.Len(t, waiting, 2)
		require.Equal(t, 2, waiting[0].Tries)
		require.NoError(t, s.Done(ctx, "a", 2))
		require.NoError(t, s.Done(ctx, "a", 2), "it may be said again")
		_, err = s.Begin(ctx, 2, "a", time.Minute)
		require.ErrorIs(t, err, ErrGone)
		waiting, err = s.Outbox(ctx)
		require.NoError(t, err)
		require.Len(t, waiting, 1)
		require.Zero(t, s.redis.HLen(ctx, s.keys.AlertsTries()).Val(), "nothing stays of what is done")
	})
}

// The header of every script is its contract: each key and argument that the body names stands in it.
func TestScriptsKeepTheirForm(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.lua")
	require.NoError(t, err)
	require.Len(t, files, 3)
	given := regexp.MustCompile(`(?:KEYS|ARGV)\[\d+\]`)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		header, body, found := strings.Cut(string(text), "\n\n")
		require.True(t, found, file)
		assert.True(t, strings.HasPrefix(header, "-- "+strings.TrimSuffix(file, ".lua")+": "), file)
		for _, part := range []string{"KEYS[1]", "ARGV", "RETURNS", "CLOCK", "WRITES"} {
			assert.Contains(t, header, "-- "+part, file)
		}
		for line := range strings.SplitSeq(body, "\n") {
			for _, name := range given.FindAllString(line, -1) {
				assert.True(t, strings.HasPrefix(line, "local "), "%s: %s stands bare in %q", file, name, line)
				assert.Contains(t, header, "-- "+name, file)
			}
		}
		assert.NotContains(t, body, "cjson", file)
	}
}

func TestASecretIsReadOrSaidWhereItIsMissing(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(path, []byte("one\n"), 0o600))
	value, err := Secret{File: path}.Read()
	require.NoError(t, err)
	require.Equal(t, "one", value)
	require.NoError(t, os.WriteFile(path, []byte("two"), 0o600))
	value, err = Secret{File: path}.Read()
	require.NoError(t, err)
	require.Equal(t, "two", value, "it is read anew")
	_, err = Secret{Env: "NOT_SET", Lookup: func(string) (string, bool) { return "", false }}.Read()
	require.EqualError(t, err, "the environment variable NOT_SET is not set or empty")
	for _, bad := range []string{"", "a\nb", strings.Repeat("s", mostSecret+1)} {
		require.NoError(t, os.WriteFile(path, []byte(bad), 0o600))
		_, err = Secret{File: path}.Read()
		require.ErrorContains(t, err, path)
	}
}
