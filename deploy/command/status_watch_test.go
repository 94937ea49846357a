package command

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"
	"github.com/charmbracelet/x/vt"
	"github.com/creack/pty"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/term"

	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/activity"
	"github.com/forebay-queue/forebay/tasks/alerts"
	"github.com/forebay-queue/forebay/tasks/fleet"
	"github.com/forebay-queue/forebay/tasks/gate"
	"github.com/forebay-queue/forebay/tasks/jobstore"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

// tty is a terminal that a program writes to: what it shows, and every byte that came.
type tty struct {
	master, slave *os.File
	before        *term.State

	mu    sync.Mutex
	shown *vt.Emulator
	// wide is far wider than the program is told: what is written past the edge is seen there.
	wide  *vt.Emulator
	bytes bytes.Buffer
}

func newTerminal(t *testing.T, columns, lines int) *tty {
	t.Helper()
	master, slave, err := pty.Open()
	require.NoError(t, err)
	require.NoError(t, pty.Setsize(slave, &pty.Winsize{Rows: uint16(lines), Cols: uint16(columns)}))
	x := &tty{master: master, slave: slave, shown: vt.NewEmulator(columns, lines), wide: vt.NewEmulator(3*columns, lines)}
	x.before, err = term.GetState(int(slave.Fd()))
	require.NoError(t, err)
	var reading sync.WaitGroup
	reading.Go(func() { // a terminal answers what it is asked
		_, _ = io.Copy(master, x.shown)
	})
	reading.Go(func() { _, _ = io.Copy(io.Discard, x.wide) })
	reading.Go(func() { _, _ = io.Copy(x, master) })
	t.Cleanup(func() {
		_ = slave.Close()
		_ = master.Close()
		for _, emulator := range []*vt.Emulator{x.shown, x.wide} { // its own Close races with its Read
			_ = emulator.InputPipe().(io.Closer).Close() //nolint:forcetypeassert // it is an io.PipeWriter
		}
		reading.Wait()
	})
	return x
}

func (x *tty) Write(data []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.bytes.Write(data)
	_, _ = x.wide.Write(data)
	return x.shown.Write(data)
}

func (x *tty) text() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.shown.String()
}

func (x *tty) written() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.bytes.String()
}

func (x *tty) await(t *testing.T, text string) {
	t.Helper()
	eventually(t, "the terminal shows "+text, func() bool { return strings.Contains(x.text(), text) })
}

func (x *tty) resize(t *testing.T, columns, lines int) {
	t.Helper()
	x.mu.Lock()
	x.shown.Resize(columns, lines)
	x.wide.Resize(3*columns, lines)
	x.mu.Unlock()
	require.NoError(t, pty.Setsize(x.slave, &pty.Winsize{Rows: uint16(lines), Cols: uint16(columns)}))
}

// beyond are the lines that stand past a column.
func (x *tty) beyond(columns int) (lines []string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for line := range strings.Lines(x.wide.String()) {
		if line = strings.TrimRight(line, " \n"); ansi.StringWidth(line) > columns {
			lines = append(lines, line)
		}
	}
	return lines
}

// restored checks that the terminal is as it was before.
func (x *tty) restored(t *testing.T) {
	t.Helper()
	eventually(t, "the terminal is restored", func() bool {
		x.mu.Lock()
		defer x.mu.Unlock()
		return !x.shown.IsAltScreen() && !x.shown.CursorHidden()
	})
	after, err := term.GetState(int(x.slave.Fd()))
	require.NoError(t, err)
	assert.Equal(t, x.before, after)
}

// on runs the built program on the terminal.
func (x *tty) on(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	cmd.Env = append(cmd.Env, "TERM=xterm-256color")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = x.slave, x.slave, x.slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return &process{cmd: cmd, stdout: &stream{}, stderr: &stream{}}
}

func TestStatusIsWatchedOnATerminal(t *testing.T) {
	t.Parallel()
	_, server := redistest.Embedded(t)
	s := newShell(t, envRedis+"=redis://"+server.Addr(), envConfig+"="+simulatedFile(t))
	x := newTerminal(t, 80, 24)
	p := x.on(t, s.command(t, "status", "--watch", "--every", "200ms"))
	x.await(t, "no worker is alive")
	x.await(t, "apac (simulated)")
	assert.Empty(t, x.beyond(80))
	first := len(x.written())

	s.ok(t, "queue", "pause", "bulk")
	x.await(t, "paused")
	s.ok(t, "breaker", "open", "simulated-apac")
	x.await(t, "open by hand")
	assert.Empty(t, x.beyond(80))
	assert.NotContains(t, x.written()[first:], "\x1b[2J", "the screen is not cleared for a frame")
	assert.NotContains(t, x.written()[first:], "\x1b[J", "nor the rest of it")

	x.resize(t, 60, 10)
	eventually(t, "the smaller screen is drawn", func() bool { return len(x.beyond(60)) == 0 && strings.Contains(x.text(), "QUEUE") })
	x.resize(t, 80, 24)
	x.await(t, "open by hand")

	addr := server.Addr()
	server.Close()
	x.await(t, "Redis is away since")
	x.await(t, "What follows is of")
	assert.Empty(t, x.beyond(80))
	require.NoError(t, server.StartAddr(addr))
	eventually(t, "it is seen again", func() bool { return !strings.Contains(x.text(), "Redis is away") })

	_, err := x.master.WriteString("q")
	require.NoError(t, err)
	assert.Equal(t, exitOK, p.end(t))
	x.restored(t)
}

func TestWatchingRestoresTheTerminal(t *testing.T) {
	t.Parallel()
	_, server := redistest.Embedded(t)
	s := newShell(t, envRedis+"=redis://"+server.Addr(), "NO_COLOR=yes")
	for name, end := range map[string]func(*testing.T, *tty, *process){
		"ctrl-c":  func(_ *testing.T, x *tty, _ *process) { _, _ = x.master.WriteString("\x03") },
		"sigint":  func(t *testing.T, _ *tty, p *process) { require.NoError(t, p.cmd.Process.Signal(os.Interrupt)) },
		"sigterm": func(t *testing.T, _ *tty, p *process) { p.signal(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := newTerminal(t, 80, 24)
			p := x.on(t, s.command(t, "status", "--watch"))
			x.await(t, "QUEUE")
			end(t, x, p)
			assert.Equal(t, exitOK, p.end(t))
			x.restored(t)
			assert.NotRegexp(t, `\x1b\[[0-9;]*3[0-7]m`, x.written(), "NO_COLOR asks for none")
		})
	}
	t.Run("panic", func(t *testing.T) {
		t.Parallel()
		x := newTerminal(t, 80, 24)
		again := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestWatchingPanics$")
		again.Env = []string{"FOREBAY_TEST_PANIC=1"}
		assert.NotEqual(t, exitOK, x.on(t, again).end(t))
		assert.Contains(t, x.written(), "\x1b[?1049h", "the screen was there")
		x.restored(t)
	})
}

// TestWatchingPanics is the other process of a test: its readings panic.
func TestWatchingPanics(t *testing.T) {
	if os.Getenv("FOREBAY_TEST_PANIC") == "" {
		t.Skip("it is run by TestWatchingRestoresTheTerminal")
	}
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:9"})
	client.AddHook(&panicking{})
	w := &watcher{deployment: deployment{client: client}, every: 300 * time.Millisecond}
	err := w.screen(t.Context(), os.Stdin, os.Stdout)
	require.NotErrorIs(t, err, tea.ErrProgramPanic, "the test fails by it")
}

// panicking lets no command through: the first is refused, the next one panics.
type panicking struct {
	redis.Hook
	refused bool
}

func (p *panicking) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(context.Context, redis.Cmder) error { return p.next() }
}

func (p *panicking) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(context.Context, []redis.Cmder) error { return p.next() }
}

func (p *panicking) DialHook(next redis.DialHook) redis.DialHook { return next }

func (p *panicking) next() error {
	if p.refused {
		panic("a mistake in the program")
	}
	p.refused = true
	return io.ErrUnexpectedEOF
}

// Where there is no terminal a line is written when something has changed.
func TestStatusIsWatchedInLines(t *testing.T) {
	t.Parallel()
	_, server := redistest.Embedded(t)
	s := newShell(t, envRedis+"=redis://"+server.Addr(), envConfig+"="+simulatedFile(t))
	p := s.start(t, "status", "--watch", "--every", "200ms")
	p.stdout.await(t, "endpoints=1/1")
	s.ok(t, "queue", "pause", "bulk")
	p.stdout.await(t, "bulk=0(paused)")
	addr := server.Addr()
	server.Close()
	p.stdout.await(t, "redis is away")
	require.NoError(t, server.StartAddr(addr))
	eventually(t, "it goes on", func() bool {
		lines := strings.Split(strings.TrimSpace(p.stdout.text()), "\n")
		return len(lines) > 3 && strings.Contains(lines[len(lines)-1], "workers=0")
	})
	p.signal(t)
	assert.Equal(t, exitOK, p.end(t))
	assert.NotContains(t, p.stdout.text(), "\x1b")
	for line := range strings.Lines(p.stdout.text()) {
		_, err := time.Parse(time.RFC3339, strings.Fields(line)[0])
		assert.NoError(t, err, line)
	}

	p = s.start(t, "status", "--watch", "--every", "200ms", "--json")
	eventually(t, "some readings", func() bool { return strings.Count(p.stdout.text(), "\n") >= 3 })
	p.signal(t)
	assert.Equal(t, exitOK, p.end(t))
	for line := range strings.Lines(p.stdout.text()) {
		var now struct {
			At     time.Time
			Queues []producer.Queue
		}
		require.NoError(t, json.Unmarshal([]byte(line), &now))
		assert.NotZero(t, now.At)
		assert.Len(t, now.Queues, 4)
	}
}

func TestWatchFlags(t *testing.T) {
	t.Parallel()
	run := onRedis(t)
	for _, args := range [][]string{{"--every", "1s"}, {"--watch", "--active"}, {"--watch", "--every", "1ms"}} {
		assert.Equal(t, exitUsage, run("", append([]string{"status"}, args...)...).status, args)
	}
}

// everything is a reading of a deployment in trouble, with names as long and as wide as they may be.
func everything() *watched {
	at := time.Date(2026, 12, 1, 10, 0, 0, 0, time.UTC)
	long := strings.Repeat("模型-", 20)
	reply := statusReply{
		Fleet:           fleetStatus{Processes: []fleet.Process{{ID: "a", Kind: fleet.Worker}}, Builds: map[string]int{long: 1, "b": 1}},
		Queues:          []producer.Queue{{Queue: "critical", Pending: 1_000_000}, {Queue: "default", Paused: true}, {Queue: "bulk"}, {Queue: "webhooks"}},
		PausedTaskTypes: []string{long},
		DeadLetters:     deadStatus{Jobs: jobstore.Dead{Count: 7, OldestAt: &at}},
	}
	reason := []producer.GroupRow{}
	reply.Alerts = []alerts.Alert{
		{Name: "tier_down", Subject: "low", Severity: alerts.Critical, Since: at, Summary: long}, {Name: "dead_letters", Subject: "jobs", Severity: alerts.Warning, Since: at},
	}
	for range 12 {
		reply.Endpoints = append(reply.Endpoints, endpointStatus{Endpoint: long, State: gate.StateOpen, Until: &at, Cause: "auth", LatencyMS: 123456})
		reply.Waiting.For = append(reply.Waiting.For, waitGroup{Reason: "requests", Limit: long, Route: long, Cause: tasks.ClassThrottled, Jobs: 12, Next: at})
		reply.Budget = append(reply.Budget, scopeStatus{Scope: gate.ScopeTenant(long), SpentUSD: 12.5, LimitUSD: new(100.0), LeftUSD: new(1.0)})
		reason = append(reason, producer.GroupRow{Key: long, Jobs: 4, Latest: &at})
	}
	reply.Queues[0].OldestS = new(75.0)
	reply.Spend = &spendStatus{USD: 12.5, CNY: 88, BudgetUSD: new(100.0), BudgetCNY: new(710.0), DearestUSD: 150, MaybeBilledUSD: 0.5}
	reply.Tiers = []tierStatus{{Name: long, Model: long, Total: 3}, {Name: "low", Active: long, Since: &at, Up: 2, Total: 3}}
	report := &activity.Report{StepS: 10, Tiers: []activity.Kind{{Name: "low", SuccessRate: new(0.9999)}}}
	for i := range 90 {
		report.Points = append(report.Points, activity.Point{At: at, Succeeded: int64(i % 7), Failed: 1, JobP95MS: new(1234.0)})
	}
	return &watched{Activity: report, At: at, Error: long + long, statusReply: &reply, DeadReasons: reason}
}

func TestAFrameFitsEveryScreen(t *testing.T) {
	t.Parallel()
	m := &watchScreen{watcher: &watcher{deployment: deployment{redis: strings.Repeat("redis-", 20)}}, seen: everything()}
	for _, width := range []int{1, 2, 3, 5, 8, 13, 21, 34, 40, 60, 79, 80, 100, 150, 250} {
		for _, height := range []int{1, 2, 5, 10, 24, 50, 100} {
			m.width, m.height = width, height
			lines := strings.Split(m.frame(), "\n")
			require.LessOrEqual(t, len(lines), height, "%d x %d", width, height)
			for _, line := range lines {
				require.LessOrEqual(t, ansi.StringWidth(line), width, "%d x %d: %q", width, height, line)
			}
		}
	}
	m.width, m.height = 80, 30
	text := ansi.Strip(m.frame())
	for _, part := range []string{"ALERT", "tier_down low", "QUEUE", "1m15s", "LAST 15 MINUTES", "ENDPOINT", "DEAD LETTERS", "SPENT TODAY", "$12.50 of $100.00 (12.5%)", "more"} {
		assert.Contains(t, text, part)
	}
	m.height = 100
	text = ansi.Strip(m.frame())
	for _, part := range []string{"▂▅", "99.9%", "none is up", "dearest model: $150.00; maybe billed: $0.5000", "¥88.00 of ¥710.00", "WAITING FOR"} {
		assert.Contains(t, text, part)
	}
}

func TestSparkline(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "▁▅█.", sparkline([]float64{0, 4, 8, -1}))
	assert.Equal(t, "▁▁", sparkline([]float64{0, 0}))
	assert.Empty(t, sparkline(nil))
}

// A line that says what the last one did is left out for a minute.
func TestLinesSayWhatHasChanged(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	lines, now := &watchLines{out: &out}, *everything()
	now.Error = ""
	for range 31 {
		require.NoError(t, lines.write(now))
		now.At = now.At.Add(2 * time.Second)
	}
	assert.Equal(t, 2, strings.Count(out.String(), "\n"))
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	w := &watcher{deployment: deployment{client: redis.NewClient(&redis.Options{Addr: "127.0.0.1:9"})}, every: time.Hour}
	assert.NoError(t, w.lines(ended, func(watched) error { return io.ErrClosedPipe }))
}
