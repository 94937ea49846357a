package command

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/fleet"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

// runPrinted runs the commands that a deployment has printed, in a shell and in their order.
func runPrinted(t *testing.T, s shell, text string) {
	t.Helper()
	_, text, _ = strings.Cut(text, "From another terminal")
	var answered int
	for line := range strings.Lines(text) {
		line, indented := strings.CutPrefix(line, "  ")
		switch {
		case !indented:
			continue
		case strings.HasPrefix(line, "curl "):
			status, body := get(t, strings.TrimSpace(strings.TrimPrefix(line, "curl ")))
			assert.Equal(t, http.StatusOK, status, body)
			var result tasks.Result
			require.NoError(t, json.Unmarshal([]byte(body), &result))
			assert.Equal(t, tasks.StatusSucceeded, result.Status)
		default:
			cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", line)
			cmd.Dir, cmd.Env = s.dir, append([]string{"HOME=" + s.dir, "PATH=" + os.Getenv("PATH")}, s.env...)
			output, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s%s", line, output)
		}
		answered++
	}
	assert.Equal(t, 4, answered, "enqueue, status, get and curl")
}

func get(t *testing.T, url string) (status int, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(text)
}

var configPrinted = regexp.MustCompile(`--config (\S+)`)

func TestDevPrintsCommandsThatWork(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	require.NoError(t, os.WriteFile(filepath.Join(s.dir, "README.md"), []byte("A gate lets water through. It waits in front of it."), 0o600))
	p := s.start(t, "dev", "--listen", "127.0.0.1:0")
	p.stdout.await(t, "Ctrl-C ends it.\n")
	text := p.stdout.text()
	assert.Contains(t, text, "embedded, not durable: all jobs are gone when this ends")
	assert.Contains(t, text, "simulated-apac (simulated)")
	assert.Contains(t, text, "--file README.md")
	runPrinted(t, s, text)
	documented := documentedSeries(t)
	shown := scrape(t, regexp.MustCompile(`http://127\.0\.0\.1:[0-9]+`).FindString(text))
	for _, name := range []string{"forebay_slots", "forebay_leader", "forebay_http_requests_total"} {
		assert.Contains(t, shown, name, "dev shows the series of all processes")
		assert.Contains(t, documented, name)
	}
	file := configPrinted.FindStringSubmatch(text)[1]
	require.FileExists(t, file)
	require.NoError(t, p.cmd.Process.Signal(os.Interrupt))
	assert.Equal(t, exitOK, p.end(t), p.stderr.text())
	assert.NoDirExists(t, filepath.Dir(file), "nothing is left behind")
}

func TestDevOnARedisOfOnesOwn(t *testing.T) {
	t.Parallel()
	client, server := redistest.Real(t)
	s := newShell(t)
	p := s.start(t, "dev", "--listen", "127.0.0.1:0", "--redis", "redis://"+server.Addr+"/0")
	p.stdout.await(t, "Ctrl-C ends it.\n")
	assert.NotContains(t, p.stdout.text(), "not durable")
	runPrinted(t, s, p.stdout.text())
	keys, err := client.Keys(t.Context(), "forebay:{job:*}").Result()
	require.NoError(t, err)
	assert.Len(t, keys, 1)
	require.NoError(t, p.cmd.Process.Signal(os.Interrupt))
	assert.Equal(t, exitOK, p.end(t), p.stderr.text())
}

func TestDevHidesThePasswordOfRedis(t *testing.T) {
	t.Parallel()
	client, server := redistest.Real(t)
	require.NoError(t, client.ConfigSet(t.Context(), "requirepass", "open-sesame").Err())
	s := newShell(t)
	p := s.start(t, "dev", "--listen", "127.0.0.1:0", "--redis", "redis://:open-sesame@"+server.Addr+"/0")
	p.stdout.await(t, "Ctrl-C ends it.\n")
	assert.Contains(t, p.stdout.text(), "with FOREBAY_REDIS_URL set to your Redis")
	assert.NotContains(t, p.stdout.text()+p.stderr.text(), "sesame")
	withRedis := s
	withRedis.env = append(withRedis.env, "FOREBAY_REDIS_URL=redis://:open-sesame@"+server.Addr+"/0")
	runPrinted(t, withRedis, p.stdout.text())
}

func TestDevWithAConfiguration(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	provider := s.start(t, "simulate", "--listen", "127.0.0.1:0", "--write-config", "own.yaml")
	provider.stdout.await(t, "Ctrl-C ends it.")
	p := s.start(t, "dev", "--listen", "127.0.0.1:0", "--config", "own.yaml", "--json")
	p.stdout.await(t, "\n")
	var reply devReply
	require.NoError(t, json.Unmarshal([]byte(p.stdout.text()), &reply))
	assert.True(t, reply.Embedded)
	assert.Equal(t, filepath.Join(s.dir, "own.yaml"), reply.Config)
	require.Len(t, reply.Endpoints, 3)
	assert.Equal(t, "simulated-ap-northeast-1", reply.Endpoints[0].Endpoint)
	status, _ := get(t, reply.HTTP+"/readyz")
	assert.Equal(t, http.StatusOK, status)
	s.ok(t, "enqueue", "--config", reply.Config, "--redis", reply.Redis, "--type", "fast_summary", "--wait", "--input", "A gate lets water through.")

	// A change is taken up by all that runs in the process, and where Redis is in the file is none of it.
	text, err := os.ReadFile(reply.Config)
	require.NoError(t, err)
	changed := strings.Replace(string(text), "\ntask_types:\n", "\ntask_types:\n  poem: {model: gemini-2.5-flash}\n", 1)
	require.NotEqual(t, string(text), changed)
	require.NoError(t, os.WriteFile(reply.Config, []byte(changed), 0o600))
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGHUP))
	p.stderr.await(t, "another configuration holds")
	s.ok(t, "enqueue", "--config", reply.Config, "--redis", reply.Redis, "--type", "poem", "--wait", "--input", "A gate lets water through.")
	found := s.ok(t, "status", "--config", reply.Config, "--redis", reply.Redis, "--json")
	var shown statusReply
	require.NoError(t, json.Unmarshal([]byte(found), &shown))
	require.Len(t, shown.Fleet.Processes, 1)
	assert.Equal(t, fleet.Dev, shown.Fleet.Processes[0].Kind)
	assert.Empty(t, shown.Fleet.Processes[0].Config.Restart)
}

func TestDevListensWhereItsConfigurationSays(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	text := string(simulatedConfig([]simulateRegion{{"apac", "http://127.0.0.1:9/apac/v1"}}))
	const usual = "  listen: 127.0.0.1:8080\n"
	require.Contains(t, text, usual)
	listening := func(listen string, flags ...string) string {
		path := writeFile(t, "own.yaml", strings.Replace(text, usual, "  listen: "+listen+"\n", 1))
		p := s.start(t, append([]string{"dev", "--config", path}, flags...)...)
		p.stdout.await(t, "Ctrl-C ends it.\n")
		return p.stdout.text()
	}
	assert.Regexp(t, `\n  http +http://127\.0\.0\.1:\d+ `, listening("localhost:0"))
	off := listening("off")
	assert.NotContains(t, off, "/v1/jobs")
	assert.NotContains(t, off, "curl")
	assert.Contains(t, listening("off", "--listen", "127.0.0.1:0"), "curl http://127.0.0.1:", "the flag goes before the file")
}

func TestDevRefusals(t *testing.T) {
	t.Parallel()
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = taken.Close() })
	used := taken.Addr().String()
	keyless := writeFile(t, "real.yaml", string(exampleWithoutKeys(t)))
	public := writeFile(t, "public.yaml", strings.Replace(string(simulatedConfig([]simulateRegion{{"apac", "http://127.0.0.1:9/apac/v1"}})),
		"listen: 127.0.0.1:8080", "listen: 0.0.0.0:0", 1))
	for _, test := range []struct {
		line   string
		status int
		want   string
	}{
		{"dev --config " + public, exitFailed, "is not on loopback, and there is no API key yet"},
		{"dev --listen 0.0.0.0:0", exitFailed, "is not on loopback, and there is no API key yet"},
		{"dev --listen 8080", exitUsage, "--listen: the address \"8080\" cannot be read"},
		{"dev --listen " + used, exitFailed, "cannot listen on " + used + ": bind: address already in use; choose another address"},
		{"dev --redis redis://127.0.0.1:1/0", exitFailed, "cannot reach Redis at 127.0.0.1:1/0"},
		{"dev --redis nonsense", exitFailed, "the URL of Redis in --redis must be"},
		{"dev --config /no/such.yaml", exitFailed, "/no/such.yaml cannot be read"},
		{"dev --config " + keyless, exitFailed, "FOREBAY_TEST_ABSENT_KEY"},
	} {
		t.Run(test.line, func(t *testing.T) {
			t.Parallel()
			got := inProcess(t, "", strings.Fields(test.line)...)
			assert.Equal(t, test.status, got.status)
			assert.Contains(t, got.stderr, test.want)
			assert.Empty(t, got.stdout)
		})
	}
}

// exampleWithoutKeys is a configuration of a real endpoint whose key is in no environment.
func exampleWithoutKeys(t *testing.T) []byte {
	t.Helper()
	text := simulatedConfig([]simulateRegion{{"apac", "http://127.0.0.1:9/apac/v1"}})
	replaced := strings.ReplaceAll(string(text), "simulated: {}", "simulated: {key_env: FOREBAY_TEST_ABSENT_KEY}")
	replaced = strings.ReplaceAll(replaced, "auth: none, ", "")
	require.NotEqual(t, string(text), replaced)
	return []byte(replaced)
}

func TestQuote(t *testing.T) {
	t.Parallel()
	for word, want := range map[string]string{
		"/tmp/a-b_c.yaml": "/tmp/a-b_c.yaml", "redis://127.0.0.1:6379/0": "redis://127.0.0.1:6379/0",
		"a b": "'a b'", "it's": `'it'\''s'`, "$HOME": "'$HOME'", "": "''",
	} {
		assert.Equal(t, want, quote(word))
	}
}
