package command

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/deploy/simulator"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

// site is a real Redis and a simulated provider in processes of their own, and a configuration for both.
type site struct {
	shell
	counters string
	client   *redis.Client
}

func newSite(t *testing.T, simulate ...string) site {
	t.Helper()
	client, server := redistest.Real(t)
	s := newShell(t, envRedis+"="+server.URL())
	provider := s.start(t, append([]string{"simulate", "--json", "--listen", "127.0.0.1:0", "--write-config", defaultConfigPath}, simulate...)...)
	provider.stdout.await(t, "\n")
	var reply simulateReply
	require.NoError(t, json.Unmarshal([]byte(provider.stdout.text()), &reply))
	return site{s, reply.Counters, client}
}

// asked is how many calls the provider has taken.
func (s site) asked(t *testing.T) int64 {
	t.Helper()
	answer, err := http.Get(s.counters)
	require.NoError(t, err)
	defer answer.Body.Close()
	var counters simulator.Counters
	require.NoError(t, json.NewDecoder(answer.Body).Decode(&counters))
	return counters.Total.Asked
}

func (s site) result(t *testing.T, id string) tasks.Result {
	t.Helper()
	var result tasks.Result
	require.NoError(t, json.Unmarshal([]byte(s.ok(t, "get", id, "--json")), &result))
	return result
}

func (s site) worker(t *testing.T) *process {
	t.Helper()
	worker := s.start(t, "worker", "--slots", "4")
	worker.stderr.await(t, "worker started")
	return worker
}

const document = "A forebay is the pool where water waits in front of the turbines. A gate lets it through. " +
	"The turbines turn. Nobody waits for the water, and the water waits for nobody."

// The way of a new user: a configuration, a provider, a worker, a job, its answer.
func TestFromTheConfigurationToTheAnswer(t *testing.T) {
	t.Parallel()
	d := newSite(t)
	require.NoError(t, os.WriteFile(filepath.Join(d.dir, "doc.txt"), []byte(document), 0o600))
	assert.Contains(t, d.ok(t, "config", "init", "example.yaml"), "Wrote example.yaml")
	assert.Contains(t, d.ok(t, "config", "check"), "forebay.yaml is in order")

	// Nobody is there to do it, which is said; then somebody is.
	waiting := d.start(t, "enqueue", "--type", "fast_summary", "--file", "doc.txt", "--id", "first", "--wait")
	waiting.stderr.await(t, "no worker is alive")
	worker := d.worker(t)
	require.Equal(t, exitOK, waiting.end(t), waiting.stderr.text())
	text := waiting.stdout.text()
	assert.NotEmpty(t, strings.TrimSpace(text))
	for sentence := range strings.SplitSeq(strings.TrimSpace(text), "\n") {
		assert.Contains(t, document, strings.TrimSpace(sentence), "a simulated summary is of the document's own sentences")
	}
	assert.Equal(t, text, d.ok(t, "get", "first", "--text"))
	human := d.ok(t, "get", "first")
	assert.Contains(t, human, "gemini-2.5-flash@simulated-ap-northeast-1 (simulated), ap-northeast-1, tier low")
	result := d.result(t, "first")
	assert.Equal(t, tasks.StatusSucceeded, result.Status)
	assert.Positive(t, result.CostUSD)

	later := strings.TrimSpace(d.ok(t, "enqueue", "--type", "fast_summary", "--input", document, "--run-at", "1h"))
	assert.Equal(t, "job "+later+" is cancelled\n", d.ok(t, "cancel", later))
	failed := d.run(t, "cancel", "first")
	assert.Equal(t, exitFailed, failed.status)
	assert.Equal(t, "forebay: job first was not cancelled: it had ended before as succeeded\n", failed.stderr)

	var status statusReply
	require.NoError(t, json.Unmarshal([]byte(d.ok(t, "status", "--json")), &status))
	assert.Len(t, status.Workers, 1)
	require.Len(t, status.Endpoints, 3)
	assert.Equal(t, d.asked(t), status.Endpoints[0].Calls, "the provider's counter equals the ledger's")
	assert.Contains(t, d.ok(t, "status"), "simulated-ap-northeast-1 (simulated)  ap-northeast-1  simulated  closed")

	worker.signal(t)
	assert.Equal(t, exitOK, worker.end(t), worker.stderr.text())
	assert.Contains(t, d.ok(t, "status"), "workers  none alive")
}

// The first signal lets the call that is out finish.
func TestTheFirstSignalDrains(t *testing.T) {
	t.Parallel()
	d := newSite(t, "--region", "slow:1s")
	worker := d.worker(t)
	d.ok(t, "enqueue", "--type", "fast_summary", "--input", document, "--id", "a")
	eventually(t, "the call is out", func() bool { return d.asked(t) == 1 })
	worker.signal(t)
	require.Equal(t, exitOK, worker.end(t), worker.stderr.text())
	assert.Equal(t, tasks.StatusSucceeded, d.result(t, "a").Status)
	assert.EqualValues(t, 1, d.asked(t))
}

// The second signal gives up the call that is out, and its job back to the queue.
func TestTheSecondSignalGivesBack(t *testing.T) {
	t.Parallel()
	d := newSite(t, "--region", "dead", "--outage", "dead:hang")
	worker := d.worker(t)
	d.ok(t, "enqueue", "--type", "fast_summary", "--input", document, "--id", "a")
	eventually(t, "the call is out", func() bool { return d.asked(t) == 1 })
	worker.signal(t)
	worker.stderr.await(t, "stopping")
	worker.signal(t)
	started := time.Now()
	require.Equal(t, exitOK, worker.end(t), worker.stderr.text())
	assert.Less(t, time.Since(started), 10*time.Second)
	result := d.result(t, "a")
	assert.False(t, result.Status.Ended(), result.Status)
	require.Len(t, result.Attempts, 1)
	assert.True(t, result.Attempts[0].MaybeBilled, "what was given up may have been billed")
	assert.Contains(t, d.ok(t, "status"), "workers  none alive")
}

// A job that fails says why, and the exit status says it too.
func TestAJobThatFails(t *testing.T) {
	t.Parallel()
	d := newSite(t, "--region", "picky", "--outage", "picky:400")
	worker := d.worker(t)
	got := d.run(t, "enqueue", "--type", "fast_summary", "--input", document, "--id", "a", "--wait", "--timeout", "20s")
	assert.Equal(t, exitFailed, got.status)
	assert.Empty(t, got.stdout)
	assert.Contains(t, got.stderr, "forebay: job a has ended as failed: invalid (")
	got = d.run(t, "get", "a", "--text")
	assert.Equal(t, exitFailed, got.status)
	assert.Contains(t, got.stderr, "forebay: job a has ended as failed: invalid (")
	assert.Contains(t, d.ok(t, "get", "a"), "invalid (HTTP 400")
	worker.signal(t)
	assert.Equal(t, exitOK, worker.end(t))
}

// What is wrong is one line each, through the built program, with nothing of a Go program's end.
func TestMistakesThroughTheBinary(t *testing.T) {
	t.Parallel()
	s := newShell(t, "HOLYSHEEP_API_KEY=ab-123456789012345678901", "OPENAI_API_KEY=YOUR_OPENAI_KEY")
	s.ok(t, "config", "init")
	simulated := simulatedFile(t)
	bad := writeFile(t, "bad.yaml", "redis:\n  urll: x\n")
	webhook := writeFile(t, "job.json", `{"task_type":"fast_summary","input":"x","accept":{}}`)
	large := writeFile(t, "large.txt", strings.Repeat("a", tasks.MaxJobBytes+1))
	const redis = "redis://user:hunter2@127.0.0.1:1/0"
	_, server := redistest.Embedded(t)
	for _, test := range []struct {
		name   string
		args   string
		status int
		want   []string
	}{
		{"unreachable Redis", "worker --ops-listen off --config " + simulated + " --redis " + redis, exitFailed, []string{
			"forebay: cannot reach Redis at 127.0.0.1:1/0: connect: connection refused; start it there, or name another with --redis or FOREBAY_REDIS_URL",
		}},
		{"wrong key shape", "worker --ops-listen off", exitFailed, []string{
			`accounts.holysheep.key_env: the environment variable HOLYSHEEP_API_KEY holds a key of another shape: it begins differently; put the API key there (expected: begins with "sk-" or "hs-", at least 20 characters)`,
			"accounts.openai.key_env: the environment variable OPENAI_API_KEY holds a placeholder",
		}},
		{"bad configuration", "config check " + bad, exitFailed, []string{bad + ":2:3: redis.urll: unknown field, did you mean url?"}},
		{"unknown task type", "enqueue --config " + simulated + " --type no_such_type --input x --redis redis://" + server.Addr(), exitFailed, []string{
			`forebay: task_type: no task type "no_such_type"`,
		}},
		{"oversized request", "enqueue --type fast_summary --file " + large, exitFailed, []string{
			"forebay: " + large + " is larger than the 8388608 bytes that a job may have; divide it",
		}},
		{"unsupported field", "enqueue --job " + webhook, exitFailed, []string{
			"forebay: " + webhook + ": accept: `accept` is not available yet; leave it out",
		}},
		{"unknown command", "batchh", exitUsage, []string{`forebay: unknown command "batchh"`}},
		{"command to come", "bench list", exitUsage, []string{"forebay: `forebay bench` is not available yet"}},
	} {
		started := time.Now()
		got := s.run(t, strings.Fields(test.args)...)
		assert.Less(t, time.Since(started), 10*time.Second, test.name)
		assert.Equal(t, test.status, got.status, test.name)
		assert.Empty(t, got.stdout, test.name)
		lines := strings.Split(strings.TrimSpace(got.stderr), "\n")
		if assert.Len(t, lines, len(test.want), "%s: %s", test.name, got.stderr) {
			for i, want := range test.want {
				assert.Contains(t, lines[i], want, test.name)
			}
		}
		for _, secret := range []string{"hunter2", "ab-12345", "YOUR_OPENAI", "goroutine "} {
			assert.NotContains(t, got.stderr, secret, test.name)
		}
	}
	assert.Regexp(t, `^forebay \S+ .*go1\.`, s.ok(t, "version"))
}

// edit changes the configuration.
func (s site) edit(t *testing.T, old, changed string) {
	t.Helper()
	path := filepath.Join(s.dir, defaultConfigPath)
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Contains(t, string(data), old)
	require.NoError(t, os.WriteFile(path, []byte(strings.Replace(string(data), old, changed, 1)), 0o600))
}
