package command

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/fleet"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

// onRedis returns a function that runs a command line on an embedded Redis, with a configuration.
func onRedis(t *testing.T) func(stdin string, args ...string) outcomeOf {
	t.Helper()
	run, _ := onRedisWithClient(t)
	return run
}

func onRedisWithClient(t *testing.T) (run func(stdin string, args ...string) outcomeOf, client *redis.Client) {
	t.Helper()
	client, server := redistest.Embedded(t)
	file := simulatedFile(t)
	return func(stdin string, args ...string) outcomeOf {
		t.Helper()
		return inProcess(t, stdin, append(args, "--redis", "redis://"+server.Addr(), "--config", file)...)
	}, client
}

func TestEnqueueTakesContentFromEverywhere(t *testing.T) {
	t.Parallel()
	run := onRedis(t)
	text := writeFile(t, "doc.txt", "A text.")
	request := writeFile(t, "body.json", `{"messages":[{"role":"user","content":"Hi."}],"top_p":0.5}`)
	job := writeFile(t, "job.json", `{"task_type":"simple_response","input":"Hi.","priority":"bulk"}`)
	for name, args := range map[string][]string{
		"file":    {"--type", "fast_summary", "--file", text},
		"input":   {"--type", "fast_summary", "--input", "A text."},
		"stdin":   {"--type", "fast_summary", "-"},
		"request": {"--tier", "low", "--request", request},
		"job":     {"--job", job, "--type", "fast_summary"},
	} {
		got := run("A text.", append([]string{"enqueue", "--id", name}, args...)...)
		assert.Equal(t, outcomeOf{stdout: name + "\n"}, got, name)
		got = run("", "get", name, "--json")
		var result tasks.Result
		require.NoError(t, json.Unmarshal([]byte(got.stdout), &result), got.stderr)
		assert.Equal(t, tasks.StatusQueued, result.Status)
		if name != "request" {
			assert.Equal(t, "fast_summary", result.TaskType, "flags go before the job's own fields")
		}
	}
	again := run("", "enqueue", "--id", "input", "--type", "fast_summary", "--input", "A text.", "--json")
	assert.JSONEq(t, `{"id":"input","status":"queued","created":false}`, again.stdout)
	other := run("", "enqueue", "--id", "input", "--type", "fast_summary", "--input", "Another text.")
	assert.Equal(t, exitFailed, other.status)
	assert.Contains(t, other.stderr, "job input: the id is taken by a job that asks for something else; choose another id")

	var status statusReply
	require.NoError(t, json.Unmarshal([]byte(run("", "status", "--json").stdout), &status))
	for i := range status.Queues {
		assert.Equal(t, status.Queues[i].Pending > 0, status.Queues[i].OldestS != nil, "what waits has an age")
		status.Queues[i].OldestS = nil
	}
	assert.Equal(t, []producer.Queue{{Queue: "critical"}, {Queue: "default", Pending: 4}, {Queue: "bulk", Pending: 1}, {Queue: "webhooks"}}, status.Queues)
}

func TestEnqueueRefusals(t *testing.T) {
	t.Parallel()
	run := onRedis(t)
	large := writeFile(t, "large.txt", strings.Repeat("a", tasks.MaxJobBytes+1))
	escaped := writeFile(t, "escaped.txt", strings.Repeat("\n", tasks.MaxJobBytes/2+1)+"a")
	webhook := writeFile(t, "job.json", `{"task_type":"fast_summary","input":"x","accept":{}}`)
	empty := writeFile(t, "empty.txt", " \n")
	nowhere := filepath.Join(t.TempDir(), "nowhere.txt")
	cut := writeFile(t, "cut.json", `{"messages":[{"role":"user"`)
	utf16 := writeFile(t, "utf16.txt", "\xff\xfeA\x00")
	binary := writeFile(t, "binary.txt", "A\x00B")
	yesterday := writeFile(t, "yesterday.json", `{"task_type":"fast_summary","input":"x","deadline":"yesterday"}`)
	twice := writeFile(t, "twice.json", `{"task_type":"fast_summary","input":"A","Input":"B"}`)
	for _, test := range []struct{ name, want, args string }{
		{"unknown task type", `task_type: no task type "fast_summari", did you mean "fast_summary"?`, "--type fast_summari --input x"},
		{"oversized", large + " is larger than the 8388608 bytes that a job may have; divide it", "--type fast_summary --file " + large},
		{"oversized as JSON", "the job has 8388650 bytes as JSON; at most 8388608 are accepted, so divide what it asks for", "--type fast_summary --file " + escaped},
		{"unsupported field", webhook + ": accept: `accept` is not available yet; leave it out", "--job " + webhook},
		{"nothing in it", empty + " is empty; there is nothing to ask for", "--type fast_summary --file " + empty},
		{"not there", nowhere + " cannot be read: no such file or directory; name a file that is there, or - for the standard input", "--type fast_summary --file " + nowhere},
		{"cut off", cut + ` is not JSON at byte 27: unexpected end of JSON input; write the body of the call there, such as {"messages": [...]}`, "--type fast_summary --request " + cut},
		{"UTF-16", utf16 + " is not text in UTF-8; convert it first, for example with `iconv -f UTF-16 -t UTF-8`", "--type fast_summary --file " + utf16},
		{"binary", binary + " is not text in UTF-8; convert it first", "--type fast_summary --file " + binary},
		{"a time that is none", yesterday + ": deadline: must be a time in quotes", "--job " + yesterday},
		{"a field in another case", twice + ": Input: unknown field; did you mean input?", "--job " + twice},
		{"past deadline", "deadline: ", "--type fast_summary --input x --deadline 2020-01-01T00:00:00Z"},
		{"bad id", "id: must be 1 to 128 characters of A-Z a-z 0-9 _ -", "--type fast_summary --input x --id a/b"},
	} {
		got := run("", append([]string{"enqueue"}, strings.Fields(test.args)...)...)
		assert.Equal(t, exitFailed, got.status, test.name)
		assert.Contains(t, got.stderr, "forebay: "+test.want, test.name)
		assert.Equal(t, 1, strings.Count(got.stderr, "\n"), "%s: one line: %s", test.name, got.stderr)
		assert.Empty(t, got.stdout, test.name)
	}
	got := run("", "enqueue", "--type", "fast_summary", "--input", " \t ")
	assert.Equal(t, outcomeOf{status: exitFailed, stderr: "forebay: input: is white space only; there is nothing to ask for\n"}, got)
	got = inProcess(t, "", "enqueue", "--type", "fast_summary", "--input", "x")
	assert.Equal(t, exitFailed, got.status)
	assert.Equal(t, "forebay: `forebay enqueue` needs a configuration: name it with --config or FOREBAY_CONFIG, or write ./forebay.yaml with `forebay config init`\n", got.stderr)
}

func TestCancelAndItsRepetition(t *testing.T) {
	t.Parallel()
	run := onRedis(t)
	require.Equal(t, exitOK, run("", "enqueue", "--id", "a", "--type", "fast_summary", "--input", "x", "--run-at", "1h", "--metadata", "k=v").status)
	got := run("", "get", "a")
	assert.Contains(t, got.stdout, "waiting    scheduled, until ")
	assert.Contains(t, got.stdout, "metadata   k=v")
	for range 2 {
		assert.Equal(t, outcomeOf{stdout: "job a is cancelled\n"}, run("", "cancel", "a"))
	}
	got = run("", "get", "a", "--wait")
	assert.Equal(t, exitFailed, got.status)
	assert.Contains(t, got.stdout, "status      cancelled")
	assert.Equal(t, "forebay: job a has ended as cancelled: cancelled (cancelled): cancelled before an answer came; enqueue it under another id to run it after all\n", got.stderr)

	for _, command := range []string{"get", "cancel"} {
		got = run("", command, "b")
		assert.Equal(t, exitFailed, got.status)
		assert.Contains(t, got.stderr, "job b: no such job: the id is wrong, or the job's retention has passed")
	}
}

func TestEnqueueOfAJobThatHasEnded(t *testing.T) {
	t.Parallel()
	run := onRedis(t)
	enqueue := []string{"enqueue", "--id", "a", "--type", "fast_summary", "--input", "x"}
	require.Equal(t, exitOK, run("", enqueue...).status)
	require.Equal(t, exitOK, run("", "cancel", "a").status)
	const told = "forebay: job a was enqueued before and has ended as cancelled; it is not run again; choose another id\n"
	assert.Equal(t, outcomeOf{status: exitFailed, stdout: "a\n", stderr: told}, run("", enqueue...))
	got := run("", append(enqueue, "--json")...)
	assert.Equal(t, exitFailed, got.status)
	assert.JSONEq(t, `{"id":"a","status":"cancelled","created":false}`, got.stdout)
	assert.Equal(t, told, got.stderr)
	got = run("", append(enqueue, "--wait")...)
	assert.Equal(t, exitFailed, got.status)
	assert.True(t, strings.HasPrefix(got.stderr, told+"forebay: job a has ended as cancelled: "), got.stderr)
	assert.NotContains(t, got.stderr, "waiting for its end")
}

func TestReceiptOfAJobThatHasSucceeded(t *testing.T) {
	t.Parallel()
	cmd := newEnqueueCommand()
	var stdout, stderr strings.Builder
	cmd.SetOut(&stdout)
	cmd.SetErr(&stderr)
	require.NoError(t, printReceipt(cmd, producer.Receipt{ID: "a", Status: tasks.StatusSucceeded}))
	assert.Equal(t, "a\n", stdout.String())
	assert.Equal(t, "forebay: job a was enqueued before and has succeeded; it is not run again, its answer is that of `forebay get a`\n", stderr.String())
}

func TestGetOfAJobThatGoesOn(t *testing.T) {
	t.Parallel()
	run := onRedis(t)
	require.Equal(t, exitOK, run("", "enqueue", "--id", "a", "--type", "fast_summary", "--input", "x").status)
	got := run("", "get", "a", "--text")
	assert.Equal(t, outcomeOf{status: exitFailed, stderr: "forebay: job a has not ended, it is queued; wait for it with `forebay get a --wait`\n"}, got)
	got = run("", "get", "a", "--wait", "--timeout", "30ms")
	assert.Equal(t, outcomeOf{status: exitFailed, stderr: "forebay: job a has not ended within 30ms and goes on; wait for it again with `forebay get a --wait`\n"}, got)
}

func TestRedisIsNamedWithoutItsPassword(t *testing.T) {
	t.Parallel()
	_, server := redistest.Embedded(t)
	server.RequireUserAuth("user", "right")
	for _, test := range []struct{ url, want string }{
		{"redis://user:hunter2@127.0.0.1:1/0", "cannot reach Redis at 127.0.0.1:1/0: connect: connection refused; start it there, or name another with --redis or FOREBAY_REDIS_URL"},
		{"redis://user:hunter2@" + server.Addr(), "cannot reach Redis at " + server.Addr() + "/0: WRONGPASS"},
		{"http://user:hunter2@127.0.0.1", "the URL of Redis in --redis must be redis://host:port/database"},
		{"redis://user:hunter2@host:port", "the URL of Redis in --redis must be redis://host:port/database"},
	} {
		started := time.Now()
		got := inProcess(t, "", "status", "--redis", test.url)
		assert.Less(t, time.Since(started), 2*redisTimeout)
		assert.Equal(t, exitFailed, got.status)
		assert.Contains(t, got.stderr, "forebay: "+test.want)
		assert.Equal(t, 1, strings.Count(got.stderr, "\n"), got.stderr)
		assert.NotContains(t, got.stderr, "hunter2")
	}
}

func TestStatusWithoutAConfiguration(t *testing.T) {
	t.Parallel()
	client, server := redistest.Embedded(t)
	require.NoError(t, fleet.Join(client, keyspace.New(""), fleet.Process{ID: "one", Kind: fleet.Worker}).Beat(t.Context()))
	got := inProcess(t, "", "status", "--redis", "redis://"+server.Addr())
	assert.Equal(t, exitOK, got.status, got.stderr)
	assert.Contains(t, got.stdout, "workers  1 alive\n")
	assert.Contains(t, got.stdout, "shown where there is a configuration (--config)")
}
