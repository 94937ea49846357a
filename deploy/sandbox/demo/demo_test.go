package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/forebay-queue/forebay/deploy/sandbox/corpus"
	"github.com/forebay-queue/forebay/deploy/simulator"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/gate"
)

// instant is a pace for tests of all but the outage.
var instant = Pace{Target: 100 * time.Millisecond, Recovery: 100 * time.Millisecond}

func documents(count int) *corpus.Corpus {
	c := &corpus.Corpus{Origin: "texts of the test"}
	for i := range count {
		c.Documents = append(c.Documents, corpus.Document{
			Name: fmt.Sprintf("folder/%d.md › Part", i),
			Text: fmt.Sprintf("Document %d speaks of water and of gates. The water of document %d waits for its gate. "+
				"A gate opens when the turbine below can take the water. Nobody has counted the other gates of this river.", i, i),
		})
	}
	return c
}

// TestRun is not parallel: it looks at all goroutines of the process.
func TestRun(t *testing.T) { //nolint:paralleltest // goroutines of other tests would count as leaks
	defer goleak.VerifyNone(t)
	var out bytes.Buffer
	c := documents(30)
	d, err := Start(t.Context(), Config{Corpus: c, Pace: instant, Out: &out})
	require.NoError(t, err)
	report, err := d.Run(t.Context())
	require.NoError(t, err)
	require.NoError(t, d.Close(t.Context()))
	require.NoError(t, report.Err())

	assert.Equal(t, 30, report.Succeeded)
	assert.False(t, report.Outage, "30 jobs are too few")
	assert.Positive(t, report.CostUSD)
	assert.Equal(t, "claude-opus-4", report.DearestModel)
	assert.Greater(t, report.DearestUSD, report.CostUSD)
	assert.Equal(t, map[string]int{"gemini-2.5-flash": 30}, report.Models)
	require.Len(t, report.Summaries, shownSummaries)
	for _, summary := range report.Summaries {
		index := 0
		for summary.Document != c.Documents[index].Name {
			index++
		}
		for paragraph := range strings.SplitSeq(summary.Text, "\n\n") {
			assert.Contains(t, c.Documents[index].Text, paragraph)
		}
	}
	assert.Contains(t, out.String(), "30/30 done, 0 retrying, 0 failed")
	assert.Contains(t, out.String(), "simulated-apac closed")

	encoded, err := json.Marshal(report)
	require.NoError(t, err)
	assert.Contains(t, string(encoded), `"simulated":true`)
	var text bytes.Buffer
	require.NoError(t, report.Write(&text))
	for _, want := range []string{
		"30 of 30 documents summarised", "simulated-us (simulated)", "30 succeeded, 0 failed", "claude-opus-4: 30 times as much",
		"it takes 80 documents", "by gemini-2.5-flash (simulated) at simulated-apac", "Checked: every job has exactly one answer",
	} {
		assert.Contains(t, text.String(), want)
	}
}

func TestRunIsInterrupted(t *testing.T) { //nolint:paralleltest // goroutines of other tests would count as leaks
	defer goleak.VerifyNone(t)
	for _, after := range []time.Duration{0, 50 * time.Millisecond, 400 * time.Millisecond} {
		ctx, cancel := context.WithCancel(t.Context())
		d, err := Start(ctx, Config{Corpus: documents(100), Pace: PaceShow, Out: &bytes.Buffer{}})
		require.NoError(t, err)
		time.AfterFunc(after, cancel)
		begun := time.Now()
		_, err = d.Run(ctx)
		var interrupted *Interrupted
		require.ErrorAs(t, err, &interrupted)
		assert.Equal(t, 100, interrupted.Jobs)
		require.NoError(t, d.Close(ctx))
		assert.Less(t, time.Since(begun), 5*time.Second)
		_, err = Start(ctx, Config{Corpus: documents(3), Out: &bytes.Buffer{}})
		require.ErrorAs(t, err, &interrupted)
	}
}

func TestPlanLeavesTimeToRecover(t *testing.T) {
	t.Parallel()
	for jobs := range 6000 {
		s := plan(jobs, PaceShow)
		first := s.regions[0]
		mean := (first.Latency.Min + first.Latency.Max) / 2
		total := time.Duration(jobs) * mean / time.Duration(s.slots)
		if jobs < fewestForOutage {
			require.Empty(t, first.Outages, "%d jobs", jobs)
			require.LessOrEqual(t, total, PaceShow.Target+time.Second, "%d jobs", jobs)
			continue
		}
		require.InDelta(t, PaceShow.Target.Seconds(), total.Seconds(), 1, "%d jobs", jobs)
		require.Less(t, first.Latency.Max+500*time.Millisecond, first.Timeout, "%d jobs: no good answer is cut off", jobs)
		rest := total * time.Duration(jobs-s.up) / time.Duration(jobs)
		worst := first.Timeout + PaceShow.Recovery + first.Latency.Max
		require.Greater(t, rest, worst, "%d jobs", jobs)
	}
}

// proof is evidence that all is well, of three jobs, for tests to spoil.
func proof() (*Demo, evidence) {
	d := &Demo{scenario: scenario{slots: 4, down: 1, up: 2}}
	e := evidence{answeredAtUp: 1, counters: simulator.Counters{
		Jobs: map[string]simulator.JobCount{}, Regions: map[string]simulator.RegionCounters{},
	}}
	for i := range 3 {
		id := jobID(i)
		e.results = append(e.results, tasks.Result{
			ID: id, Status: tasks.StatusSucceeded, Usage: &tasks.Usage{PromptTokens: 10, CompletionTokens: 2},
			Attempts: []tasks.Attempt{{Endpoint: "a", Ended: true}},
		})
		e.counters.Jobs[id] = simulator.JobCount{Asked: 1, Answered: 1}
	}
	// The second job met the outage.
	e.results[1].Attempts = nil
	for range 5 {
		e.results[1].Attempts = append(e.results[1].Attempts, tasks.Attempt{Endpoint: "a", Ended: true, Class: tasks.ClassUnavailable})
	}
	e.results[1].Attempts = append(e.results[1].Attempts, tasks.Attempt{Endpoint: "b", Ended: true})
	e.counters.Jobs[jobID(1)] = simulator.JobCount{Asked: 6, Answered: 1}
	e.counters.Regions["a"] = simulator.RegionCounters{Tally: simulator.Tally{Asked: 7, Answered: 2, DuringOutage: 5}}
	e.counters.Regions["b"] = simulator.RegionCounters{Tally: simulator.Tally{Asked: 1, Answered: 1}}
	e.counters.Total = simulator.Tally{TokensIn: 30, TokensOut: 6}
	e.states = []gate.EndpointState{
		{Endpoint: gate.Endpoint{Name: "a"}, State: gate.StateClosed, Calls: 7, Trips: 1, Probes: 1, Recoveries: 1},
		{Endpoint: gate.Endpoint{Name: "b"}, State: gate.StateClosed, Calls: 1},
	}
	return d, e
}

func TestCheckFindsWhatDoesNotHold(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		spoil func(*evidence)
		want  string
	}{
		{"all is well", func(*evidence) {}, ""},
		{"a job failed", func(e *evidence) { e.results[0].Status = tasks.StatusFailed }, "job demo-0001 ended as failed: no reason is given"},
		{
			"a job was answered twice",
			func(e *evidence) { e.counters.Jobs["demo-0003"] = simulator.JobCount{Asked: 1, Answered: 2} },
			"job demo-0003 has 1 answers by its ledger and 2 by the simulator, instead of 1",
		},
		{
			"a call is missing in a ledger",
			func(e *evidence) { e.counters.Jobs["demo-0001"] = simulator.JobCount{Asked: 2, Answered: 1} },
			"job demo-0001 has 1 calls by its ledger and 2 by the simulator",
		},
		{"a breaker has not seen all calls", func(e *evidence) { e.states[1].Calls = 9 }, "b was called 1 times by the simulator, 1 by the ledgers and 9 by its breaker"},
		{"tokens", func(e *evidence) { e.counters.Total.TokensOut = 7 }, "the simulator counted 30 tokens in and 7 out, the ledgers 30 and 6"},
		{"no trip", func(e *evidence) { e.states[0].Trips = 0 }, "the breaker of a had no trip"},
		{"no probe", func(e *evidence) { e.states[0].Probes = 0 }, "the breaker of a had no probe"},
		{"no recovery", func(e *evidence) { e.states[0].Recoveries = 0 }, "the breaker of a had no recovery"},
		{"still open", func(e *evidence) { e.states[0].State = gate.StateOpen }, "the breaker of a is still open"},
		{"silent since", func(e *evidence) { e.answeredAtUp = 2 }, "a answered no call after its outage"},
		{"never up", func(e *evidence) { e.answeredAtUp = -1 }, "a answered no call after its outage"},
		{
			"the breaker let too many through",
			func(e *evidence) {
				region := e.counters.Regions["a"]
				region.DuringOutage = 27
				e.counters.Regions["a"] = region
			},
			"the outage of a met 27 calls; its breaker should have let through 26 at most",
		},
		{
			"no outage",
			func(e *evidence) {
				region := e.counters.Regions["a"]
				region.DuringOutage = 4
				e.counters.Regions["a"] = region
			},
			"the outage of a met 4 calls, too few to trip its breaker",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			d, e := proof()
			test.spoil(&e)
			problems := d.check(e, 5)
			if test.want == "" {
				assert.Empty(t, problems)
				return
			}
			assert.Contains(t, problems, test.want)
		})
	}
}

func TestReportError(t *testing.T) {
	t.Parallel()
	require.NoError(t, (&Report{}).Err())
	many := &Report{Problems: make([]string, maxProblems+2)}
	for i := range many.Problems {
		many.Problems[i] = fmt.Sprintf("problem %d", i)
	}
	require.ErrorContains(t, many.Err(), "problem 9")
	require.ErrorContains(t, many.Err(), "and 2 more")
	assert.NotContains(t, many.Err().Error(), "problem 10")
}

func TestEventsTellWhatChanged(t *testing.T) {
	t.Parallel()
	at := func(state gate.EndpointState) progress {
		return progress{endpoints: []endpoint{{name: "a", state: state}}}
	}
	before := at(gate.EndpointState{})
	assert.Empty(t, events(before, before))
	for _, test := range []struct {
		state gate.EndpointState
		want  string
	}{
		{gate.EndpointState{Trips: 1}, "breaker of a: open; jobs go to the next region at once"},
		{gate.EndpointState{Probes: 1}, "breaker of a: half-open, one job is the probe"},
		{gate.EndpointState{Probes: 1, Reopenings: 1}, "breaker of a: the probe failed, open again"},
		{gate.EndpointState{Probes: 1, Recoveries: 1}, "breaker of a: the probe was answered, closed again"},
	} {
		assert.Equal(t, []string{test.want}, events(before, at(test.state)))
	}
	down := before
	down.down = true
	assert.Equal(t, []string{"a goes down: its answers are errors, resets and silence, in turn"}, events(before, down))
	assert.Equal(t, []string{"a is up again; its breaker does not know yet"}, events(down, before))
}

func TestPlainDisplay(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	display := newDisplay(&out, nil, 2)
	for _, elapsed := range []time.Duration{0, 200 * time.Millisecond, time.Second, 2300 * time.Millisecond, 65 * time.Second, 66 * time.Second} {
		display.show(progress{elapsed: elapsed, jobs: 2, done: 1, endpoints: []endpoint{{name: "a", state: gate.EndpointState{State: gate.StateOpen}}}})
	}
	display.event("something")
	display.close()
	line := "  1/2 done, 0 retrying, 0 failed, 0.0 jobs/s, $0 spent (simulated)  a open\n"
	assert.Equal(t, "0:00"+line+"0:02"+line+"1:05"+line+"1:06  something\n"+"1:06"+line, out.String())
}

func TestPickShowsWhatThereIs(t *testing.T) {
	t.Parallel()
	result := func(i int, text string) tasks.Result {
		return tasks.Result{ID: jobID(i), Text: text, Metadata: map[string]string{metadataName: fmt.Sprintf("%d.md › Part", i%4)}}
	}
	fit, short, long := strings.Repeat("word ", 40), "Short.", strings.Repeat("word ", 1000)
	for _, test := range []struct {
		name  string
		texts []string
		want  []int
	}{
		{"one short", []string{short}, []int{0}},
		{"short and long", []string{short, long}, []int{0, 1}},
		{"what fits goes first", []string{short, long, fit, short}, []int{2, 0, 1}},
		{"failures have none", []string{"", short, ""}, []int{1}},
		{"of other sources first", []string{short, "", "", "", short, short}, []int{0, 5, 4}},
		{"none", []string{""}, nil},
	} {
		var results []tasks.Result
		for i, text := range test.texts {
			results = append(results, result(i, text))
		}
		var picked []int
		for _, summary := range pick(results) {
			for i := range results {
				if results[i].ID == summary.JobID {
					picked = append(picked, i)
				}
			}
		}
		assert.Equal(t, test.want, picked, test.name)
	}

	var out bytes.Buffer
	require.NoError(t, (&Report{Summaries: []Summary{{Document: "a", Text: long}}}).Write(&out))
	assert.Contains(t, strings.Join(strings.Fields(out.String()), " "), "word … (4101 characters more) Checked")
	assert.Equal(t, fit, shorten(fit))
}

func TestTexts(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "0 trips, 1 trip, 2 recoveries", plural(0, "trip")+", "+plural(int64(1), "trip")+", "+plural(2, "recovery"))
	for usd, want := range map[float64]string{0: "$0", 0.0000123: "$0.000012", 0.0715: "$0.0715", 2.1461: "$2.1461"} {
		assert.Equal(t, want, dollars(usd))
	}
	assert.Equal(t, "ab…", clip("abcd", 3))
	assert.Equal(t, "äöü", clip("äöü", 3))
	assert.Equal(t, "  a b\n  c\n", wrap(" a\x1b\nb\n\nc\n", "  "))
	for line := range strings.Lines(wrap(strings.Repeat("word ", 100), "    ")) {
		assert.LessOrEqual(t, len(line), textColumns+len("    \n"))
	}
	assert.Equal(t, []string{"✕", "◐", "●"}, []string{
		sign(gate.EndpointState{State: gate.StateOpen}), sign(gate.EndpointState{State: gate.StateHalfOpen}), sign(gate.EndpointState{State: gate.StateClosed}),
	})
	assert.Equal(t, "probing", breaker(gate.EndpointState{State: gate.StateHalfOpen, ProbeUntil: time.Now()}))
}
