package calls

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// both runs a test on the embedded and on a real Redis.
func both(t *testing.T, test func(t *testing.T, client *redis.Client)) {
	t.Helper()
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		client, _ := redistest.Embedded(t)
		test(t, client)
	})
	t.Run("real", func(t *testing.T) {
		t.Parallel()
		client, _ := redistest.Real(t)
		test(t, client)
	})
}

func (b *Book) begin(t *testing.T, asked Asked) Call {
	t.Helper()
	call, err := b.Begin(t.Context(), asked, time.Hour)
	require.NoError(t, err)
	return call
}

// wait waits for a job as the job store does.
func (b *Book) wait(t *testing.T, job string) (leave func()) {
	t.Helper()
	waiter := b.redis.Subscribe(t.Context(), b.keys.JobDone(job))
	_, err := waiter.Receive(t.Context())
	require.NoError(t, err)
	return func() { require.NoError(t, waiter.Close()) }
}

// A repetition takes an earlier try's job, if nobody waits for it; each takes another.
func TestTries(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, client *redis.Client) {
		b := NewBook(client, keyspace.New(""))
		asked := Asked{Tenant: "acme", Endpoint: "/v1/embeddings", Body: []byte("{}")}
		again, third := asked, asked
		again.Try, third.Try = 1, 2

		first, second := b.begin(t, asked), b.begin(t, asked)
		assert.NotEqual(t, first.Job, second.Job, "two equal calls are two jobs")
		leave := b.wait(t, second.Job)
		joined := b.begin(t, again)
		assert.Equal(t, first.Job, joined.Job)
		assert.True(t, joined.Joined)
		fresh := b.begin(t, again)
		assert.False(t, fresh.Joined, "somebody waits for the second, and the first is taken by a try with this number")

		ours, err := b.Leave(t.Context(), first)
		require.NoError(t, err)
		assert.False(t, ours, "it was taken")
		leave()
		require.Eventually(t, func() bool {
			return client.PubSubNumSub(t.Context(), b.keys.JobDone(second.Job)).Val()[b.keys.JobDone(second.Job)] == 0
		}, 5*time.Second, time.Millisecond)
		ours, err = b.Leave(t.Context(), second)
		require.NoError(t, err)
		assert.True(t, ours)
		assert.Equal(t, second.Job, b.begin(t, third).Job, "the one that was left goes first")

		require.NoError(t, b.Forget(t.Context(), joined))
		require.NoError(t, b.Forget(t.Context(), fresh))
		assert.False(t, b.begin(t, third).Joined, "what was answered is forgotten")
		for _, other := range []Asked{
			{"other", asked.Endpoint, asked.Body, 1},
			{asked.Tenant, "/v1/chat/completions", asked.Body, 1},
			{asked.Tenant, asked.Endpoint, []byte("{ }"), 1},
		} {
			assert.False(t, b.begin(t, other).Joined)
		}
	})
}

// What is left is found for a minute.
func TestGrace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client, _ := redistest.InBubble(t)
		b := NewBook(client, keyspace.New("other:"))
		asked := Asked{Tenant: "acme"}
		again := Asked{Tenant: "acme", Try: 1}
		call := b.begin(t, asked)
		time.Sleep(50 * time.Minute)
		_, err := b.Leave(t.Context(), call)
		require.NoError(t, err)
		time.Sleep(Grace - time.Second)
		joined := b.begin(t, again)
		assert.Equal(t, call.Job, joined.Job)
		_, err = b.Leave(t.Context(), joined)
		require.NoError(t, err)
		time.Sleep(Grace + time.Second)
		assert.False(t, b.begin(t, Asked{Tenant: "acme", Try: 2}).Joined)
		keys, err := client.Keys(t.Context(), "*").Result()
		require.NoError(t, err)
		assert.Len(t, keys, 1)
		time.Sleep(2 * time.Hour)
		assert.Zero(t, client.Exists(t.Context(), keys...).Val(), "nothing stays behind")
	})
}

// The header of the script is its contract, and the body keeps to it.
func TestScriptKeepsItsForm(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.lua")
	require.NoError(t, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		header, body, found := strings.Cut(string(text), "\n\n")
		require.True(t, found)
		assert.True(t, strings.HasPrefix(header, "-- "+strings.TrimSuffix(file, ".lua")+": "))
		for _, part := range []string{"KEYS[1]", "ARGV[1]", "ARGV[2]", "ARGV[3]", "RETURNS", "CLOCK", "WRITES"} {
			assert.Contains(t, header, "-- "+part)
		}
		for line := range strings.SplitSeq(body, "\n") {
			if strings.Contains(line, "KEYS[") || strings.Contains(line, "ARGV[") {
				assert.True(t, strings.HasPrefix(line, "local "), line)
			}
		}
	}
}
