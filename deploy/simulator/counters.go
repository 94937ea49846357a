package simulator

import (
	"encoding/json"
	"maps"
	"sync"
)

// Kinds of answer that are no failure by order, as they stand in Tally.Kinds beside the names of Failures.
const (
	KindOK           = "ok"
	KindRateLimit    = "rate-limit"    // 429: a limit of the region refused the call
	KindUnauthorized = "unauthorized"  // 401: not one of Config.Keys
	KindUnknownModel = "unknown-model" // 404: not one of Config.Models
	KindInvalid      = "invalid"       // 400: a body or a header that cannot be understood
	KindTooLarge     = "too-large"     // 413: longer than Config.MaxBody
)

// Counters is what the simulator was asked and what it answered since it began. Calls for completions and embeddings
// count; lists of models do not.
type Counters struct {
	Total   Tally                     `json:"total"`
	Regions map[string]RegionCounters `json:"regions"`
	// JobsAnswered is the number of distinct jobs answered OK at least once. A call without HeaderRequestID, or
	// beyond Config.MaxJobs, is a job of its own.
	JobsAnswered int `json:"jobs_answered"`
	// Jobs is keyed by HeaderRequestID.
	Jobs map[string]JobCount `json:"jobs,omitempty"`
	// Untracked sums up the calls that no entry of Jobs counts.
	Untracked JobCount `json:"untracked"`
}

// RegionCounters is one region's part.
type RegionCounters struct {
	Tally
	// Models is keyed by the model asked for. A call whose body could not be read, or that is for a thousand-and-first
	// model, is counted by the region alone.
	Models map[string]Tally `json:"models"`
}

// Tally counts calls: Asked = Answered + Failed + Abandoned + InFlight.
type Tally struct {
	Asked int64 `json:"asked"`
	// Answered are the calls answered OK, with something the client can use (see Failure.Answered).
	Answered int64 `json:"answered"`
	Failed   int64 `json:"failed"`
	// Abandoned are the calls whose client went away before the answer was written. A client that leaves after it was
	// handed to the network is not noticed.
	Abandoned int64 `json:"abandoned"`
	// InFlight is the number of calls not yet answered. A call counts as answered, or failed, from just before its
	// answer is written, so that who has read an answer finds it counted; one that hangs has failed when it begins to.
	InFlight int64 `json:"in_flight"`
	// DuringOutage is how many of the calls asked met an outage.
	DuringOutage int64 `json:"during_outage"`
	// TokensIn and TokensOut sum up the usage of all completions and embeddings that were written whole, good or
	// bad, whether or not they state it.
	TokensIn  int64 `json:"tokens_in"`
	TokensOut int64 `json:"tokens_out"`
	// Kinds counts the answered and the failed calls by kind: KindOK, the other Kind constants, names of Failures.
	Kinds map[string]int64 `json:"kinds"`
}

// JobCount tells how often one job was asked for and how often it was answered OK.
type JobCount struct {
	Asked    int64 `json:"asked"`
	Answered int64 `json:"answered"`
}

// Counters returns a copy of the counters as they stand.
func (s *Simulator) Counters() Counters { return s.book.snapshot(true) }

// countersJSON is the document served by GET /_simulator/counters.
func (s *Simulator) countersJSON(jobs bool) ([]byte, error) {
	return json.Marshal(s.book.snapshot(jobs))
}

// book keeps the counters. Everything in it is changed under one lock, so that every snapshot adds up.
type book struct {
	maxJobs int

	mu        sync.Mutex
	regions   map[string]*page
	jobs      map[string]*JobCount
	untracked JobCount
	answered  int // distinct jobs
}

// page is one region's counters.
type page struct {
	all    *Tally
	models map[string]*Tally
}

func newBook(maxJobs int, regions []RegionConfig) *book {
	b := &book{maxJobs: maxJobs, regions: map[string]*page{}, jobs: map[string]*JobCount{}}
	for _, r := range regions {
		b.regions[r.Name] = &page{all: newTally(), models: map[string]*Tally{}}
	}
	return b
}

func newTally() *Tally { return &Tally{Kinds: map[string]int64{}} }

// maxModels bounds how many models a region counts apart: their names come from the callers.
const maxModels = 1000

// entry is one call's place in the book. A nil entry counts nothing.
type entry struct {
	book    *book
	page    *page
	tallies []*Tally // the region's and, once the model is known, the model's
	job     *JobCount
	tracked bool
	settled outcome
}

// outcome is how a call ended.
type outcome struct {
	kind    string
	ok      bool
	in, out int // tokens
}

// ask enters a call.
func (b *book) ask(region, job string) *entry {
	b.mu.Lock()
	defer b.mu.Unlock()
	page := b.regions[region]
	e := &entry{book: b, page: page, tallies: []*Tally{page.all}, job: &b.untracked}
	page.all.Asked++
	page.all.InFlight++
	if job != "" && b.maxJobs > 0 {
		count := b.jobs[job]
		if count == nil && len(b.jobs) < b.maxJobs {
			count = &JobCount{}
			b.jobs[job] = count
		}
		if count != nil {
			e.job, e.tracked = count, true
		}
	}
	e.job.Asked++
	return e
}

// name tells which model the call is for.
func (e *entry) name(model string) {
	if e == nil {
		return
	}
	e.book.mu.Lock()
	defer e.book.mu.Unlock()
	tally := e.page.models[model]
	if tally == nil {
		if len(e.page.models) >= maxModels {
			return
		}
		tally = newTally()
		e.page.models[model] = tally
	}
	tally.Asked++
	tally.InFlight++
	e.tallies = append(e.tallies, tally)
}

// strike notes that the call met an outage.
func (e *entry) strike() {
	if e == nil {
		return
	}
	e.book.mu.Lock()
	defer e.book.mu.Unlock()
	for _, t := range e.tallies {
		t.DuringOutage++
	}
}

// settle enters how the call ended.
func (e *entry) settle(o outcome) {
	if e == nil {
		return
	}
	e.book.mu.Lock()
	defer e.book.mu.Unlock()
	e.settled = o
	for _, t := range e.tallies {
		t.InFlight--
		t.add(o, 1)
	}
	if !o.ok {
		return
	}
	e.job.Answered++
	if !e.tracked || e.job.Answered == 1 {
		e.book.answered++
	}
}

// abandon takes back what settle entered, if it did: the client has gone.
func (e *entry) abandon() {
	if e == nil {
		return
	}
	e.book.mu.Lock()
	defer e.book.mu.Unlock()
	for _, t := range e.tallies {
		t.Abandoned++
		if e.settled.kind == "" {
			t.InFlight--
		} else {
			t.add(e.settled, -1)
		}
	}
	if !e.settled.ok {
		return
	}
	e.job.Answered--
	if !e.tracked || e.job.Answered == 0 {
		e.book.answered--
	}
}

func (t *Tally) add(o outcome, sign int64) {
	if o.ok {
		t.Answered += sign
	} else {
		t.Failed += sign
	}
	t.Kinds[o.kind] += sign
	if t.Kinds[o.kind] == 0 {
		delete(t.Kinds, o.kind)
	}
	t.TokensIn += sign * int64(o.in)
	t.TokensOut += sign * int64(o.out)
}

func (b *book) jobsAnswered() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.answered
}

func (b *book) snapshot(jobs bool) Counters {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := Counters{Total: *newTally(), Regions: map[string]RegionCounters{}, JobsAnswered: b.answered, Untracked: b.untracked}
	for name, page := range b.regions {
		region := RegionCounters{Tally: page.all.clone(), Models: map[string]Tally{}}
		for model, tally := range page.models {
			region.Models[model] = tally.clone()
		}
		c.Regions[name] = region
		c.Total.join(region.Tally)
	}
	if jobs {
		c.Jobs = make(map[string]JobCount, len(b.jobs))
		for id, count := range b.jobs {
			c.Jobs[id] = *count
		}
	}
	return c
}

func (t *Tally) clone() Tally {
	copied := *t
	copied.Kinds = maps.Clone(t.Kinds)
	return copied
}

func (t *Tally) join(other Tally) {
	t.Asked += other.Asked
	t.Answered += other.Answered
	t.Failed += other.Failed
	t.Abandoned += other.Abandoned
	t.InFlight += other.InFlight
	t.DuringOutage += other.DuringOutage
	t.TokensIn += other.TokensIn
	t.TokensOut += other.TokensOut
	for kind, n := range other.Kinds {
		t.Kinds[kind] += n
	}
}
