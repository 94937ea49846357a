package command

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// terminal is the near side of a pseudo-terminal in which a command line runs.
type terminal struct {
	near *os.File
	cmd  *exec.Cmd
	seen *stream
	read chan struct{}
}

// inTerminal starts a command line in a terminal of the given size.
func inTerminal(t *testing.T, s shell, lines, columns uint16, args ...string) *terminal {
	t.Helper()
	near, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = near.Close() })
	connection, err := near.SyscallConn()
	require.NoError(t, err)
	var number int
	var failed error
	require.NoError(t, connection.Control(func(fd uintptr) {
		if failed = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); failed != nil {
			return
		}
		if number, failed = unix.IoctlGetInt(int(fd), unix.TIOCGPTN); failed != nil {
			return
		}
		failed = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: lines, Col: columns})
	}))
	require.NoError(t, failed)
	far, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	defer far.Close()

	p := &terminal{near: near, cmd: s.command(t, args...), seen: &stream{}, read: make(chan struct{})}
	p.cmd.Env = append(p.cmd.Env, "TERM=xterm")
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = far, far, far
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	require.NoError(t, p.cmd.Start())
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	})
	go func() {
		defer close(p.read)
		_, _ = io.Copy(p.seen, near) // ends with an error when the far side is closed
	}()
	return p
}

// end waits for the end of the command line and of what it has written.
func (p *terminal) end(t *testing.T) int {
	t.Helper()
	_ = p.cmd.Wait()
	select {
	case <-p.read:
	case <-time.After(5 * time.Second):
		require.Fail(t, "the terminal is still held by somebody")
	}
	return p.cmd.ProcessState.ExitCode()
}

func TestDemoInATerminal(t *testing.T) {
	t.Parallel()
	p := inTerminal(t, newShell(t), 30, 100, "demo", demoFolder(t, 100), "--pace", "fast")
	status := p.end(t)
	text := p.seen.text()
	require.Equal(t, exitOK, status, text)
	for _, want := range []string{
		"█", "░", "\x1b[5A\x1b[J", "100/100", "● simulated-apac", "✕ simulated-apac", "open", "simulated-apac goes down", "closed again", "100 of 100 documents summarised",
	} {
		assert.Contains(t, text, want)
	}
	for line := range strings.SplitSeq(text, "\r\n") {
		if strings.Contains(line, "░") {
			assert.LessOrEqual(t, len([]rune(line))-strings.Count(line, "\x1b")*4, 101, "a line that wraps would break the display")
		}
	}
}

func TestDemoInATerminalIsInterrupted(t *testing.T) {
	t.Parallel()
	p := inTerminal(t, newShell(t), 30, 100, "demo", demoFolder(t, 100), "--pace", "fast")
	p.seen.await(t, "░")
	_, err := p.near.WriteString("\x03") // as the key does it
	require.NoError(t, err)
	assert.Equal(t, exitInterrupted, p.end(t))
	text := p.seen.text()
	assert.Regexp(t, `interrupted: \d+ of 100 jobs were done\.\r\n$`, text)
	assert.NotContains(t, text, "\x1b[?25l", "the cursor is never hidden, so it need not be shown again")
}

func TestDemoInATerminalThatIsTooSmall(t *testing.T) {
	t.Parallel()
	p := inTerminal(t, newShell(t), 0, 0, "demo", demoFolder(t, 3), "--pace", "fast")
	require.Equal(t, exitOK, p.end(t), p.seen.text())
	assert.NotContains(t, p.seen.text(), "\x1b")
	assert.Contains(t, p.seen.text(), "3/3 done")
}
