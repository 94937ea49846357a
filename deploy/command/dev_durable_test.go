package command

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
)

// startDurable starts `forebay dev` on a folder and returns what it has printed.
func startDurable(t *testing.T, s shell, data string) (*process, devReply) {
	t.Helper()
	dev := s.start(t, "dev", "--data", data, "--listen", "127.0.0.1:0", "--json")
	dev.stdout.await(t, "\n")
	var reply devReply
	require.NoError(t, json.Unmarshal([]byte(dev.stdout.text()), &reply), dev.stderr.text())
	require.False(t, reply.Embedded)
	return dev, reply
}

func answers(t *testing.T, url string) bool {
	t.Helper()
	options, err := redis.ParseURL(url)
	require.NoError(t, err)
	options.MaxRetries = -1
	client := redis.NewClient(options)
	defer client.Close()
	return client.Ping(t.Context()).Err() == nil
}

// Killed in the middle of its work, dev goes on with it when it is started again: what waited and what ran is done.
func TestDurableDevGoesOnAfterItWasKilled(t *testing.T) {
	t.Parallel()
	s := newShell(t, "PATH="+os.Getenv("PATH"))
	data := filepath.Join(t.TempDir(), "data")
	dev, reply := startDurable(t, s, data)
	const jobs = 60
	for i := range jobs {
		s.ok(t, "enqueue", "--config", reply.Config, "--id", fmt.Sprintf("job-%d", i), "--type", "fast_summary", "--input", "A text about water.")
	}
	second := s.run(t, "dev", "--data", data, "--listen", "127.0.0.1:0")
	assert.Equal(t, exitFailed, second.status)
	assert.Equal(t, fmt.Sprintf("forebay: %s is in use by another process (%d); end that one, or name another folder with --data\n", data, dev.cmd.Process.Pid), second.stderr)

	require.NoError(t, dev.cmd.Process.Kill())
	_ = dev.cmd.Wait()
	eventually(t, "redis-server ends with its parent", func() bool { return !answers(t, reply.Redis) })

	dev, reply = startDurable(t, s, data)
	for i := range jobs {
		var result tasks.Result
		text := s.ok(t, "get", "--config", reply.Config, fmt.Sprintf("job-%d", i), "--wait", "--timeout", "2m", "--json")
		require.NoError(t, json.Unmarshal([]byte(text), &result))
		require.Equal(t, tasks.StatusSucceeded, result.Status)
	}
	dev.signal(t)
	require.Equal(t, exitOK, dev.end(t), dev.stderr.text())
	require.False(t, answers(t, reply.Redis))

	_, reply = startDurable(t, s, data)
	require.Equal(t, jobs, strings.Count(s.ok(t, "jobs", "list", "--config", reply.Config, "--all", "--status", "succeeded"), "succeeded"))
}

func TestDurableDevWithoutRedis(t *testing.T) {
	t.Parallel()
	s := newShell(t, "PATH=/nowhere")
	got := s.run(t, "dev", "--data", "kept", "--listen", "off")
	assert.Equal(t, exitFailed, got.status)
	assert.Equal(t, "forebay: keeping jobs needs a redis-server, and none is installed: install it (apt install redis-server, brew install redis), or leave out --data\n", got.stderr)
	got = s.run(t, "dev", "--data", "kept", "--redis", "redis://127.0.0.1:1")
	assert.Equal(t, exitUsage, got.status)
	assert.Equal(t, "forebay: --data stands beside --redis; give one of them; see `forebay dev --help`\n", got.stderr)
}
