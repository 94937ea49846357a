package main_test

import (
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks/redistest"
)

// page is docs/getting-started.md with addresses of the test's own, and how its blocks are run.
type page struct {
	t      *testing.T
	dir    string
	binary string
	redis  string
}

var (
	heading = regexp.MustCompile(`(?m)^## (.+)$`)
	fenced  = regexp.MustCompile("(?ms)^```([a-z ]+)\n(.*?)^```$")
)

// What docs/getting-started.md has a reader type is run as it stands there.
func TestGettingStarted(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("docs/getting-started.md")
	require.NoError(t, err)
	binary, err := buildBinary()
	require.NoError(t, err)
	_, server := redistest.Real(t)
	api, provider := freeAddress(t), freeAddress(t)
	own := strings.NewReplacer("127.0.0.1:8080", api, "127.0.0.1:9400", provider, "127.0.0.1:6379", server.Addr).Replace(string(text))

	// What each section shows in the end. One that is not named here is prose.
	shows := map[string]string{
		"HTTP, with curl": `"status": ?"succeeded"`, "The command line": `(?s)succeeded.*workers +1 alive`,
		"A file or a folder":           `(?s)"id":"a".*"text":.*"id":"b"`,
		"The inbox, from any language": `(?m)^\d+-\d+\n(.*\n)*succeeded \w+`,
		"OpenAI's SDK":                 `(?s)\w+.*completed.*completed: 2.*"request-0".*"request-1"`,
		"Go":                           `succeeded: Water .*\(\$0\.0`, "asynq, directly": `(?s)enqueued in default\n.*\w+`,
	}
	p := &page{t: t, dir: t.TempDir(), binary: binary, redis: server.URL()}
	var sections [][2]string
	at := heading.FindAllStringSubmatchIndex(own, -1)
	for i, found := range at {
		end := len(own)
		if i+1 < len(at) {
			end = at[i+1][0]
		}
		sections = append(sections, [2]string{own[found[2]:found[3]], own[found[1]:end]})
	}
	require.Len(t, sections, len(shows)+1, "a section of the page is not known here")
	for _, block := range fenced.FindAllStringSubmatch(sections[0][1], -1) {
		if block[1] == "sh background" {
			p.background(block[2])
		}
	}
	require.Eventually(t, func() bool { return ready(t.Context(), "http://"+api+"/readyz") }, time.Minute, 50*time.Millisecond)
	for _, section := range sections[1:] {
		t.Run(section[0], func(t *testing.T) {
			t.Parallel()
			p := &page{t: t, dir: p.dir, binary: binary, redis: p.redis}
			var output strings.Builder
			for _, block := range fenced.FindAllStringSubmatch(section[1], -1) {
				output.WriteString(p.run(block[1], block[2]))
			}
			require.Contains(t, shows, section[0])
			assert.Regexp(t, shows[section[0]], output.String())
		})
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	return listener.Addr().String()
}

func ready(ctx context.Context, url string) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	_ = answer.Body.Close()
	return answer.StatusCode == http.StatusOK
}

// shell has the program on its path, and the test's Redis where the page has the default one.
func (p *page) shell(script string) *exec.Cmd {
	cmd := exec.CommandContext(p.t.Context(), "bash", "-euo", "pipefail", "-c", script)
	cmd.Dir = p.dir
	cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(p.binary)+string(os.PathListSeparator)+os.Getenv("PATH"), "FOREBAY_REDIS_URL="+p.redis)
	return cmd
}

// background starts what a reader has in a terminal of its own, and waits for the configuration that the first one writes.
func (p *page) background(line string) {
	p.t.Helper()
	cmd := p.shell("exec " + line)
	log := &stream{}
	cmd.Stdout, cmd.Stderr = log, log
	require.NoError(p.t, cmd.Start())
	p.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if p.t.Failed() {
			p.t.Logf("%s\n%s", line, lastLines(log.text(), 40))
		}
	})
	require.Eventually(p.t, func() bool {
		_, err := os.Stat(filepath.Join(p.dir, "forebay.yaml"))
		return err == nil
	}, time.Minute, 20*time.Millisecond, line)
}

// run runs a block and returns what it has printed.
func (p *page) run(language, code string) string {
	p.t.Helper()
	var cmd *exec.Cmd
	switch language {
	case "sh":
		cmd = p.shell(code)
	case "python":
		if exec.CommandContext(p.t.Context(), python(), "-c", "import redis").Run() != nil {
			p.t.Skip("SKIPPED: redis-py is not installed")
		}
		cmd = exec.CommandContext(p.t.Context(), python(), "-c", code)
	case "js":
		cmd = nodeCommand(p.t)
		cmd.Args = append(cmd.Args, p.file(cmd.Dir, "*.mjs", code))
	case "go":
		program := filepath.Join(p.t.TempDir(), "program")
		built, err := exec.CommandContext(p.t.Context(), "go", "build", "-o", program, p.file(p.t.TempDir(), "*.go", code)).CombinedOutput()
		require.NoError(p.t, err, string(built))
		cmd = exec.CommandContext(p.t.Context(), program)
		cmd.Dir = p.dir
	default:
		require.Fail(p.t, "a block in a language that is not run", language)
	}
	output, err := cmd.CombinedOutput()
	require.NoError(p.t, err, "%s\n%s", code, output)
	return string(output)
}

func (p *page) file(dir, pattern, code string) string {
	p.t.Helper()
	file, err := os.CreateTemp(dir, pattern)
	require.NoError(p.t, err)
	_, err = file.WriteString(code)
	require.NoError(p.t, err)
	require.NoError(p.t, file.Close())
	return file.Name()
}
