package alerts

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/alerts"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/envelope"
	"github.com/forebay-queue/forebay/tasks/gate"
	"github.com/forebay-queue/forebay/tasks/jobstore"
)

const (
	// grownWithin is the time in which dead letters are new.
	grownWithin = time.Hour
	// sampleEvery is how often they are counted to compare with later.
	sampleEvery = time.Minute
	// nearPercent and spentPercent are of a day's limit. Few calls fit into the last percent.
	nearPercent, spentPercent = 80, 99
)

// conditions reads how a deployment stands.
type conditions struct {
	redis    redis.UniversalClient
	store    *jobstore.Store
	catalog  *catalog.Catalog
	settings alerts.Settings
	workers  func(ctx context.Context) (int, error)
	gate     *gate.Gate
	budget   *gate.Budget
}

// look reads all conditions. The error says which could not be read; the others are judged all the same. It returns the
// samples where there is a new one.
func (c *conditions) look(ctx context.Context, samples map[string][]alerts.Sample) (Seen, map[string][]alerts.Sample, error) {
	seen := Seen{At: time.Now(), Unknown: map[string]bool{}}
	var problems []error
	take := func(found []Finding, err error, names ...string) {
		if err != nil {
			problems = append(problems, err)
			for _, name := range names {
				seen.Unknown[name] = true
			}
			return
		}
		seen.Holding = append(seen.Holding, found...)
	}
	found, err := c.endpoints(ctx)
	take(found, err, alerts.BreakerOpen, alerts.TierDown, alerts.AccountRefused)
	found, err = c.budgets(ctx)
	take(found, err, alerts.BudgetNear, alerts.BudgetSpent)
	found, err = c.queues(ctx, seen.At)
	take(found, err, alerts.JobsWait)
	found, err = c.processes(ctx)
	take(found, err, alerts.NoWorker)
	found, fresh, err := c.dead(ctx, seen.At, samples)
	take(found, err, alerts.DeadLetters)
	return seen, fresh, errors.Join(problems...)
}

// endpoints finds breakers that are open, tiers without an endpoint and accounts that are refused. A breaker that is
// half-open has let a probe through, which closes nothing yet.
func (c *conditions) endpoints(ctx context.Context) ([]Finding, error) {
	var asked []gate.Endpoint
	for _, name := range slices.Sorted(maps.Keys(c.catalog.Endpoints)) {
		asked = append(asked, gate.Endpoint{Account: c.catalog.Endpoints[name].Account, Name: name})
	}
	states, err := c.gate.Endpoints(ctx, asked)
	if err != nil {
		return nil, err
	}
	var found []Finding
	open, refused := map[string]bool{}, map[string]bool{}
	for _, state := range states {
		if state.State == gate.StateClosed {
			continue
		}
		account, name := state.Endpoint.Account, state.Endpoint.Name
		open[name] = true
		switch tasks.Class(state.Cause) {
		case tasks.ClassAuth, tasks.ClassQuota:
			if !refused[account] {
				found = append(found, Finding{alerts.AccountRefused, account, refusal(account, state)})
			}
			refused[account] = true
		default:
			found = append(found, Finding{alerts.BreakerOpen, name, opening(state)})
		}
	}
	return append(found, c.tiers(open)...), nil
}

func refusal(account string, state gate.EndpointState) string {
	if tasks.Class(state.Cause) == tasks.ClassQuota {
		return fmt.Sprintf("The account %s has no quota or money left, says the endpoint %s.", account, state.Endpoint.Name)
	}
	return fmt.Sprintf("The key of the account %s is refused by the endpoint %s.", account, state.Endpoint.Name)
}

func opening(state gate.EndpointState) string {
	switch {
	case state.Cause != "":
		return fmt.Sprintf("The breaker of the endpoint %s is open: its calls end as %s.", state.Endpoint.Name, state.Cause)
	case state.Forced:
		return fmt.Sprintf("The breaker of the endpoint %s was opened by hand.", state.Endpoint.Name)
	}
	return fmt.Sprintf("The breaker of the endpoint %s is open.", state.Endpoint.Name)
}

// tiers finds those all of whose endpoints are open.
func (c *conditions) tiers(open map[string]bool) []Finding {
	var found []Finding
	for _, tier := range c.catalog.Tiers {
		count, down := 0, true
		for _, model := range tier.Models {
			for _, endpoint := range c.catalog.EndpointsFor(model) {
				count++
				down = down && open[endpoint.Name]
			}
		}
		if count > 0 && down {
			found = append(found, Finding{alerts.TierDown, tier.Name, fmt.Sprintf("All endpoints of the tier %s are down.", tier.Name)})
		}
	}
	return found
}

// budgets finds limits of the day that are nearly spent, and those that are: by what was spent, and by a call that had no
// room.
func (c *conditions) budgets(ctx context.Context) ([]Finding, error) {
	day := c.budget.Today().Name
	states, err := c.budget.Scopes(ctx, day)
	if err != nil {
		return nil, err
	}
	var found []Finding
	for _, state := range states {
		if !state.Limited || state.Limit <= 0 {
			continue
		}
		percent := 100 * float64(state.Spent) / float64(state.Limit)
		spent := fmt.Sprintf("%.2f of %.2f US dollars (%.0f %%) are spent today by %s.", gate.USD(state.Spent), gate.USD(state.Limit), percent, state.Scope)
		if percent >= nearPercent {
			found = append(found, Finding{alerts.BudgetNear, string(state.Scope), spent})
		}
		if percent >= spentPercent || state.Refused && percent >= nearPercent {
			found = append(found, Finding{alerts.BudgetSpent, string(state.Scope), spent})
		}
	}
	return found, nil
}

// queues finds those whose oldest job has waited longer than it may.
func (c *conditions) queues(ctx context.Context, now time.Time) ([]Finding, error) {
	backlogs, err := envelope.QueueBacklogs(ctx, c.redis, c.store.Keys())
	if err != nil {
		return nil, err
	}
	var found []Finding
	for _, name := range slices.Sorted(maps.Keys(backlogs)) {
		oldest, target := backlogs[name].OldestAt, c.settings.Oldest[name]
		if target > 0 && !oldest.IsZero() && now.Sub(oldest) > target {
			found = append(found, Finding{alerts.JobsWait, name, fmt.Sprintf("The oldest job of the queue %s has waited for %s; its target is %s.",
				name, now.Sub(oldest).Round(time.Second), catalog.FormatDuration(target))})
		}
	}
	return found, nil
}

func (c *conditions) processes(ctx context.Context) ([]Finding, error) {
	count, err := c.workers(ctx)
	if err != nil || count > 0 {
		return nil, err
	}
	return []Finding{{alerts.NoWorker, "", "No worker is alive."}}, nil
}

// dead finds the kinds of dead letters that have grown by more than they may within an hour.
func (c *conditions) dead(ctx context.Context, now time.Time, samples map[string][]alerts.Sample) ([]Finding, map[string][]alerts.Sample, error) {
	var found []Finding
	fresh, isFresh := map[string][]alerts.Sample{}, false
	for _, kind := range []string{"jobs", "webhooks"} {
		count := c.store.Dead
		if kind == "webhooks" {
			count = c.store.DeadWebhooks
		}
		dead, err := count(ctx)
		if err != nil {
			return nil, nil, err
		}
		recent, fewest := []alerts.Sample{}, dead.Count
		for _, sample := range samples[kind] {
			if now.Sub(sample.At) <= grownWithin {
				recent, fewest = append(recent, sample), min(fewest, sample.Count)
			}
		}
		if len(recent) == 0 || now.Sub(recent[len(recent)-1].At) >= sampleEvery {
			recent, isFresh = append(recent, alerts.Sample{At: now.UTC(), Count: dead.Count}), true
		}
		fresh[kind] = recent
		if grown := dead.Count - fewest; grown > c.settings.Grown[kind] {
			found = append(found, Finding{alerts.DeadLetters, kind, fmt.Sprintf("%d %s have become dead letters within an hour; there are %d.", grown, kind, dead.Count)})
		}
	}
	if !isFresh {
		fresh = nil
	}
	return found, fresh, nil
}
