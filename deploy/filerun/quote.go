package filerun

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/forebay-queue/forebay/deploy/batchio"
	"github.com/forebay-queue/forebay/deploy/simulator"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
)

const (
	// fewestPast is how many calls of the past say how long answers are.
	fewestPast = 20
	// assumedShare of its bound is how long an answer is taken to be where nothing is known.
	assumedShare = 4
)

// Quote is what a run is expected to take, before any of it is done.
type Quote struct {
	// Jobs is how many lines will be jobs, and paid for. Answered are those that the journal has an answer of, Refused
	// those that cannot be jobs.
	Jobs     int `json:"jobs"`
	Answered int `json:"answered_already"`
	Refused  int `json:"refused"`
	// Problems are the first of those, by their places.
	Problems []string `json:"problems,omitempty"`

	PromptTokens int64 `json:"prompt_tokens"`
	OutputTokens int64 `json:"output_tokens"`
	// CostUSD is what is expected, WorstUSD what all answers would cost that are as long as they may be.
	CostUSD  float64 `json:"cost_usd"`
	WorstUSD float64 `json:"worst_usd"`
	// Models are the models that will be asked first.
	Models []ModelQuote `json:"models"`
	// LimitSeconds is how long the configured limits make it last at least, Limit which does; none is 0 and empty.
	LimitSeconds float64 `json:"limit_seconds"`
	Limit        string  `json:"limit,omitempty"`
}

// ModelQuote is the part of one model.
type ModelQuote struct {
	Model        string  `json:"model"`
	Tier         string  `json:"tier,omitempty"`
	Jobs         int     `json:"jobs"`
	PromptTokens int64   `json:"prompt_tokens"`
	OutputTokens int64   `json:"output_tokens"`
	CostUSD      float64 `json:"cost_usd"`
	WorstUSD     float64 `json:"worst_usd"`
	// Assumptions say by what the tokens are expected.
	Assumptions []string `json:"assumptions"`

	charged int64 // what limits count on arrival
}

// Past is how long a task type's answers of a model were: all their tokens, and how many calls they were of.
type Past map[PastKey]struct{ Calls, OutputTokens int64 }

// PastKey is what answers are told apart by.
type PastKey struct{ TaskType, Model string }

// quoter adds up a quote.
type quoter struct {
	catalog *catalog.Catalog
	past    Past
	now     time.Time
	quote   Quote
	models  map[string]*ModelQuote
}

// mostProblems is how many lines that cannot be jobs a quote names.
const mostProblems = 20

// QuoteOf says what a run over the items is expected to take. A journal, which may be nil, has the answers of earlier runs.
func QuoteOf(items iter.Seq2[batchio.Item, error], c *catalog.Catalog, j *Journal, past Past) (Quote, error) {
	q := quoter{catalog: c, past: past, now: time.Now(), models: map[string]*ModelQuote{}}
	answered := &chains{}
	if j != nil {
		answered = j.chain(func(e *entry) bool { return e.answered() })
	}
	for item, err := range items {
		if err != nil {
			return Quote{}, err
		}
		if item.Problem == nil {
			p, err := markOf(item.Job)
			if err != nil {
				return Quote{}, err
			}
			if _, found := answered.take(p); found {
				q.quote.Answered++
				continue
			}
			item.Problem = q.add(item.Job)
		}
		if item.Problem != nil {
			q.refuse(item)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(q.models)) {
		m := q.models[name]
		q.quote.PromptTokens += m.PromptTokens
		q.quote.OutputTokens += m.OutputTokens
		q.quote.CostUSD += m.CostUSD
		q.quote.WorstUSD += m.WorstUSD
		q.quote.Models = append(q.quote.Models, *m)
	}
	slices.SortStableFunc(q.quote.Models, func(a, b ModelQuote) int { return cmp.Compare(b.CostUSD, a.CostUSD) })
	q.limits()
	return q.quote, nil
}

func (q *quoter) refuse(item batchio.Item) {
	q.quote.Refused++
	if len(q.quote.Problems) < mostProblems {
		q.quote.Problems = append(q.quote.Problems, item.Place()+": "+item.Problem.Error())
	}
}

// add adds a job at the model that is asked first.
func (q *quoter) add(job tasks.Job) error {
	prepared, err := q.catalog.Prepare(job, q.now)
	if err != nil {
		return errors.New(oneLine(err))
	}
	models := q.catalog.ModelsFor(prepared.Job)
	model := ""
	for _, name := range models {
		if len(q.catalog.EndpointsFor(name)) > 0 {
			model = name
			break
		}
	}
	if model == "" {
		return errors.New("no endpoint serves a model for it")
	}
	m := q.models[model]
	if m == nil {
		m = &ModelQuote{Model: model, Tier: q.catalog.TierOf(model)}
		q.models[model] = m
	}
	estimate := q.catalog.Estimate(model, prepared.Job, prepared.PromptTokens)
	usage, assumption := q.expect(model, prepared.Job, estimate)
	m.Jobs++
	m.PromptTokens += int64(usage.PromptTokens)
	m.OutputTokens += int64(usage.CompletionTokens)
	m.CostUSD += q.catalog.Cost(model, usage)
	m.WorstUSD += max(q.catalog.Cost(model, estimate.Usage()), q.catalog.Cost(model, usage))
	m.charged += int64(estimate.Tokens())
	if !slices.Contains(m.Assumptions, assumption) {
		m.Assumptions = append(m.Assumptions, assumption)
	}
	q.quote.Jobs++
	return nil
}

// expect says what a call is likely to use, and why.
func (q *quoter) expect(model string, job tasks.Job, estimate catalog.Estimate) (tasks.Usage, string) {
	if q.catalog.EndpointsFor(model)[0].Simulated {
		if in, out, ok := simulator.Expect(job.Request, job.Kind == tasks.KindEmbedding); ok {
			return tasks.Usage{PromptTokens: in, CompletionTokens: out, TotalTokens: in + out}, "a simulated endpoint counts a token for every four bytes, and what it answers is known"
		}
	}
	usage := tasks.Usage{PromptTokens: estimate.Prompt}
	if job.Kind == tasks.KindEmbedding {
		return usage, "an embedding has no answer to be counted"
	}
	if past := q.past[PastKey{job.TaskType, model}]; past.Calls >= fewestPast {
		mean := int(past.OutputTokens / past.Calls)
		usage.CompletionTokens = min(mean, estimate.Bound)
		return usage, fmt.Sprintf("answers have %d tokens, the mean of %d calls of %s in the last 30 days", mean, past.Calls, cmp.Or(job.TaskType, "no task type"))
	}
	usage.CompletionTokens = (estimate.Bound + assumedShare - 1) / assumedShare
	return usage, fmt.Sprintf("answers are taken to have a quarter of their bound: there are no %d calls of %s in the last 30 days to go by", fewestPast, cmp.Or(job.TaskType, "no task type"))
}

// limits finds what makes the run last longest.
func (q *quoter) limits() {
	requests, tokens := map[string]float64{}, map[string]float64{}
	limits := map[string]catalog.LimitScope{}
	for _, m := range q.quote.Models {
		for _, scope := range q.shared(m.Model) {
			name := scope.String()
			limits[name] = scope
			requests[name] += float64(m.Jobs)
			tokens[name] += float64(m.charged)
		}
	}
	for _, m := range q.quote.Models {
		what := "all endpoints of " + m.Model
		q.lasts(float64(m.Jobs), q.together(m.Model, func(l catalog.Limits) int { return l.RequestsPerMinute }), "requests", what)
		q.lasts(float64(m.charged), q.together(m.Model, func(l catalog.Limits) int { return l.TokensPerMinute }), "tokens", what)
	}
	for _, name := range slices.Sorted(maps.Keys(limits)) {
		allowed := limits[name].Limits
		q.lasts(requests[name], allowed.RequestsPerMinute, "requests", name)
		q.lasts(tokens[name], allowed.TokensPerMinute, "tokens", name)
	}
}

func (q *quoter) lasts(amount float64, perMinute int, what, scope string) {
	if perMinute == 0 {
		return
	}
	if seconds := amount / float64(perMinute) * 60; seconds >= q.quote.LimitSeconds {
		q.quote.LimitSeconds, q.quote.Limit = seconds, fmt.Sprintf("%d %s a minute of %s", perMinute, what, scope)
	}
}

// shared are the scopes that limit a model at all of its endpoints: no other endpoint lets a call past them.
func (q *quoter) shared(model string) []catalog.LimitScope {
	endpoints := q.catalog.EndpointsFor(model)
	shared := q.catalog.LimitsFor(endpoints[0], model)
	for _, endpoint := range endpoints[1:] {
		scopes := q.catalog.LimitsFor(endpoint, model)
		shared = slices.DeleteFunc(shared, func(s catalog.LimitScope) bool { return !slices.Contains(scopes, s) })
	}
	return shared
}

// together is what all endpoints of a model let through in a minute: those of an account what they do together, and no
// more than the account; 0 is any number.
func (q *quoter) together(model string, of func(catalog.Limits) int) int {
	accounts, endpoints := map[string]int{}, map[string]int{}
	unlimited := map[string]bool{} // accounts one of whose endpoints has no limit of its own
	for _, endpoint := range q.catalog.EndpointsFor(model) {
		own := 0
		for _, scope := range q.catalog.LimitsFor(endpoint, model) {
			limit := of(scope.Limits)
			switch {
			case limit == 0:
			case scope.Endpoint == "":
				accounts[endpoint.Account] = least(accounts[endpoint.Account], limit)
			default:
				own = least(own, limit)
			}
		}
		unlimited[endpoint.Account] = unlimited[endpoint.Account] || own == 0
		endpoints[endpoint.Account] += own
	}
	sum := 0
	for account := range unlimited {
		limit := accounts[account]
		if !unlimited[account] {
			limit = least(limit, endpoints[account])
		}
		if limit == 0 {
			return 0
		}
		sum += limit
	}
	return sum
}

// least is the smaller of two limits, of which 0 is none.
func least(a, b int) int {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}
