package command

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/jobstore"
)

// mostWaits is how many jobs are asked what they wait for.
const mostWaits = 4096

// waitsStatus says what open jobs wait for.
type waitsStatus struct {
	// Open is how many jobs have not ended, Looked how many of them were looked at, evenly.
	Open   int         `json:"open"`
	Looked int         `json:"looked_at"`
	For    []waitGroup `json:"for"`
}

// waitGroup is the jobs that wait for the same.
type waitGroup struct {
	Reason string      `json:"reason"`
	Limit  string      `json:"limit,omitempty"`
	Route  string      `json:"route,omitempty"`
	Cause  tasks.Class `json:"cause,omitempty"`
	Jobs   int         `json:"jobs"`
	// Next is when the first of them can go on, Last when the last can.
	Next time.Time `json:"next"`
	Last time.Time `json:"last"`
}

func readWaits(ctx context.Context, client redis.UniversalClient, prefix string) (waitsStatus, error) {
	store, err := jobstore.New(jobstore.Config{Redis: client, Prefix: prefix})
	if err != nil {
		return waitsStatus{}, err
	}
	defer func() { _ = store.Close() }()
	waits, looked, open, err := store.Waits(ctx, mostWaits)
	if err != nil {
		return waitsStatus{}, err
	}
	groups := map[waitGroup]*waitGroup{}
	for _, wait := range waits {
		w := wait.Waiting
		same := waitGroup{Reason: w.Reason, Limit: w.Limit, Route: w.Route, Cause: w.Cause}
		group := groups[same]
		if group == nil {
			group = new(same)
			group.Next, group.Last = w.Until, w.Until
			groups[same] = group
		}
		group.Jobs++
		if w.Until.Before(group.Next) {
			group.Next = w.Until
		}
		if w.Until.After(group.Last) {
			group.Last = w.Until
		}
	}
	status := waitsStatus{Open: open, Looked: looked, For: []waitGroup{}}
	for _, group := range slices.SortedFunc(maps.Values(groups), func(a, b *waitGroup) int {
		return cmp.Or(b.Jobs-a.Jobs, cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Route, b.Route))
	}) {
		status.For = append(status.For, *group)
	}
	return status, nil
}

func printWaits(out io.Writer, waits waitsStatus, now time.Time) error {
	if len(waits.For) == 0 {
		return nil
	}
	fmt.Fprintln(out)
	list := table(out)
	row(list, "WAITING FOR", "JOBS", "NEXT", "LAST")
	for _, group := range waits.For {
		what := waiting(&tasks.Waiting{Reason: group.Reason, Limit: group.Limit, Route: group.Route, Cause: group.Cause}, now)
		row(list, what, group.Jobs, clock(group.Next, now), clock(group.Last, now))
	}
	if err := list.Flush(); err != nil {
		return err
	}
	if waits.Looked < waits.Open {
		_, err := fmt.Fprintf(out, "%d of %d open jobs were looked at.\n", waits.Looked, waits.Open)
		return err
	}
	return nil
}
