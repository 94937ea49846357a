// Package alerts keeps the alerts of a deployment in Redis: what is judged of it, and the messages that tell of it until
// each is delivered. One process judges and sends at a time, the leader of the schedulers; everybody may read.
//
// All of it lies in one slot, so that what has become of an alert and the message that says so are written together. A
// leader that was stopped and goes on cannot write: every script knows the last term. A message is sent once, but for a
// process that dies after its receiver has taken it and before that is noted: it is sent a second time then.
package alerts

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks/keyspace"
)

// Severity is how much an alert matters.
type Severity string

// The severities, the graver one last.
const (
	Warning  Severity = "warning"
	Critical Severity = "critical"
)

// The names of alerts.
const (
	BreakerOpen    = "breaker_open"
	TierDown       = "tier_down"
	BudgetNear     = "budget_near"
	BudgetSpent    = "budget_spent"
	DeadLetters    = "dead_letters"
	JobsWait       = "jobs_wait"
	NoWorker       = "no_worker"
	AccountRefused = "account_refused"
	// Test is that of `forebay alerts test`, which nothing is judged for.
	Test = "test"
)

// Kind is what is known of all alerts of a name.
type Kind struct {
	// Title is what people read.
	Title    string
	Severity Severity
	// For is how long the condition holds before the alert fires, by default.
	For time.Duration
	// Do says what somebody is to do.
	Do string
	// Runbook is the name of its page.
	Runbook string
}

// Kinds are the alerts that are judged.
var Kinds = map[string]Kind{
	BreakerOpen: {
		Title:    "Breaker open",
		Severity: Warning, For: 10 * time.Second, Runbook: "ForebayBreakerOpen",
		Do: "Its work goes to the other endpoints, and it is tried again by itself. See `forebay status` for the cause, and ask its provider.",
	},
	TierDown: {
		Title:    "Tier down",
		Severity: Critical, For: 10 * time.Second, Runbook: "ForebayNoEndpoint",
		Do: "Its jobs wait. See `forebay status` for the causes; add an endpoint, or another tier as fallback.",
	},
	BudgetNear: {
		Title:    "Budget nearly spent",
		Severity: Warning, Runbook: "ForebayBudgetNearlySpent",
		Do: "See `forebay cost` for who spends; raise the limit, or let it end.",
	},
	BudgetSpent: {
		Title:    "Budget spent",
		Severity: Critical, Runbook: "ForebayBudgetSpent",
		Do: "Jobs wait for the next day, go to a cheaper tier or fail, as budget.on_exhausted says. See `forebay cost`; raise the limit, or wait.",
	},
	DeadLetters: {
		Title:    "Dead letters grow",
		Severity: Warning, Runbook: "ForebayDeadJobs",
		Do: "See `forebay jobs list --status failed --group-by code` or `forebay webhooks list --state dead` for the reasons; retry them, or discard them.",
	},
	JobsWait: {
		Title:    "Jobs wait too long",
		Severity: Warning, For: time.Minute, Runbook: "ForebayJobsWait",
		Do: "See `forebay status` for what they wait for: a limit, a pause, or too few workers.",
	},
	NoWorker: {
		Title:    "No worker alive",
		Severity: Critical, For: time.Minute, Runbook: "ForebayNoWorkers",
		Do: "Jobs are accepted and nobody does them. Start one with `forebay worker`.",
	},
	AccountRefused: {
		Title:    "Account refused",
		Severity: Critical, Runbook: "ForebayKeyRefused",
		Do: "It does not mend itself. Look at the key and the balance with the provider, and change the key that the configuration names.",
	},
}

// runbooks is where the pages of the runbooks are.
const runbooks = "https://github.com/forebay-queue/forebay/blob/main/docs/runbooks/"

// Runbook is the address of the page that says what to do.
func (a Alert) Runbook() string {
	page := Kinds[a.Name].Runbook
	switch {
	case a.Name == DeadLetters && a.Subject == "webhooks":
		page = "ForebayDeadWebhooks"
	case a.Name == JobsWait && a.Subject == "critical":
		page = "ForebayCriticalJobsWait"
	case page == "":
		page = "README"
	}
	return runbooks + page + ".md"
}

// Names are those of Kinds, sorted.
func Names() []string {
	names := make([]string, 0, len(Kinds))
	for name := range Kinds {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Alert is one that fires, or that is over.
type Alert struct {
	Name string `json:"name"`
	// Subject is what it is about: an endpoint, a tier, a queue. Empty for the whole deployment.
	Subject  string   `json:"subject,omitempty"`
	Severity Severity `json:"severity"`
	// Since is when its condition began to hold.
	Since   time.Time `json:"since"`
	Summary string    `json:"summary"`
	// Until is when it was over; zero while it fires.
	Until time.Time `json:"until,omitzero"`
}

// Over tells that it does no longer fire.
func (a Alert) Over() bool { return !a.Until.IsZero() }

// Key tells alerts apart.
func (a Alert) Key() string { return a.Name + "/" + a.Subject }

// Firing reads the alerts that fire, the gravest and oldest first.
func Firing(ctx context.Context, client redis.UniversalClient, keys keyspace.Keyspace) ([]Alert, error) {
	fields, err := client.HGetAll(ctx, keys.Alerts()).Result()
	if err != nil {
		return nil, fmt.Errorf("read the alerts from Redis: %w", err)
	}
	found := []Alert{}
	for field, text := range fields {
		var state State
		if err := json.Unmarshal([]byte(text), &state); err != nil {
			return nil, fmt.Errorf("the alert %.80q in Redis cannot be read; versions of Forebay may be mixed: %w", field, err)
		}
		if state.Fires() {
			found = append(found, state.Alert)
		}
	}
	Sort(found)
	return found, nil
}

// Sort puts the gravest and oldest first.
func Sort(list []Alert) {
	slices.SortFunc(list, func(a, b Alert) int {
		if a.Severity != b.Severity {
			return strings.Compare(string(a.Severity), string(b.Severity)) // critical stands before warning
		}
		if !a.Since.Equal(b.Since) {
			return a.Since.Compare(b.Since)
		}
		return strings.Compare(a.Key(), b.Key())
	})
}

// State is how the judging of one alert stands.
type State struct {
	Alert
	// FiredAt is when it began to fire: zero while its condition holds, but not for long enough yet.
	FiredAt time.Time `json:"fired_at,omitzero"`
	// GoodSince is since when the condition holds no more; zero while it does.
	GoodSince time.Time `json:"good_since,omitzero"`
	// Event is the last event that was written, "firing" or "resolved".
	Event string `json:"event,omitempty"`
	// Told is what the channels were told last, "firing" or "resolved", ToldAt when, and Channels which were told that it
	// fires.
	Told     string    `json:"told,omitempty"`
	ToldAt   time.Time `json:"told_at,omitzero"`
	Channels []string  `json:"channels,omitempty"`
}

// What an event or a message says of an alert.
const (
	SaysFiring   = "firing"
	SaysResolved = "resolved"
)

// Fires tells whether it does: it is not pending, and not over.
func (s State) Fires() bool { return !s.FiredAt.IsZero() && s.Until.IsZero() }

// Message is what one channel is to be told.
type Message struct {
	// ID is unique, and the same on every try.
	ID string `json:"id"`
	// Channel is the name of the channel.
	Channel string    `json:"channel"`
	At      time.Time `json:"at"`
	// Reminder tells that it says nothing new.
	Reminder bool    `json:"reminder,omitempty"`
	Alerts   []Alert `json:"alerts"`
	// Tries is how often it was tried.
	Tries int `json:"-"`
	// RestsUntil is until when it is not tried.
	RestsUntil time.Time `json:"-"`
}
