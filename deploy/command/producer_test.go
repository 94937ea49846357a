package command

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// producerAt starts a producer on a free port and returns its address.
func producerAt(t *testing.T, d site) (*process, string) {
	t.Helper()
	p := d.start(t, "producer", "--listen", "127.0.0.1:0", "--log-format", "json")
	return p, "http://" + p.address(t, "HTTP interface listens")
}

// ask sends a request and returns the status and the body of the answer.
func ask(t *testing.T, request *http.Request) (int, string) {
	t.Helper()
	answer, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return answer.StatusCode, string(body)
}

func TestProducerServesUntilASignal(t *testing.T) {
	t.Parallel()
	d := newSite(t)
	p, url := producerAt(t, d)
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/v1/jobs/absent": 404} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+path, nil)
		require.NoError(t, err)
		status, body := ask(t, request)
		assert.Equal(t, want, status, "%s: %s", path, body)
		assert.True(t, json.Valid([]byte(body)), path)
	}
	p.signal(t)
	begun := time.Now()
	assert.Equal(t, exitOK, p.end(t), p.stderr.text())
	assert.Less(t, time.Since(begun), 5*time.Second)
}

func TestProducerRefusesToListenElsewhere(t *testing.T) {
	t.Parallel()
	d := newSite(t)
	for address, want := range map[string]string{
		"0.0.0.0:0":   "is not on loopback, and there is no API key yet",
		":0":          "`forebay keys create --tenant NAME` or `--operator`",
		"8080":        "cannot be read",
		"":            "must be an address",
		"127.0.0.1:x": "cannot listen",
	} {
		got := d.run(t, "producer", "--listen", address)
		assert.NotEqual(t, exitOK, got.status, address)
		assert.Contains(t, got.stderr, want, address)
	}
	text, err := os.ReadFile(filepath.Join(d.dir, "forebay.yaml"))
	require.NoError(t, err)
	none := writeFile(t, "none.yaml", regexp.MustCompile(`(?m)^batches:\n(  #.*\n)*  enabled: on`).ReplaceAllString(string(text), "batches:\n  enabled: off"))
	assert.Contains(t, d.run(t, "producer", "--listen", "off", "--inbox", "off", "--config", none).stderr, "nothing to do")
	assert.Contains(t, d.run(t, "producer", "--inbox", "sometimes").stderr, "--inbox must be on or off")
}

func TestProducerConsumesTheInbox(t *testing.T) {
	t.Parallel()
	d := newSite(t)
	p := d.start(t, "producer", "--listen", "off", "--log-format", "json")
	p.stderr.await(t, "inbox started")
	id, err := d.client.XAdd(t.Context(), &redis.XAddArgs{
		Stream: "forebay:inbox", Values: []string{"job", `{"task_type":"fast_summary","input":"x"}`},
	}).Result()
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		return d.client.HGet(t.Context(), "forebay:{job:inbox-"+id+"}", "status").Val() == "queued"
	}, 10*time.Second, 10*time.Millisecond)
	p.signal(t)
	assert.Equal(t, exitOK, p.end(t), p.stderr.text())
}

// What docs/http.md tells to type works as it stands, on a deployment of one process.
func TestTheDocumentedRequests(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/http.md")
	require.NoError(t, err)
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	require.GreaterOrEqual(t, len(blocks), 4)
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("curl is not installed")
	}
	s := newShell(t)
	dev := s.start(t, "dev", "--json", "--listen", "127.0.0.1:0")
	dev.stdout.await(t, "\n")
	var reply devReply
	require.NoError(t, json.Unmarshal([]byte(dev.stdout.text()), &reply))
	var output strings.Builder
	for _, block := range blocks {
		script := strings.ReplaceAll(block[1], "http://127.0.0.1:8080", reply.HTTP)
		told, err := exec.CommandContext(t.Context(), "sh", "-ec", script).CombinedOutput()
		require.NoError(t, err, "%s: %s", script, told)
		output.Write(told)
	}
	for _, want := range []string{
		`{"id":"doc-1","created":true,"status":"queued"}`, `"id":"import-7-1","status":"succeeded"`, "event: result",
		`{"group_by":"status"`, `"paused":true`,
	} {
		assert.Contains(t, output.String(), want)
	}
}
