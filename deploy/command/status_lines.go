package command

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/gate"
)

// watchLines writes readings as lines of text.
type watchLines struct {
	out     io.Writer
	written string
	at      time.Time
}

// write writes a line, unless it says what the last one said not long ago.
func (l *watchLines) write(now watched) error {
	text := now.line()
	if text == l.written && now.At.Sub(l.at) < watchLineAtLeast {
		return nil
	}
	l.written, l.at = text, now.At
	_, err := fmt.Fprintf(l.out, "%s %s\n", now.At.Format(time.RFC3339), text)
	return err
}

// line is a reading in one line.
func (w watched) line() string {
	if w.Error != "" {
		return "redis is away, and asked again: " + w.Error
	}
	parts := []string{fmt.Sprintf("workers=%d", len(w.Workers))}
	active := 0
	for _, q := range w.Queues {
		text := fmt.Sprintf("%s=%d", q.Queue, q.Pending+q.Scheduled+q.Retry)
		if q.Paused {
			text += "(paused)"
		} else if q.OldestS != nil && *q.OldestS >= 60 { // by minutes: a line is written where it has changed
			text += fmt.Sprintf("(oldest %s)", catalog.FormatDuration(time.Duration(*q.OldestS*float64(time.Second)).Truncate(time.Minute)))
		}
		parts, active = append(parts, text), active+q.Active
	}
	parts = append(parts, fmt.Sprintf("active=%d", active))
	if waiting := w.waiting(); waiting > 0 {
		parts = append(parts, fmt.Sprintf("waiting=%d(%s)", waiting, w.Waiting.For[0].Reason))
	}
	parts = append(parts, fmt.Sprintf("dead=%d", w.DeadLetters.Jobs.Count))
	if len(w.Alerts) > 0 {
		parts = append(parts, fmt.Sprintf("alerts=%d(%s)", len(w.Alerts), w.Alerts[0].Key()))
	}
	if w.Endpoints != nil {
		up, down := 0, ""
		for _, e := range w.Endpoints {
			if e.State == gate.StateClosed {
				up++
				continue
			}
			down += "," + e.Endpoint + " " + string(e.State)
		}
		text := fmt.Sprintf("endpoints=%d/%d", up, len(w.Endpoints))
		if down != "" {
			text += "(" + strings.TrimPrefix(down, ",") + ")"
		}
		parts = append(parts, text)
	}
	if spend := w.Spend; spend != nil {
		text := "spent=" + money(spend.USD)
		if spend.BudgetUSD != nil {
			text += "/" + money(*spend.BudgetUSD)
		}
		parts = append(parts, text)
	}
	if w.Activity != nil {
		var succeeded, failed int64
		for _, p := range w.Activity.Points {
			succeeded, failed = succeeded+p.Succeeded, failed+p.Failed+p.Expired
		}
		parts = append(parts, fmt.Sprintf("succeeded_15m=%d failed_15m=%d", succeeded, failed))
	}
	return strings.Join(parts, " ")
}

// waiting counts the jobs that wait for something.
func (w watched) waiting() int {
	sum := 0
	for _, group := range w.Waiting.For {
		sum += group.Jobs
	}
	return sum
}
