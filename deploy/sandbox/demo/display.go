package demo

import (
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mattn/go-runewidth"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"github.com/forebay-queue/forebay/tasks/gate"
)

const (
	plainEvery = 2 * time.Second
	// The least size of a terminal that the live display fits into.
	fewestColumns, fewestLines = 40, 10
)

// display shows progress. Its methods are called by one goroutine at a time.
type display interface {
	show(now progress)
	event(text string)
	close()
}

// newDisplay returns a live display for a terminal that can show one, else plain lines.
func newDisplay(out io.Writer, endpoints []endpoint, jobs int) display {
	if file, ok := out.(*os.File); ok && term.IsTerminal(int(file.Fd())) && os.Getenv("TERM") != "dumb" {
		width, height, err := term.GetSize(int(file.Fd()))
		if err == nil && width >= fewestColumns && height >= fewestLines {
			return newLive(file, endpoints, jobs)
		}
	}
	return &plain{out: out}
}

// plain writes a line every two seconds, and one for each event.
type plain struct {
	out     io.Writer
	started bool
	next    time.Duration
	last    progress
	shown   bool // last stands there
}

func (p *plain) show(now progress) {
	if p.last, p.shown = now, false; now.elapsed >= p.next && (p.started || now.elapsed > 0) {
		p.started = true
		p.next = now.elapsed + plainEvery
		p.line()
	}
}

func (p *plain) line() {
	p.shown = true
	fmt.Fprintf(p.out, "%s  %d/%d done, %s", clock(p.last.elapsed), p.last.done, p.last.jobs, counts(p.last))
	for _, e := range p.last.endpoints {
		fmt.Fprintf(p.out, "  %s %s", e.name, breaker(e.state))
	}
	fmt.Fprintln(p.out)
}

func (p *plain) event(text string) { fmt.Fprintf(p.out, "%s  %s\n", clock(p.last.elapsed), text) }

func (p *plain) close() {
	if !p.shown && p.last.elapsed > 0 {
		p.line()
	}
}

// live draws a progress bar with the breakers below it.
type live struct {
	bars  *mpb.Progress
	bar   *mpb.Bar
	now   atomic.Pointer[progress]
	ended sync.Once
}

func newLive(out *os.File, endpoints []endpoint, jobs int) *live {
	l := &live{bars: mpb.New(mpb.WithOutput(out), mpb.WithRefreshRate(sampleEvery))}
	l.now.Store(&progress{jobs: jobs, endpoints: endpoints})
	l.bar = l.bars.New(int64(jobs), mpb.BarStyle().Lbound(" ").Filler("█").Tip("█").Padding("░").Rbound(" "),
		mpb.BarFillerTrim(),
		mpb.PrependDecorators(decor.Any(func(decor.Statistics) string {
			now := l.now.Load()
			return fmt.Sprintf("%s %d/%d", clock(now.elapsed), now.done, now.jobs)
		})),
		mpb.BarExtender(mpb.BarFillerFunc(l.below), false))
	return l
}

// below writes the lines below the bar.
func (l *live) below(w io.Writer, stat decor.Statistics) error {
	now := l.now.Load()
	lines := []string{"  " + counts(*now)}
	for _, e := range now.endpoints {
		line := fmt.Sprintf("  %s %-16s %-15s %-9s", sign(e.state), e.name, e.region, breaker(e.state))
		if e.state.Latency > 0 {
			line += "  " + seconds(e.state.Latency)
		}
		if e.state.Trips > 0 {
			line += fmt.Sprintf("  %s, %s, %s", plural(e.state.Trips, "trip"), plural(e.state.Probes, "probe"), plural(e.state.Recoveries, "recovery"))
		}
		lines = append(lines, line)
	}
	for i, line := range lines {
		lines[i] = runewidth.Truncate(line, stat.AvailableWidth-1, "…")
	}
	_, err := io.WriteString(w, strings.Join(lines, "\n")+"\n")
	return err
}

func (l *live) show(now progress) {
	l.now.Store(&now)
	l.bar.SetCurrent(int64(now.done + now.failed))
}

func (l *live) event(text string) {
	now := l.now.Load()
	_, _ = fmt.Fprintf(l.bars, "%s  %s\n", clock(now.elapsed), text) // to a terminal: nobody else to tell
}

// close draws for the last time and leaves the cursor below.
func (l *live) close() {
	l.ended.Do(func() {
		l.bar.Abort(false) // does nothing to a bar that is full
		l.bars.Wait()
	})
}

// counts is the part of the progress that both displays share.
func counts(p progress) string {
	return fmt.Sprintf("%d retrying, %d failed, %.1f jobs/s, %s spent (simulated)", p.retrying, p.failed, p.perSecond, dollars(p.spentUSD))
}

func breaker(state gate.EndpointState) string {
	if !state.ProbeUntil.IsZero() {
		return "probing"
	}
	return string(state.State)
}

// sign shows the state of a breaker.
func sign(state gate.EndpointState) string {
	switch state.State {
	case gate.StateOpen:
		return "✕"
	case gate.StateHalfOpen:
		return "◐"
	case gate.StateClosed:
		return "●"
	}
	return " "
}

// clock is a time since the start: m:ss.
func clock(d time.Duration) string {
	whole := int(d.Seconds())
	return fmt.Sprintf("%d:%02d", whole/60, whole%60)
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

// dollars is a cost with at least two digits that say something.
func dollars(usd float64) string {
	digits := 4
	switch {
	case usd <= 0:
		return "$0"
	case usd < 0.01:
		digits = 1 + int(math.Ceil(-math.Log10(usd)))
	}
	return "$" + strconv.FormatFloat(usd, 'f', digits, 64)
}

// plural counts something: 1 trip, 2 probes, 0 recoveries.
func plural[N int | int64](count N, noun string) string {
	if count == 1 {
		return "1 " + noun
	}
	if stem, found := strings.CutSuffix(noun, "y"); found {
		return fmt.Sprintf("%d %sies", count, stem)
	}
	return fmt.Sprintf("%d %ss", count, noun)
}
