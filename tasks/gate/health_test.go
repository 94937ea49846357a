package gate

import (
	"context"
	"maps"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/forebay-queue/forebay/tasks"
)

// prober reports the health probes of one endpoint, each for a tick of its own.
type prober struct {
	*bundle
	ticks int64
}

const (
	probeEvery     = time.Minute
	probeThreshold = 100 * time.Millisecond
)

func (p *prober) report(t require.TestingT, effect Effect, change ...func(*HealthReport)) HealthChange {
	p.ticks++
	report := HealthReport{
		Endpoint: endpointA, Tick: time.Unix(p.ticks*60, 0), Every: probeEvery, Effect: effect, Status: 200,
		Latency: 10 * time.Millisecond, Threshold: probeThreshold,
	}
	if effect != Success {
		report.Status, report.Class = 500, tasks.ClassUnavailable
	}
	for _, apply := range change {
		apply(&report)
	}
	changed, err := p.ReportHealth(context.Background(), report)
	require.NoError(t, err)
	return changed
}

func (p *prober) health(t require.TestingT) Health {
	found, err := p.Health(context.Background(), []Endpoint{endpointA})
	require.NoError(t, err)
	return found[0]
}

func slow(r *HealthReport) { r.Latency = probeThreshold + time.Millisecond }

func TestHealth(t *testing.T) {
	t.Parallel()
	for name, start := range redises {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			for name, test := range map[string]func(*testing.T, *prober){
				"three in a row":          testHealthRuns,
				"each tick counts once":   testHealthTicks,
				"what is kept":            testHealthRead,
				"half-open state forward": testForward,
				"not by hand":             testForwardForced,
				"once for each trip":      testForwardOnce,
			} {
				t.Run(name, func(t *testing.T) { test(t, &prober{bundle: newBundle(s, testSettings)}) })
			}
		})
	}
}

func testHealthRuns(t *testing.T, p *prober) {
	for _, bad := range []func() HealthChange{
		func() HealthChange { return p.report(t, Success, slow) },
		func() HealthChange { return p.report(t, Failure) },
		func() HealthChange { return p.report(t, TripAccount) },
	} {
		p.report(t, Success)
		assert.False(t, bad().Behind)
		assert.False(t, bad().Behind, "two")
		assert.False(t, p.report(t, Throttle).Behind, "a limit says nothing about its health")
		change := bad()
		assert.True(t, change.Behind && change.FellBehind, "three in a row")
		change = bad()
		assert.True(t, change.Behind && !change.FellBehind, "it is behind already")

		assert.True(t, p.report(t, Success).Behind)
		assert.True(t, p.report(t, Success).Behind)
		assert.True(t, bad().Behind, "they were not three in a row")
		for range 2 {
			assert.True(t, p.report(t, Success).Behind)
		}
		assert.Equal(t, HealthChange{CameBack: true}, p.report(t, Success))
	}
	for range 5 {
		change := p.report(t, Success, slow, func(r *HealthReport) { r.Threshold = 0 })
		assert.False(t, change.Behind, "without a threshold only failures count")
	}
	for range 5 {
		assert.False(t, p.report(t, Success, func(r *HealthReport) { r.Latency = r.Threshold }).Behind, "the threshold itself is within it")
	}
}

func testHealthTicks(t *testing.T, p *prober) {
	for range 2 {
		p.report(t, Failure)
	}
	for range 3 {
		change := p.report(t, Failure, func(r *HealthReport) { r.Tick = time.Unix(p.ticks*60-60, 0) })
		assert.Equal(t, HealthChange{Repeated: true}, change, "the tick has its report")
		p.ticks--
	}
	assert.EqualValues(t, 2, p.health(t).Bad)
	p.ticks++
	assert.True(t, p.report(t, Failure).FellBehind)
	change := p.report(t, Success, func(r *HealthReport) { r.Tick = time.Unix(60, 0) })
	assert.Equal(t, HealthChange{Repeated: true, Behind: true}, change, "a late report of an older tick")
	_, err := p.ReportHealth(t.Context(), HealthReport{Endpoint: endpointA, Tick: time.Unix(1, 0), Effect: Success})
	assert.ErrorContains(t, err, "the time between two ticks must be positive")
}

func testHealthRead(t *testing.T, p *prober) {
	assert.Equal(t, Health{Endpoint: endpointA}, p.health(t))
	for range 3 {
		p.report(t, Failure, func(r *HealthReport) { r.Status, r.Latency = 503, 3*time.Second })
	}
	health := p.health(t)
	assert.Equal(t, 503, health.Status)
	assert.Equal(t, tasks.ClassUnavailable, health.Class)
	assert.Equal(t, 3*time.Second, health.Latency)
	assert.EqualValues(t, 3, health.Bad)
	assert.True(t, health.Slow)
	assert.Less(t, health.Age, time.Minute)
	behind, err := p.Gate.Behind(t.Context(), []Endpoint{endpointA, {Account: "acme", Name: "acme-us"}})
	require.NoError(t, err)
	assert.Equal(t, map[string]bool{"acme-eu": true}, behind)

	ttl, err := p.client.PTTL(t.Context(), p.keys.EndpointHealth(endpointA.Account, endpointA.Name)).Result()
	require.NoError(t, err)
	assert.InDelta(t, float64(healthKept*probeEvery), float64(ttl), float64(time.Minute), "nobody stays behind whom nobody probes")
}

func testForward(t *testing.T, p *prober) {
	p.trip(t, routeA)
	before := p.state(t, routeA)
	for _, effect := range []Effect{Failure, Throttle, TripAccount} {
		assert.False(t, p.report(t, effect).Forwarded)
	}
	assert.False(t, p.report(t, Success, slow).Forwarded)
	p.refused(t, routeA, ReasonBreakerOpen, testSettings.Recovery)

	assert.True(t, p.report(t, Success).Forwarded)
	state := p.state(t, routeA)
	assert.Equal(t, StateHalfOpen, state.State, "never closed")
	before.Until, before.State, state.Until, state.State = time.Time{}, "", time.Time{}, ""
	assert.Equal(t, before, state, "nothing else has changed")
	probe := p.admit(t, routeA)
	require.True(t, probe.Probe)
	assert.False(t, p.report(t, Success).Forwarded, "the lease is left alone")
	p.refused(t, routeA, ReasonProbeOut, testLease)
	assert.Equal(t, Closed, p.settle(t, probe.Outcome(Success)).Change)
	assert.False(t, p.report(t, Success).Forwarded, "it is closed")
}

func testForwardForced(t *testing.T, p *prober) {
	p.trip(t, routeA)
	_, err := p.Open(t.Context(), endpointA, time.Hour)
	require.NoError(t, err)
	assert.False(t, p.report(t, Success).Forwarded)
	p.refused(t, routeA, ReasonBreakerOpen, time.Hour)
}

func testForwardOnce(t *testing.T, p *prober) {
	for range 2 {
		p.trip(t, routeA)
		assert.True(t, p.report(t, Success).Forwarded)
		probe := p.admit(t, routeA)
		require.True(t, probe.Probe)
		assert.Equal(t, Reopened, p.settle(t, probe.Outcome(Failure)).Change)
		for range 3 {
			assert.False(t, p.report(t, Success).Forwarded, "calls fail although the list of models is there")
		}
		p.refused(t, routeA, ReasonBreakerOpen, testSettings.Recovery)
		p.advance(t, testSettings.Recovery)
		assert.Equal(t, Closed, p.settle(t, p.admit(t, routeA).Outcome(Success)).Change)
	}
}

// Health probes in any order amid everything that a breaker goes through, against a plain Go model.
func TestHealthAgainstModel(t *testing.T) {
	t.Parallel()
	for name, start := range redises {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			rapid.Check(t, func(rt *rapid.T) {
				w := &healthWorld{prober: prober{bundle: newBundle(s, testSettings)}}
				rt.Repeat(map[string]func(*rapid.T){
					"report": w.probe, "and report": w.probe, "call": w.call, "force": w.force,
					"pause": func(rt *rapid.T) {
						w.advance(rt, rapid.SampledFrom([]time.Duration{time.Minute, time.Hour}).Draw(rt, "pause"))
					},
				})
			})
		})
	}
}

type healthWorld struct {
	prober
	last, bad, good, forwardedTrip int64
	behind                         bool
}

func (w *healthWorld) call(rt *rapid.T) {
	admission := w.ask(rt, routeA)
	if admission.Granted {
		w.settle(rt, admission.Outcome(rapid.SampledFrom([]Effect{Success, Failure, Trip, Ignore, Release}).Draw(rt, "effect")))
	}
}

func (w *healthWorld) force(rt *rapid.T) {
	var err error
	if rapid.Bool().Draw(rt, "open") {
		_, err = w.Open(context.Background(), endpointA, time.Hour)
	} else {
		_, err = w.Close(context.Background(), endpointA)
	}
	require.NoError(rt, err)
}

// probe reports a health probe, of a new tick or of one before, and compares all that follows.
func (w *healthWorld) probe(rt *rapid.T) {
	breaker := w.keys.Endpoint(endpointA.Account, endpointA.Name)
	before, state := w.snapshot(rt), w.state(rt, routeA)
	effect := rapid.SampledFrom([]Effect{Success, Success, Failure, Trip, Throttle}).Draw(rt, "effect")
	tick := max(1, w.last+rapid.Int64Range(-1, 2).Draw(rt, "tick"))
	late := rapid.Bool().Draw(rt, "slow")
	got := w.report(rt, effect, func(r *HealthReport) {
		r.Tick = time.UnixMilli(tick)
		if late {
			slow(r)
		}
	})

	well := effect == Success && !late
	want := HealthChange{Behind: w.behind, Repeated: tick <= w.last}
	if want.Repeated {
		require.Equal(rt, want, got)
		require.Equal(rt, before, w.snapshot(rt), "what is repeated leaves no trace")
		return
	}
	w.last = tick
	switch {
	case well:
		w.bad, w.good = 0, w.good+1
	case effect != Throttle:
		w.bad, w.good = w.bad+1, 0
	}
	want.FellBehind, want.CameBack = !w.behind && w.bad >= HealthRun, w.behind && w.good >= HealthRun
	w.behind = (w.behind || want.FellBehind) && !want.CameBack
	want.Behind = w.behind
	want.Forwarded = well && state.State == StateOpen && !state.Forced && (w.forwardedTrip == 0 || state.Trips != w.forwardedTrip-1)
	if want.Forwarded {
		w.forwardedTrip = state.Trips + 1
	}
	require.Equal(rt, want, got)
	after := w.snapshot(rt)
	was, is := maps.Clone(before[breaker]), maps.Clone(after[breaker])
	if want.Forwarded {
		require.Equal(rt, StateHalfOpen, w.state(rt, routeA).State)
		delete(was, "until_ms")
		delete(is, "until_ms")
	}
	require.Equal(rt, was, is, "nothing else of the breaker changes")
	require.Equal(rt, w.behind, w.health(rt).Behind)
}
