package command

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/deploy/config"
)

// binaryDir holds the program that the end-to-end tests run.
var binaryDir string

func TestMain(m *testing.M) {
	var err error
	if binaryDir, err = os.MkdirTemp("", "forebay-command-test-"); err != nil {
		panic(err)
	}
	status := m.Run()
	_ = os.RemoveAll(binaryDir)
	os.Exit(status)
}

// buildBinary builds the program as users have it, once, when the first test needs it.
var buildBinary = sync.OnceValues(func() (string, error) {
	path := filepath.Join(binaryDir, "forebay")
	build := exec.Command("go", "build", "-o", path, "github.com/forebay-queue/forebay")
	build.Stderr = os.Stderr
	return path, build.Run()
})

// outcomeOf is what a command line came to.
type outcomeOf struct {
	status         int
	stdout, stderr string
}

// inProcess runs a command line inside the test.
func inProcess(t *testing.T, stdin string, args ...string) outcomeOf {
	t.Helper()
	var stdout, stderr bytes.Buffer
	status := Main(t.Context(), args, strings.NewReader(stdin), &stdout, &stderr)
	return outcomeOf{status, stdout.String(), stderr.String()}
}

// shell runs the built program in a folder and an environment of its own.
type shell struct {
	dir string
	env []string
}

func newShell(t *testing.T, env ...string) shell {
	t.Helper()
	_, err := buildBinary()
	require.NoError(t, err)
	return shell{dir: t.TempDir(), env: env}
}

func (s shell) command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	path, err := buildBinary()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Dir, cmd.Env = s.dir, append([]string{"HOME=" + s.dir}, s.env...)
	return cmd
}

// run runs a command line to its end.
func (s shell) run(t *testing.T, args ...string) outcomeOf {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := s.command(t, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	_ = cmd.Run() // the status says it
	return outcomeOf{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// ok runs a command line that must succeed, and returns what it printed.
func (s shell) ok(t *testing.T, args ...string) string {
	t.Helper()
	got := s.run(t, args...)
	require.Equal(t, exitOK, got.status, "forebay %s: %s", strings.Join(args, " "), got.stderr)
	return got.stdout
}

// process is a command line that runs beside the test.
type process struct {
	cmd            *exec.Cmd
	stdout, stderr *stream
}

// start starts a command line; it is killed when the test ends before it.
func (s shell) start(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{cmd: s.command(t, args...), stdout: &stream{}, stderr: &stream{}}
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, p.stderr
	require.NoError(t, p.cmd.Start())
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	})
	return p
}

func (p *process) signal(t *testing.T) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
}

// end waits for the end and returns the exit status.
func (p *process) end(t *testing.T) int {
	t.Helper()
	ended := make(chan struct{})
	go func() {
		_ = p.cmd.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		_ = p.cmd.Process.Kill()
		<-ended
		require.Fail(t, "the process did not end within 30s", p.stderr.text())
	}
	return p.cmd.ProcessState.ExitCode()
}

// stream keeps what a process writes.
type stream struct {
	mu   sync.Mutex
	kept bytes.Buffer
}

func (s *stream) Write(data []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kept.Write(data)
}

func (s *stream) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kept.String()
}

// await waits until the process has written a text.
func (s *stream) await(t *testing.T, text string) {
	t.Helper()
	eventually(t, "the process writes "+text, func() bool { return strings.Contains(s.text(), text) })
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	eventuallyWithin(t, 30*time.Second, what, holds)
}

func eventuallyWithin(t *testing.T, within time.Duration, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	for tick := time.NewTicker(20 * time.Millisecond); !holds(); {
		select {
		case <-tick.C:
		case <-ctx.Done():
			require.Fail(t, "waited "+within.String()+" in vain until "+what)
		}
	}
}

// writeFile writes a file of the test and returns its path.
func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// simulatedFile writes a configuration of one simulated region that nobody serves.
func simulatedFile(t *testing.T) string {
	t.Helper()
	text := simulatedConfig([]simulateRegion{{"apac", "http://127.0.0.1:9/apac/v1"}})
	_, err := config.Parse("simulated.yaml", text)
	require.NoError(t, err)
	return writeFile(t, "simulated.yaml", string(text))
}
