package main_test

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/forebay-queue/forebay/tasks"
)

// calm tells whether Redis and a leader lived at a stroke and for so long after it, and no other worker was killed at the
// time when it is to be done again: that one may have had it in hand already, which nobody sees.
func (c *chaos) calm(at int, span time.Duration) bool {
	const soonest = 10 * time.Second
	first := c.strokes[at]
	if !first.redis || !first.led {
		return false
	}
	return !slices.ContainsFunc(c.strokes[at+1:], func(s stroke) bool {
		since := s.time.Sub(first.time)
		return since < span && (s.leader || s.blow.what == chaosRedis || s.blow.what == chaosWorker && since > soonest)
	})
}

// repetitions are how long it took after the kills of workers until something was done again.
type repetitions struct {
	c         *chaos
	calm, all []time.Duration // those while a leader and Redis lived, and all
	kills     map[int]bool    // of the calm ones, by their place among the strokes
}

func (c *chaos) newRepetitions() *repetitions { return &repetitions{c: c, kills: map[int]bool{}} }

// add notes that what was in hand at a stroke was done again.
func (r *repetitions) add(stroke int, again time.Time) {
	took := again.Sub(r.c.strokes[stroke].time)
	r.all = append(r.all, took)
	if r.c.calm(stroke, min(took, chaosPromised)) {
		r.calm, r.kills[stroke] = append(r.calm, took), true
	}
}

// addCut notes it for what was seen to be cut off, which is just after the kill.
func (r *repetitions) addCut(cut, again time.Time) {
	for i, s := range r.c.strokes {
		if since := cut.Sub(s.time); s.blow.what == chaosWorker && since >= 0 && since < time.Second {
			r.add(i, again)
			return
		}
	}
}

// tell adds the times to the table, and holds those while a leader and Redis lived to what is promised.
func (r *repetitions) tell(f *findings, what string) {
	f.figures.add(what+", leader and Redis alive: number (kills), median, p99, most", tellTimes(r.calm, len(r.kills)))
	f.figures.add("- at all kills", tellTimes(r.all, 0))
	if len(r.calm) == 0 && r.c.plan.jobs >= 10_000 {
		f.breaks("what a dead worker had in hand is done again in time", "%s: no kill of the run was one that it can be judged by", what)
	}
	if p99 := percentile(r.calm, 0.99); p99 > r.c.plan.redelivery {
		f.breaks("what a dead worker had in hand is done again in time", "%s: p99 %s is over %s", what, p99, r.c.plan.redelivery)
	}
}

// checkRedelivery: what a killed worker had in hand is called again in time, where a leader and Redis live.
func (c *chaos) checkRedelivery(f *findings, calls map[string][]providerCall, results map[string]tasks.Result) {
	kills := map[time.Time]int{}
	for i, s := range c.strokes {
		if s.blow.what == chaosWorker {
			kills[s.time] = i
		}
	}
	again := c.newRepetitions()
	for id, made := range calls {
		for i, call := range made {
			if call.died.IsZero() || (!call.ended.IsZero() && call.ended.Before(call.died) && i == len(made)-1) {
				continue
			}
			switch finished := results[id].FinishedAt; {
			case i+1 < len(made) && made[i+1].began.After(call.died):
				again.add(kills[call.died], made[i+1].began)
			case finished != nil && i == len(made)-1 && finished.After(call.died):
				again.add(kills[call.died], *finished)
			}
		}
	}
	again.tell(f, "jobs that were out at a worker's kill, called again")
}

// chaosPromised is how long it may take until a dead worker's jobs are called again.
const chaosPromised = 20 * time.Second

func percentile(list []time.Duration, share float64) time.Duration {
	if len(list) == 0 {
		return 0
	}
	slices.Sort(list)
	return list[int(math.Ceil(share*float64(len(list))))-1]
}

func tellTimes(list []time.Duration, kills int) string {
	const to = 10 * time.Millisecond
	number := fmt.Sprint(len(list))
	if kills > 0 {
		number += fmt.Sprintf(" (%d)", kills)
	}
	return fmt.Sprintf("%s, %s, %s, %s", number, percentile(list, 0.5).Round(to), percentile(list, 0.99).Round(to), percentile(list, 1).Round(to))
}
