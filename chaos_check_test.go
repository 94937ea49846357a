package main_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/forebay-queue/forebay/deploy/simulator"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/envelope"
)

// chaosFigures is the table that a run prints.
type chaosFigures struct{ rows [][2]string }

func (f *chaosFigures) add(what string, value any) {
	f.rows = append(f.rows, [2]string{what, fmt.Sprint(value)})
}

func (f *chaosFigures) String() string {
	var text strings.Builder
	for _, row := range f.rows {
		fmt.Fprintf(&text, "  %-104s %s\n", row[0], row[1])
	}
	return text.String()
}

// findings are what was seen of a run, and which of the promises it breaks.
type findings struct {
	figures *chaosFigures
	broken  map[string][]string
}

// breaks notes that a promise was not kept.
func (f *findings) breaks(promise, format string, args ...any) {
	f.broken[promise] = append(f.broken[promise], fmt.Sprintf(format, args...))
}

func (f *findings) check(t *testing.T) {
	t.Helper()
	const most = 10
	for promise, cases := range f.broken {
		assert.Fail(t, fmt.Sprintf("%s: %d cases", promise, len(cases)), "%s", strings.Join(cases[:min(most, len(cases))], "\n"))
	}
}

// examine holds what was accepted against what came of it.
func (c *chaos) examine(l *load) *findings {
	c.t.Helper()
	f := &findings{figures: &chaosFigures{}, broken: map[string][]string{}}
	results := l.await()
	c.tellStrokes(f)
	f.figures.add("jobs accepted", fmt.Sprintf("%d in %d requests", len(l.accepted), l.tries))
	for _, answer := range l.refused {
		f.breaks("a job is accepted or the server is away", "%s", answer)
	}
	lost := c.checkResults(f, l, results)
	calls := c.view.byJob()
	again := c.checkCalls(f, calls, results, lost)
	c.checkSpend(f, calls, results, again)
	c.checkRedelivery(f, calls, results)
	c.checkDeliveries(f, l, results, lost)
	c.checkQueues(f)
	return f
}

// tellStrokes says what was killed.
func (c *chaos) tellStrokes(f *findings) {
	killed, leaders, windows := map[string]int{}, 0, []string{}
	for _, s := range c.strokes {
		killed[s.blow.what]++
		if s.leader {
			leaders++
		}
		if s.lost > 0 {
			windows = append(windows, fmt.Sprintf("%d writes", s.lost))
		}
	}
	f.figures.add("killed: workers, schedulers (leading), producers, Redis", fmt.Sprintf("%d, %d (%d), %d, %d",
		killed[chaosWorker], killed[chaosScheduler], leaders, killed[chaosProducer], killed[chaosRedis]))
	f.figures.add("kills of Redis after which writes were gone that it had answered to", fmt.Sprintf("%d %s", len(windows), strings.Join(windows, ", ")))
	var left []string
	for _, places := range c.places {
		for _, p := range places {
			p.mu.Lock()
			for _, why := range p.left {
				left = append(left, p.name+": "+why)
			}
			p.mu.Unlock()
		}
	}
	f.figures.add("starts that failed while Redis was away, and were repeated", len(left))
	for _, why := range left {
		if !strings.Contains(why, "cannot reach Redis") {
			f.breaks("no process ends by itself", "%s", why)
		}
	}
}

// lostBy returns the kill of Redis that may have undone what was written at a moment.
func (c *chaos) lostBy(at time.Time) *stroke {
	for i, s := range c.strokes {
		if s.blow.what == chaosRedisUp && at.After(s.lostFrom) && at.Before(s.up) {
			return &c.strokes[i]
		}
	}
	return nil
}

// checkResults: every accepted job has one result, which never changes.
func (c *chaos) checkResults(f *findings, l *load, results map[string]tasks.Result) (lost map[string]bool) {
	const promise = "every accepted job has exactly one result"
	lost = map[string]bool{}
	gone, anew, slowest := 0, 0, time.Duration(0)
	for id, a := range l.accepted {
		result, ended := results[id]
		switch {
		case !ended && c.lostBy(a.at) != nil:
			lost[id] = true
		case !ended:
			gone++
			f.breaks(promise, "%s, accepted at %s (inbox: %t), has none", id, a.at.Format(time.TimeOnly), a.inbox)
		case result.Status != tasks.StatusSucceeded:
			f.breaks(promise, "%s ended as %s: %+v", id, result.Status, result.Error)
		case result.Run != 1 || result.Text == "" || result.FinishedAt == nil:
			f.breaks(promise, "%s has run %d, %d bytes of text", id, result.Run, len(result.Text))
		default:
			slowest = max(slowest, result.FinishedAt.Sub(a.at))
			first, seen := l.first[id]
			switch {
			case !seen || first.FinishedAt.Equal(*result.FinishedAt):
			case c.undoneAt(*first.FinishedAt):
				anew++
			default:
				f.breaks(promise, "%s was seen to end at %s, and then at %s", id, first.FinishedAt, result.FinishedAt)
			}
		}
	}
	f.figures.add("jobs with one result", len(results))
	f.figures.add("jobs without one", gone)
	f.figures.add("jobs whose acceptance Redis had answered to and lost when it was killed", len(lost))
	f.figures.add("results that were read early and read again, of which Redis had lost and changed", fmt.Sprintf("%d, %d", len(l.first), anew))
	f.figures.add("the longest time from acceptance to result", slowest.Round(100*time.Millisecond))
	return lost
}

// checkCalls: calls beyond one per job are repetitions of those that were out when their worker was killed, and each of
// these is maybe billed in the ledger. It returns how many there are.
func (c *chaos) checkCalls(f *findings, calls map[string][]providerCall, results map[string]tasks.Result, lost map[string]bool) (again int) {
	const promise = "a call is repeated only when its worker was killed before its end was written"
	out, unsettled, undone, ghosts, late := 0, 0, 0, 0, time.Duration(0)
	for _, s := range c.strokes {
		out += s.out
	}
	for id, made := range calls {
		again += len(made) - 1
		if !lost[id] {
			ghosts += c.checkMaybeBilled(f, made, results[id])
		}
		for _, call := range made[:len(made)-1] {
			switch {
			case (call.died.IsZero() || !call.ended.IsZero() && call.ended.Before(call.died)) && c.undone([]providerCall{call}):
				undone++
			case call.died.IsZero():
				f.breaks(promise, "%s was called again though the worker lived: %s", id, tellCalls(made))
			case !call.ended.IsZero() && call.ended.Before(call.died):
				unsettled++
				late = max(late, call.died.Sub(call.ended))
				if call.died.Sub(call.ended) > chaosSettled && !c.away(call.ended, call.died) {
					f.breaks("the end of a call is written at once", "%s: %s", id, tellCalls(made))
				}
			}
		}
	}
	f.figures.add("calls beyond one per job", again)
	f.figures.add("calls that were out when their workers were killed", out)
	f.figures.add("calls answered before the kill whose end was not written by then", fmt.Sprintf("%d, at most %s before", unsettled, late.Round(time.Millisecond)))
	f.figures.add("calls repeated because Redis had lost their end", undone)
	f.figures.add("attempts maybe billed beyond the calls that were repeated", ghosts)
	if again > out+unsettled+undone {
		f.breaks(promise, "%d calls beyond one per job, of %d that were out and %d whose end was not written", again, out, unsettled+undone)
	}
	return again
}

// checkMaybeBilled: of a job's calls the ledger has each that was repeated as maybe billed. It returns how many more it has.
func (c *chaos) checkMaybeBilled(f *findings, made []providerCall, result tasks.Result) (more int) {
	maybe, repeated := 0, len(made)-1
	for _, attempt := range result.Attempts {
		if attempt.MaybeBilled {
			maybe++
		}
	}
	if maybe < repeated && !c.undone(made[:repeated]) {
		f.breaks("each repeated call is maybe billed", "%s was called %d times, of which the ledger has %d as maybe billed: %s",
			result.ID, len(made), maybe, tellCalls(made))
	}
	return max(0, maybe-repeated)
}

// undone tells whether Redis may have lost what was written of one of these calls: it had answered to writes that were
// gone after a kill, and the call was made, or its end written, at that time.
func (c *chaos) undone(calls []providerCall) bool {
	return slices.ContainsFunc(calls, func(call providerCall) bool { return c.undoneIn(call.began, call.ended) })
}

// undoneAt tells it of a result.
func (c *chaos) undoneAt(finished time.Time) bool { return c.undoneIn(finished, finished) }

func (c *chaos) undoneIn(began, ended time.Time) bool {
	return slices.ContainsFunc(c.strokes, func(s stroke) bool {
		return s.lost > 0 && began.Before(s.up) && (ended.IsZero() || ended.Add(chaosSettled).After(s.lostFrom))
	})
}

// chaosSettled is how long the end of a call may take to be written, on a machine that is busy.
const chaosSettled = 5 * time.Second

// away tells whether Redis was away, or had just come back, in a span.
func (c *chaos) away(from, to time.Time) bool {
	return slices.ContainsFunc(c.strokes, func(s stroke) bool {
		return s.blow.what == chaosRedisUp && s.up.Add(-s.blow.down-chaosSettled).Before(to) && s.up.Add(chaosSettled).After(from)
	})
}

func tellCalls(calls []providerCall) string {
	var text strings.Builder
	for _, call := range calls {
		fmt.Fprintf(&text, "[worker %d.%d %s - %s, died %s] ", call.worker, call.life,
			call.began.Format("15:04:05.000"), call.ended.Format("15:04:05.000"), call.died.Format("15:04:05.000"))
	}
	return text.String()
}

// checkQueues: nothing is left behind in the queues.
func (c *chaos) checkQueues(f *findings) {
	c.t.Helper()
	for _, priority := range []tasks.Priority{tasks.PriorityCritical, tasks.PriorityDefault, tasks.PriorityBulk, envelope.WebhookQueueName} {
		limit := time.Now().Add(chaosPatience)
		for {
			info := c.queue(priority)
			left := info.Pending + info.Active + info.Retry + info.Scheduled + info.Archived
			if left == 0 {
				break
			}
			if time.Now().After(limit) {
				f.breaks("the queues are empty in the end", "%s: %+v", priority, *info)
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	if n := c.sim.Counters().Total.Kinds[simulator.KindInvalid]; n > 0 {
		f.breaks("every call is a valid one", "%d were not", n)
	}
}
