package command

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/deploy/sandbox/corpus"
	"github.com/forebay-queue/forebay/deploy/sandbox/demo"
)

// demoShell is a shell that finds the module cache of this machine.
func demoShell(t *testing.T) shell {
	t.Helper()
	cache, err := exec.CommandContext(t.Context(), "go", "env", "GOMODCACHE").Output()
	require.NoError(t, err)
	return newShell(t, "GOMODCACHE="+strings.TrimSpace(string(cache)))
}

// demoFolder writes a folder of documents.
func demoFolder(t *testing.T, count int) string {
	t.Helper()
	dir := t.TempDir()
	for i := range count {
		text := fmt.Sprintf("Document %d speaks of water and of gates. The water of document %d waits for its gate. "+
			"A gate opens when the turbine below can take the water.\n", i, i)
		require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("%03d.txt", i)), []byte(text), 0o600))
	}
	return dir
}

// TestDemo runs the whole demonstration with its outage, on the READMEs of the dependencies.
func TestDemo(t *testing.T) {
	t.Parallel()
	got := demoShell(t).run(t, "demo", "--pace", "fast", "--limit", "120", "--json")
	require.Equal(t, exitOK, got.status, got.stderr)
	var report demo.Report
	require.NoError(t, json.Unmarshal([]byte(got.stdout), &report))
	assert.Equal(t, 120, report.Succeeded)
	assert.GreaterOrEqual(t, report.Trips, int64(1))
	assert.GreaterOrEqual(t, report.Probes, int64(1))
	assert.GreaterOrEqual(t, report.Recoveries, int64(1))
	assert.Positive(t, report.Failovers)
	assert.Positive(t, report.Rerouted)
	assert.Empty(t, report.Problems)
	assert.Len(t, report.Summaries, 3)
	for _, want := range []string{
		"120 documents: sections of the documentation of", "simulated-apac goes down", "breaker of simulated-apac: open",
		"closed again", "120/120 done, 0 retrying, 0 failed",
	} {
		assert.Contains(t, got.stderr, want, "the progress goes to standard error")
	}
	assert.NotContains(t, got.stderr, "\x1b", "plain lines where there is no terminal")
}

func TestDemoOfAFolder(t *testing.T) {
	t.Parallel()
	dir := demoFolder(t, 5)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "latin1.txt"), []byte("caf\xe9"), 0o600))
	got := newShell(t).run(t, "demo", dir, "--pace", "fast")
	require.Equal(t, exitOK, got.status, got.stderr)
	for _, want := range []string{
		"5 documents: the text files of " + dir, "latin1.txt is left out: not UTF-8", "5 of 5 documents summarised",
		"it takes 80 documents to show a region fail", "Try it for real", "config init", "enqueue --type fast_summary",
	} {
		assert.Contains(t, got.stdout, want)
	}
	assert.Empty(t, got.stderr)
}

func TestDemoRefusals(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		args   []string
		status int
		want   string
	}{
		{[]string{"demo", "a", "b"}, exitUsage, "takes one folder at most, got 2 arguments; see `forebay demo --help`"},
		{[]string{"demo", "--pace", "slow"}, exitUsage, "--pace must be show or fast, got \"slow\"; see `forebay demo --help`"},
		{[]string{"demo", "--limit", "-1"}, exitUsage, "--limit must be positive, got -1; see `forebay demo --help`"},
		{[]string{"demo", "/no/such"}, exitFailed, "the folder /no/such cannot be read: no such file or directory; name a folder of text files"},
	} {
		got := inProcess(t, "", test.args...)
		assert.Equal(t, test.status, got.status)
		assert.Equal(t, "forebay: "+test.want+"\n", got.stderr)
	}
}

func TestDemoWithoutAModuleCache(t *testing.T) {
	t.Parallel()
	own := fstest.MapFS{"README.md": {Data: []byte("# Forebay\n\nIt is a durable queue for work. It keeps all jobs in Redis. Its workers do them one by one.\n")}}
	found, err := corpus.Default(t.Context(), own) // a test has no list of its modules
	require.NoError(t, err)
	assert.Equal(t, "README.md › Forebay", found.Documents[0].Name)

	got := newShell(t, "GOMODCACHE="+t.TempDir()).run(t, "demo", "--pace", "fast", "--limit", "5")
	require.Equal(t, exitOK, got.status, got.stderr)
	assert.Contains(t, got.stdout, "5 documents: sections of Forebay's own documentation", "main embeds them")
}

func TestDemoIsInterruptedAtAnyMoment(t *testing.T) {
	t.Parallel()
	dir := demoFolder(t, 200)
	signals := map[string]os.Signal{
		"at the start": syscall.SIGTERM, "before the first job": os.Interrupt, "in the middle": os.Interrupt,
		"while the breaker is open": syscall.SIGTERM,
	}
	for name, moment := range map[string]string{
		"at the start": "documents:", "before the first job": "0:00 ", "in the middle": "0:02 ", "while the breaker is open": "open; jobs go",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newShell(t).start(t, "demo", dir, "--pace", "fast")
			p.stdout.await(t, moment)
			begun := time.Now()
			require.NoError(t, p.cmd.Process.Signal(signals[name]))
			assert.Equal(t, exitInterrupted, p.end(t), p.stderr.text())
			assert.Less(t, time.Since(begun), 5*time.Second)
			assert.Regexp(t, `\ninterrupted: \d+ of 200 jobs were done\.\n$`, p.stdout.text())
			assert.Empty(t, p.stderr.text())
		})
	}
}

func TestDemoStays(t *testing.T) {
	t.Parallel()
	s := demoShell(t)
	s.env = append(s.env, envRedis+"=redis://127.0.0.1:1/0") // what it prints reaches the demonstration's all the same
	p := s.start(t, "demo", demoFolder(t, 3), "--pace", "fast", "--keep")
	p.stdout.await(t, "curl ")
	text := p.stdout.text()
	assert.Contains(t, text, "embedded, not durable")
	runPrinted(t, s, text)
	require.NoError(t, p.cmd.Process.Signal(os.Interrupt))
	assert.Equal(t, exitOK, p.end(t), p.stderr.text())
	assert.Empty(t, p.stderr.text())
}
