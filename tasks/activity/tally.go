package activity

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/forebay-queue/forebay/tasks"
)

// tally is the counts of some hashes, added up.
type tally struct {
	sums             Point
	calls, jobs      Histogram
	taskTypes, tiers map[string]*Kind
	endpoints        map[string]*tallied
	codes            map[string]int64
	// cost and dearest are in billionths of a dollar: what is added stays exact.
	cost, dearest           int64
	taskTypeCost, tierCosts map[string]int64
}

type tallied struct {
	Endpoint
	calls Histogram
}

func newTally() *tally {
	return &tally{
		calls: Histogram{}, jobs: Histogram{}, taskTypes: map[string]*Kind{}, tiers: map[string]*Kind{}, endpoints: map[string]*tallied{},
		codes: map[string]int64{}, taskTypeCost: map[string]int64{}, tierCosts: map[string]int64{},
	}
}

// read adds the fields of a hash.
func (t *tally) read(hash map[string]string) {
	for name, text := range hash {
		word, rest, _ := strings.Cut(name, "|")
		count := number(text)
		switch word {
		case wordAccepted:
			t.sums.Accepted += count
		case wordEnded:
			p := parts(rest, 3)
			t.sums.ended(p[0], count)
			t.kind(t.taskTypes, p[1]).ended(p[0], count)
			t.kind(t.tiers, p[2]).ended(p[0], count)
		case wordCode:
			t.codes[rest] += count
		case wordRetried:
			t.sums.Retried += count
		case wordAttempt:
			p := parts(rest, 3)
			t.attempted(p[0], p[2], count)
		case wordTokens:
			t.sums.Tokens += count
		case wordCost:
			p := parts(rest, 3)
			t.cost += count
			t.taskTypeCost[p[0]] += count
			t.tierCosts[p[1]] += count
		case wordDearest:
			t.dearest += count
		case wordCall:
			p := parts(rest, 2)
			at, err := strconv.Atoi(p[1])
			if err == nil {
				t.calls[at] += count
				t.endpoint(p[0]).calls[at] += count
			}
		case wordJob:
			if at, err := strconv.Atoi(rest); err == nil {
				t.jobs[at] += count
			}
		}
	}
}

func (t *tally) kind(of map[string]*Kind, name string) *Kind {
	if of[name] == nil {
		of[name] = &Kind{Name: name}
	}
	return of[name]
}

func (t *tally) endpoint(name string) *tallied {
	if t.endpoints[name] == nil {
		t.endpoints[name] = &tallied{Endpoint: Endpoint{Name: name, Classes: map[string]int64{}}, calls: Histogram{}}
	}
	return t.endpoints[name]
}

func (t *tally) attempted(endpoint, class string, count int64) {
	e := t.endpoint(endpoint)
	e.Attempts += count
	e.Classes[class] += count
	t.sums.Attempts += count
	if failed(class) {
		e.Failed += count
		t.sums.AttemptsFailed += count
	}
	if class == string(tasks.ClassThrottled) {
		t.sums.Throttled += count
	}
}

func (p *Point) ended(status string, count int64) {
	switch tasks.Status(status) {
	case tasks.StatusSucceeded:
		p.Succeeded += count
	case tasks.StatusFailed:
		p.Failed += count
	case tasks.StatusCancelled:
		p.Cancelled += count
	case tasks.StatusExpired:
		p.Expired += count
	case tasks.StatusQueued, tasks.StatusRunning, tasks.StatusRetrying:
	}
}

func (k *Kind) ended(status string, count int64) {
	sums := Point{}
	sums.ended(status, count)
	k.Succeeded += sums.Succeeded
	k.Failed += sums.Failed
	k.Cancelled += sums.Cancelled
	k.Expired += sums.Expired
}

// add adds another tally.
func (t *tally) add(other *tally) {
	s, o := &t.sums, other.sums
	s.Accepted, s.Retried = s.Accepted+o.Accepted, s.Retried+o.Retried
	s.Tokens += o.Tokens
	t.cost, t.dearest = t.cost+other.cost, t.dearest+other.dearest
	t.calls.add(other.calls)
	t.jobs.add(other.jobs)
	for _, pair := range []struct{ to, from map[string]*Kind }{{t.taskTypes, other.taskTypes}, {t.tiers, other.tiers}} {
		for name, from := range pair.from {
			to := t.kind(pair.to, name)
			to.Succeeded, to.Failed = to.Succeeded+from.Succeeded, to.Failed+from.Failed
			to.Cancelled, to.Expired = to.Cancelled+from.Cancelled, to.Expired+from.Expired
		}
	}
	for _, pair := range []struct{ to, from map[string]int64 }{
		{t.codes, other.codes}, {t.taskTypeCost, other.taskTypeCost}, {t.tierCosts, other.tierCosts},
	} {
		for name, count := range pair.from {
			pair.to[name] += count
		}
	}
	for name, from := range other.endpoints {
		t.endpoint(name).calls.add(from.calls)
		for class, count := range from.Classes {
			t.attempted(name, class, count)
		}
	}
}

func usd(nanos int64) float64 { return float64(nanos) / 1e9 }

// point is the tally as one step.
func (t *tally) point(at time.Time) Point {
	p := t.sums
	p.At, p.CostUSD, p.DearestUSD = at, usd(t.cost), usd(t.dearest)
	p.CallP50MS, p.CallP95MS = t.calls.Quantile(0.5), t.calls.Quantile(0.95)
	p.JobP50MS, p.JobP95MS = t.jobs.Quantile(0.5), t.jobs.Quantile(0.95)
	return p
}

// fill writes what the whole window has into its report.
func (t *tally) fill(report *Report) {
	report.CostUSD, report.DearestUSD = usd(t.cost), usd(t.dearest)
	report.TaskTypes, report.Tiers = kinds(t.taskTypes, t.taskTypeCost), kinds(t.tiers, t.tierCosts)
	report.Endpoints, report.Codes = []Endpoint{}, []Code{}
	for _, name := range slices.Sorted(maps.Keys(t.endpoints)) {
		e := t.endpoints[name]
		e.P50MS, e.P95MS = e.calls.Quantile(0.5), e.calls.Quantile(0.95)
		report.Endpoints = append(report.Endpoints, e.Endpoint)
	}
	for code, count := range t.codes {
		report.Codes = append(report.Codes, Code{code, count})
	}
	slices.SortFunc(report.Codes, func(a, b Code) int { return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Code, b.Code)) })
}

// kinds are those that jobs ended of or money was spent on, by name.
func kinds(ended map[string]*Kind, costs map[string]int64) []Kind {
	names := maps.Clone(costs)
	for name := range ended {
		names[name] = costs[name]
	}
	list := []Kind{}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		kind := Kind{Name: name}
		if ended[name] != nil {
			kind = *ended[name]
		}
		kind.CostUSD = usd(costs[name])
		if judged := kind.Succeeded + kind.Failed + kind.Expired; judged > 0 {
			kind.SuccessRate = new(float64(kind.Succeeded) / float64(judged))
		}
		list = append(list, kind)
	}
	return list
}
