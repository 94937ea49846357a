package jobstore

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/forebay-queue/forebay/tasks"
)

// maxGrouped is how many records one Group looks at.
const maxGrouped = 1_000_000

// Groups are the jobs that a filter means, counted.
type Groups struct {
	// By is what they were grouped by.
	By string `json:"group_by"`
	// Groups are the largest first.
	Groups []GroupRow `json:"groups"`
	// Looked is how many records were looked at. Partial tells that there are more, which were not counted.
	Looked  int  `json:"looked,omitempty"`
	Partial bool `json:"partial,omitempty"`
}

// GroupRow is one group of jobs.
type GroupRow struct {
	// Key is what they have in common; empty for those that have none, such as jobs without a task type or an error.
	Key  string `json:"key"`
	Jobs int    `json:"jobs"`
	// Example is the first of them in the order of a list, and Latest its end, or its acceptance while it is open.
	Example string     `json:"example"`
	Latest  *time.Time `json:"latest,omitempty"`
}

// groupings are what jobs can be grouped by.
var groupings = []struct {
	name string
	key  func(*Row) string
}{
	{"status", func(r *Row) string { return string(r.Status) }},
	{"code", (*Row).Code},
	{"task_type", func(r *Row) string { return r.TaskType }},
	{"tenant", func(r *Row) string { return r.Tenant }},
	{"model", func(r *Row) string { return r.Model }},
	{"day", func(r *Row) string {
		if at := r.at(); at != nil {
			return at.UTC().Format(time.DateOnly)
		}
		return ""
	}},
}

// Groupings are what Group can group by.
func Groupings() []string {
	names := make([]string, len(groupings))
	for i, g := range groupings {
		names[i] = g.name
	}
	return names
}

// Group counts the jobs that a filter means by their status, the code of their error, their task type, tenant, model (of
// the last call), or day (UTC; of the end, or of the acceptance while open). It looks at up to a million records, some
// tens of thousands a second. What is asked for wrongly is a *tasks.FieldError.
func (s *Store) Group(ctx context.Context, filter Filter, by string) (Groups, error) {
	known := slices.Index(Groupings(), by)
	if known < 0 {
		return Groups{}, &tasks.FieldError{Field: "group_by", Problem: fmt.Sprintf("cannot be %.40q; it is one of %s", by, names(Groupings()))}
	}
	search, err := s.newSearch(filter)
	if err != nil {
		return Groups{}, err
	}
	answer := Groups{By: by, Groups: []GroupRow{}}
	places := map[string]int{}
	search.from(place{stage: search.stages[0], score: beginning}, mostRead)
	for !search.done() && answer.Looked < maxGrouped {
		batch, err := search.next(ctx)
		if err != nil {
			return Groups{}, err
		}
		if by == "model" {
			if err := s.readLedgers(ctx, batch.found); err != nil {
				return Groups{}, err
			}
		}
		answer.Looked += batch.looked
		for i := range batch.found {
			answer.add(groupings[known].key(&batch.found[i].Row), &batch.found[i].Row, places)
		}
	}
	answer.Partial = !search.done()
	slices.SortStableFunc(answer.Groups, func(a, b GroupRow) int {
		return cmp.Or(cmp.Compare(b.Jobs, a.Jobs), cmp.Compare(a.Key, b.Key))
	})
	return answer, nil
}

func (g *Groups) add(key string, row *Row, places map[string]int) {
	at, known := places[key]
	if !known {
		at = len(g.Groups)
		places[key] = at
		g.Groups = append(g.Groups, GroupRow{Key: key, Example: row.ID, Latest: row.at()})
	}
	g.Groups[at].Jobs++
}
