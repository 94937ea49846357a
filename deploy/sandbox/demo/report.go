package demo

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/forebay-queue/forebay/deploy/simulator"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/gate"
)

const (
	// shownSummaries is how many summaries a report holds.
	shownSummaries = 3
	// fewestShown and mostShown are how long the texts are that are shown by preference; what is longer is cut.
	fewestShown, mostShown = 120, 900
	// settleTimeout bounds how long after the last result its call may still be reported to the breaker.
	settleTimeout = 3 * time.Second
)

// Report is what a demonstration came to. Its JSON is what `forebay demo --json` prints.
type Report struct {
	// Simulated is always true: no provider was called, and nothing was billed.
	Simulated bool `json:"simulated"`
	// Documents says what the documents were.
	Documents string  `json:"documents"`
	Seconds   float64 `json:"seconds"`
	Jobs      int     `json:"jobs"`
	Succeeded int     `json:"succeeded"`
	Failed    int     `json:"failed"`
	// Calls are all that were made, Retried those beyond the first of their job.
	Calls   int `json:"calls"`
	Retried int `json:"retried"`
	// Failovers are the jobs that another endpoint answered than the one asked first; Rerouted those that did not even
	// ask the first endpoint, because its breaker was open.
	Failovers int `json:"failovers"`
	Rerouted  int `json:"rerouted"`
	// Outage tells that the first region failed half-way; there are too few jobs for it otherwise.
	Outage     bool             `json:"outage"`
	Trips      int64            `json:"trips"`
	Probes     int64            `json:"probes"`
	Reopenings int64            `json:"reopenings"`
	Recoveries int64            `json:"recoveries"`
	Endpoints  []EndpointReport `json:"endpoints"`
	// Models counts the jobs that each model answered.
	Models map[string]int `json:"models"`
	// Usage and costs are those of the answers; MaybeBilled calls were cut off and cost what nobody knows.
	PromptTokens     int     `json:"prompt_tokens"`
	CompletionTokens int     `json:"completion_tokens"`
	CostUSD          float64 `json:"cost_usd"`
	MaybeBilled      int     `json:"maybe_billed"`
	// DearestModel would have cost DearestUSD for the same tokens.
	DearestModel string    `json:"dearest_model"`
	DearestUSD   float64   `json:"dearest_usd"`
	Summaries    []Summary `json:"summaries"`
	// Problems are the assertions that did not hold. Empty when all is well.
	Problems []string `json:"problems"`
}

// EndpointReport is one endpoint's part.
type EndpointReport struct {
	Endpoint  string `json:"endpoint"`
	Region    string `json:"region"`
	Simulated bool   `json:"simulated"`
	// Calls and Answered are the simulator's own counters, DuringOutage the calls that met its outage.
	Calls        int64 `json:"calls"`
	Answered     int64 `json:"answered"`
	DuringOutage int64 `json:"during_outage"`
	// Share is the part of the jobs that this endpoint answered, 0 to 1.
	Share      float64    `json:"share"`
	LatencyMS  int64      `json:"latency_ms"`
	Breaker    gate.State `json:"breaker"`
	Trips      int64      `json:"trips"`
	Probes     int64      `json:"probes"`
	Reopenings int64      `json:"reopenings"`
	Recoveries int64      `json:"recoveries"`
}

// Summary is one of the results.
type Summary struct {
	Document string `json:"document"`
	JobID    string `json:"job_id"`
	Model    string `json:"model"`
	Endpoint string `json:"endpoint"`
	// Text is the whole summary.
	Text string `json:"text"`
}

// report sums up the results, and compares them with the simulator's counters and the breakers.
func (d *Demo) report(ctx context.Context, results []tasks.Result, watch *watch) (*Report, error) {
	counters := d.Sandbox.Simulator.Counters()
	states, err := d.settled(ctx, counters)
	if err != nil {
		return nil, err
	}
	r := &Report{
		Simulated: true, Documents: d.config.Corpus.Origin, Seconds: time.Since(watch.started).Seconds(),
		Jobs: len(results), Outage: d.scenario.up > 0, Models: map[string]int{}, Problems: []string{},
	}
	answeredBy := map[string]int{}
	for _, result := range results {
		r.add(result, watch.endpoints[0].name)
		answeredBy[result.Endpoint]++
		_, dearest := d.Sandbox.Catalog.DearestCost(tasks.KindChat, usage(result))
		r.DearestUSD += dearest
	}
	r.DearestModel, _ = d.Sandbox.Catalog.DearestCost(tasks.KindChat, tasks.Usage{CompletionTokens: 1})
	for i, e := range d.Sandbox.EndpointOrder() {
		region := counters.Regions[e.Name]
		r.Endpoints = append(r.Endpoints, EndpointReport{
			Endpoint: e.Name, Region: e.Region, Simulated: e.Simulated,
			Calls: region.Asked, Answered: region.Answered, DuringOutage: region.DuringOutage,
			Share: float64(answeredBy[e.Name]) / float64(len(results)), LatencyMS: states[i].Latency.Milliseconds(),
			Breaker: states[i].State, Trips: states[i].Trips, Probes: states[i].Probes,
			Reopenings: states[i].Reopenings, Recoveries: states[i].Recoveries,
		})
		r.Trips += states[i].Trips
		r.Probes += states[i].Probes
		r.Reopenings += states[i].Reopenings
		r.Recoveries += states[i].Recoveries
	}
	r.Summaries = pick(results)
	r.Problems = append(r.Problems, d.check(evidence{results: results, states: states, counters: counters, answeredAtUp: watch.answeredAtUp}, d.Sandbox.Catalog.Breaker.Failures)...)
	return r, nil
}

// settled reads the breakers once they have been told of all calls: a worker reports a call to its breaker right
// after the result has been written. When they are not told within settleTimeout, it returns them as they are.
func (d *Demo) settled(ctx context.Context, counters simulator.Counters) ([]gate.EndpointState, error) {
	timeout := time.Now().Add(settleTimeout)
	for {
		states, err := d.Sandbox.Endpoints(ctx)
		if err != nil {
			return nil, fmt.Errorf("read the breakers for the report: %w", err)
		}
		var calls int64
		for _, state := range states {
			calls += state.Calls
		}
		if calls >= counters.Total.Asked || time.Now().After(timeout) {
			return states, nil
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// add takes in one result. first is the endpoint that a job asks first when all are well.
func (r *Report) add(result tasks.Result, first string) {
	r.Calls += len(result.Attempts)
	r.Retried += max(len(result.Attempts)-1, 0)
	r.CostUSD += result.CostUSD
	for _, attempt := range result.Attempts {
		if attempt.MaybeBilled {
			r.MaybeBilled++
		}
	}
	if result.Status != tasks.StatusSucceeded {
		r.Failed++
		return
	}
	r.Succeeded++
	r.Models[result.Model]++
	r.PromptTokens += usage(result).PromptTokens
	r.CompletionTokens += usage(result).CompletionTokens
	asked := func(a tasks.Attempt) bool { return a.Endpoint == first }
	if len(result.Attempts) > 0 && result.Attempts[0].Endpoint != result.Endpoint {
		r.Failovers++
	}
	if !slices.ContainsFunc(result.Attempts, asked) {
		r.Rerouted++
	}
}

func usage(result tasks.Result) tasks.Usage {
	if result.Usage == nil {
		return tasks.Usage{}
	}
	return *result.Usage
}

// pick chooses up to shownSummaries of the summaries: of different sources and such as can be read at a glance, spread
// over the documents; where these do not suffice, others.
func pick(results []tasks.Result) []Summary {
	var picked []Summary
	taken, sources := map[int]bool{}, map[string]bool{}
	take := func(i int, fits func(result tasks.Result, source string) bool) {
		result := results[i]
		source, _, _ := strings.Cut(result.Metadata[metadataName], " › ")
		if len(picked) == shownSummaries || taken[i] || result.Text == "" || !fits(result, source) {
			return
		}
		taken[i], sources[source] = true, true
		picked = append(picked, Summary{
			Document: result.Metadata[metadataName], JobID: result.ID, Model: result.Model, Endpoint: result.Endpoint,
			Text: result.Text,
		})
	}
	for i := range results {
		// One of each third of the documents; when it does not fit, the next.
		take((len(results)/8+i*len(results)/shownSummaries+i/shownSummaries)%len(results), func(result tasks.Result, source string) bool {
			return !sources[source] && len(result.Text) >= fewestShown && len([]rune(result.Text)) <= mostShown
		})
	}
	for i := range results {
		take(i, func(_ tasks.Result, source string) bool { return !sources[source] })
	}
	for i := range results {
		take(i, func(tasks.Result, string) bool { return true })
	}
	return picked
}

// evidence is what the assertions look at.
type evidence struct {
	results      []tasks.Result
	states       []gate.EndpointState
	counters     simulator.Counters
	answeredAtUp int64
}

// check returns what the demonstration shows and does not hold: that every job has one answer, that nobody's books
// differ, and that a breaker, which so many failures open, opened, was probed, and closed again.
func (d *Demo) check(e evidence, failures int) []string {
	problems := checkJobs(e)
	problems = append(problems, checkBooks(e)...)
	if d.scenario.up > 0 {
		problems = append(problems, checkOutage(e, int64(failures), int64(d.scenario.slots))...)
	}
	return problems
}

// checkJobs compares each job's result and ledger with what the simulator counted for it.
func checkJobs(e evidence) []string {
	var problems []string
	for _, result := range e.results {
		counted, answered, lost := e.counters.Jobs[result.ID], 0, int64(0)
		for _, attempt := range result.Attempts {
			switch {
			case attempt.Class == "" && attempt.Ended:
				answered++
			case attempt.MaybeBilled:
				lost++ // the simulator may have answered when nobody was waiting any more
			}
		}
		switch {
		case result.Status != tasks.StatusSucceeded:
			problems = append(problems, fmt.Sprintf("job %s ended as %s: %v", result.ID, result.Status, reason(result)))
		case answered != 1 || counted.Answered < 1 || counted.Answered > 1+lost:
			problems = append(problems, fmt.Sprintf("job %s has %d answers by its ledger and %d by the simulator, instead of 1",
				result.ID, answered, counted.Answered))
		case counted.Asked != int64(len(result.Attempts)):
			problems = append(problems, fmt.Sprintf("job %s has %d calls by its ledger and %d by the simulator",
				result.ID, len(result.Attempts), counted.Asked))
		}
	}
	return problems
}

func reason(result tasks.Result) string {
	if result.Error == nil {
		return "no reason is given"
	}
	return result.Error.Error()
}

// checkBooks compares the sums: calls by endpoint, and tokens.
func checkBooks(e evidence) []string {
	var problems []string
	calls := map[string]int64{}
	var in, out, late int64
	for _, result := range e.results {
		late += e.counters.Jobs[result.ID].Answered - 1
		for _, attempt := range result.Attempts {
			calls[attempt.Endpoint]++
		}
		in += int64(usage(result).PromptTokens)
		out += int64(usage(result).CompletionTokens)
	}
	for _, state := range e.states {
		name := state.Endpoint.Name
		counted := e.counters.Regions[name].Asked
		if calls[name] != counted || state.Calls != counted {
			problems = append(problems, fmt.Sprintf("%s was called %d times by the simulator, %d by the ledgers and %d by its breaker",
				name, counted, calls[name], state.Calls))
		}
	}
	// Answers that came too late have tokens that no ledger knows.
	if total := e.counters.Total; late == 0 && (total.TokensIn != in || total.TokensOut != out) || total.TokensIn < in || total.TokensOut < out {
		problems = append(problems, fmt.Sprintf("the simulator counted %d tokens in and %d out, the ledgers %d and %d",
			total.TokensIn, total.TokensOut, in, out))
	}
	return problems
}

// checkOutage looks for what the failure of the first region must have led to.
func checkOutage(e evidence, failures, slots int64) []string {
	var problems []string
	first := e.states[0]
	name, counted := first.Endpoint.Name, e.counters.Regions[first.Endpoint.Name]
	for _, seen := range []struct {
		what  string
		count int64
	}{{"trip", first.Trips}, {"probe", first.Probes}, {"recovery", first.Recoveries}} {
		if seen.count < 1 {
			problems = append(problems, fmt.Sprintf("the breaker of %s had no %s", name, seen.what))
		}
	}
	// A breaker that works keeps all calls away but those that open it, those that are out then, and the probes. Each
	// call that was out when the outage began, one per slot, may have let the count of failures begin anew.
	most := max(first.Trips, 1)*(slots+1)*failures + first.Probes
	switch {
	case counted.DuringOutage < failures:
		problems = append(problems, fmt.Sprintf("the outage of %s met %d calls, too few to trip its breaker", name, counted.DuringOutage))
	case counted.DuringOutage > most:
		problems = append(problems, fmt.Sprintf("the outage of %s met %d calls; its breaker should have let through %d at most", name, counted.DuringOutage, most))
	case e.answeredAtUp < 0 || counted.Answered <= e.answeredAtUp:
		problems = append(problems, fmt.Sprintf("%s answered no call after its outage", name))
	}
	for _, state := range e.states {
		if state.State != gate.StateClosed {
			problems = append(problems, fmt.Sprintf("the breaker of %s is still %s", state.Endpoint.Name, state.State))
		}
	}
	return problems
}

// modelNames lists the models that answered, the busiest first.
func (r *Report) modelNames() []string {
	return slices.SortedFunc(maps.Keys(r.Models), func(a, b string) int {
		if r.Models[a] != r.Models[b] {
			return r.Models[b] - r.Models[a]
		}
		return strings.Compare(a, b)
	})
}

// AnyJob is the id of a job of the demonstration, to look at.
func (r *Report) AnyJob() string {
	if len(r.Summaries) > 0 {
		return r.Summaries[0].JobID
	}
	return jobID(0)
}
