package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/colorprofile"
	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/activity"
	"github.com/forebay-queue/forebay/tasks/jobstore"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

const (
	watchEvery = 2 * time.Second
	// watchWindow is how far back throughput and success are looked at.
	watchWindow    = 15 * time.Minute
	watchMostOften = 200 * time.Millisecond
	// watchReadWithin is how long a reading may take before Redis counts as away.
	watchReadWithin = redisTimeout
	// watchReasonsEvery is how often dead letters are counted by their reasons, which reads their records.
	watchReasonsEvery = 10 * time.Second
	// watchMostReasons is how many dead letters are looked at for that, at the most.
	watchMostReasons = 20_000
	// watchLineAtLeast is how often a line is written though nothing has changed, where there is no terminal.
	watchLineAtLeast = time.Minute
)

// watched is what one reading has found: the line that `forebay status --watch --json` prints.
type watched struct {
	At time.Time `json:"at"`
	// Error is why nothing could be read; what else stands here is then absent in a line, and what was read last on a screen.
	Error string `json:"error,omitempty"`
	*statusReply
	// Activity is what happened within the last 15 minutes.
	Activity *activity.Report `json:"activity,omitempty"`
	// DeadReasons are the dead letters by the codes of their errors; absent where there are too many to look at.
	DeadReasons []producer.GroupRow `json:"dead_letter_reasons,omitempty"`
}

// watcher reads the status again and again.
type watcher struct {
	deployment deployment
	every      time.Duration

	// reasons are those of so many dead letters, read at a time.
	reasons   []producer.GroupRow
	reasonsOf int
	reasonsAt time.Time
}

// watchStatus shows the status until the context ends, or somebody at the terminal ends it.
func watchStatus(cmd *cobra.Command, s *settings, client redis.UniversalClient, every time.Duration) error {
	w := &watcher{deployment: s.deployment(client), every: every}
	out := cmd.OutOrStdout()
	switch {
	case wantsJSON(cmd):
		return w.lines(cmd.Context(), func(now watched) error { return printJSON(cmd, now) })
	case !isTerminal(out) || os.Getenv("TERM") == "dumb":
		return w.lines(cmd.Context(), (&watchLines{out: out}).write)
	}
	return w.screen(cmd.Context(), cmd.InOrStdin(), out)
}

// read never fails: what went wrong is a part of what was found.
func (w *watcher) read(ctx context.Context) watched {
	ctx, cancel := context.WithTimeout(ctx, watchReadWithin)
	defer cancel()
	now := watched{At: time.Now()}
	err := func() error {
		reply, err := readStatus(ctx, w.deployment)
		if err != nil {
			return err
		}
		report, err := activity.Read(ctx, w.deployment.client, keyspace.New(w.deployment.prefix), watchWindow, now.At)
		if err != nil {
			return err
		}
		now.Activity = &report
		now.statusReply = &reply
		now.DeadReasons, err = w.deadReasons(ctx, reply.DeadLetters.Jobs.Count)
		return err
	}()
	if err != nil {
		now.Error = printable(withoutScripts(redisProblem(err)))
		now.statusReply = nil
	}
	return now
}

func (w *watcher) deadReasons(ctx context.Context, dead int) ([]producer.GroupRow, error) {
	if dead == 0 || dead > watchMostReasons {
		w.reasonsAt = time.Time{}
		return nil, nil
	}
	if dead == w.reasonsOf && time.Since(w.reasonsAt) < time.Minute || time.Since(w.reasonsAt) < watchReasonsEvery {
		return w.reasons, nil
	}
	store, err := jobstore.New(jobstore.Config{Redis: w.deployment.client, Prefix: w.deployment.prefix})
	if err != nil {
		return nil, err
	}
	defer func() { _ = store.Close() }() // it ends its waits, of which there is none
	groups, err := store.Group(ctx, producer.Filter{Statuses: []tasks.Status{tasks.StatusFailed}}, "code")
	if err == nil {
		w.reasons, w.reasonsOf, w.reasonsAt = groups.Groups, dead, time.Now()
	}
	return w.reasons, err
}

// lines hands over what is read, until the context ends.
func (w *watcher) lines(ctx context.Context, write func(watched) error) error {
	tick := time.NewTicker(w.every)
	defer tick.Stop()
	for {
		now := w.read(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err := write(now); err != nil {
			return fmt.Errorf("write the status: %w", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// screen shows the status on the whole terminal, which is as it was before once it ends.
func (w *watcher) screen(ctx context.Context, in io.Reader, out io.Writer) error {
	options := []tea.ProgramOption{tea.WithContext(ctx), tea.WithoutSignalHandler(), tea.WithOutput(out), tea.WithInput(nil)}
	if file, ok := in.(*os.File); ok && isTerminal(file) {
		options = append(options, tea.WithInput(file)) // else Ctrl-C is a signal, and no key
	}
	if os.Getenv("NO_COLOR") != "" { // whatever it is set to, by its specification
		options = append(options, tea.WithColorProfile(colorprofile.ASCII))
	}
	_, err := tea.NewProgram(&watchScreen{watcher: w, ctx: ctx}, options...).Run()
	if !errors.Is(err, tea.ErrProgramKilled) || ctx.Err() == nil {
		return err
	}
	return nil // a signal has ended it
}

// watchScreen is the screen of a watcher, as Bubble Tea runs it.
type watchScreen struct {
	watcher       *watcher
	ctx           context.Context //nolint:containedctx // that of the program, which has none to give to its commands
	width, height int
	// seen is what was read last; its Error is that of the last attempt. awaySince is when that began to fail.
	seen      *watched
	awaySince time.Time
}

// watchAgain says that it is time to read again.
type watchAgain struct{}

// Init implements tea.Model.
func (m *watchScreen) Init() tea.Cmd { return m.read }

func (m *watchScreen) read() tea.Msg { return m.watcher.read(m.ctx) }

// Update implements tea.Model.
func (m *watchScreen) Update(message tea.Msg) (tea.Model, tea.Cmd) {
	switch message := message.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = message.Width, message.Height
	case tea.KeyPressMsg:
		switch message.String() {
		case "q", "esc", "ctrl+c", "ctrl+d":
			return m, tea.Quit
		case "ctrl+z":
			return m, tea.Suspend
		}
	case watchAgain:
		return m, m.read
	case watched:
		m.take(message)
		return m, tea.Tick(max(0, m.watcher.every-time.Since(message.At)), func(time.Time) tea.Msg { return watchAgain{} })
	}
	return m, nil
}

// take takes in a reading; of one that failed only that it did.
func (m *watchScreen) take(now watched) {
	switch {
	case now.Error == "":
		m.awaySince = time.Time{}
	case m.awaySince.IsZero():
		m.awaySince = now.At
	}
	if now.Error == "" || m.seen == nil {
		m.seen = &now
		return
	}
	m.seen.Error = now.Error
}

// View implements tea.Model.
func (m *watchScreen) View() tea.View {
	view := tea.NewView(m.frame())
	view.AltScreen = true
	return view
}

func checkWatchFlags(cmd *cobra.Command, watch, active bool, every time.Duration) error {
	switch {
	case cmd.Flags().Changed("every") && !watch:
		return refuseUsage(cmd, "--every needs --watch")
	case watch && active:
		return refuseUsage(cmd, "give --watch or --active: the one shows what the other does")
	case every < watchMostOften:
		return refuseUsage(cmd, "--every must be at least %s, got %s", watchMostOften, every)
	}
	return nil
}
