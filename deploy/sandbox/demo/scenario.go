package demo

import (
	"time"

	"github.com/forebay-queue/forebay/deploy/sandbox"
	"github.com/forebay-queue/forebay/deploy/simulator"
)

// Pace is how long a demonstration takes.
type Pace struct {
	// Target is how long the jobs would take without the outage.
	Target time.Duration
	// Recovery is how long a breaker stays open before its first probe.
	Recovery time.Duration
}

// The paces.
var (
	// PaceShow takes some 45 seconds, which is long enough to watch a region fail and recover.
	PaceShow = Pace{Target: 37 * time.Second, Recovery: 5 * time.Second}
	// PaceFast takes some eight seconds.
	PaceFast = Pace{Target: 6 * time.Second, Recovery: 200 * time.Millisecond}
)

const (
	// healthInterval is so long that the outage is over before three health probes in a row have met it: the first
	// region is to be seen to recover, and one that is behind is asked last.
	healthInterval = 10 * time.Second
	// jobsPerSlot is how many jobs each slot does one after the other.
	jobsPerSlot = 25
	fewestSlots = 4
	mostSlots   = 256
	// shortestRun is how often the mean latency fits into the target at least, so that a few documents are not waited
	// for all the longer.
	shortestRun = 12
	// fewestForOutage is how many jobs it takes to trip a breaker half-way and see it recover before the end.
	fewestForOutage = 80
	// unluckyShare of the calls to the second region fail. It gets one try, so that the third is seen at work.
	unluckyShare = 0.08
)

// scenario is what happens to so many jobs.
type scenario struct {
	slots   int
	regions []sandbox.Region
	// down and up are the numbers of jobs answered between which the first region fails; zero for no outage.
	down, up int
}

// plan spreads the jobs over the pace: slots and latencies are such that their quotient gives the target, and the
// first region fails from a half to five eighths of the jobs. The rest lasts longer than the worst that can follow: a
// probe that hangs, one more recovery time, and a probe that is answered.
func plan(jobs int, pace Pace) scenario {
	s := scenario{slots: min(max((jobs+jobsPerSlot-1)/jobsPerSlot, fewestSlots), mostSlots)}
	mean := min(pace.Target*time.Duration(s.slots)/time.Duration(max(jobs, 1)), pace.Target/shortestRun)
	latency := func(least, most float64) simulator.Distribution {
		return simulator.Distribution{
			Min: time.Duration(least * float64(mean)), Max: time.Duration(most * float64(mean)), Shape: simulator.ShapeLogNormal,
		}
	}
	// A call that hangs is given up well after the longest answer, also on a slow machine.
	timeout := func(longest float64) time.Duration {
		margin := pace.Target / 37
		return max(time.Second, (time.Duration(longest*float64(mean)) + margin).Round(100*time.Millisecond))
	}
	s.regions = []sandbox.Region{
		{Name: "simulated-apac", Region: "ap-northeast-1", Latency: latency(0.6, 1.4), Timeout: timeout(1.4)},
		{Name: "simulated-eu", Region: "eu-west-1", Latency: latency(0.7, 1.6), Timeout: 2 * timeout(1.6), Tries: 1, FailureRate: unluckyShare},
		{Name: "simulated-us", Region: "us-east-1", Latency: latency(0.8, 1.8), Timeout: 2 * timeout(1.8)},
	}
	if jobs >= fewestForOutage {
		s.down, s.up = jobs/2, jobs/2+jobs/8
		s.regions[0].Outages = []simulator.Outage{{Kinds: []string{"500", "reset", "hang"}, FromJob: s.down, UntilJob: s.up}}
	}
	return s
}
