package webhooks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/forebay-queue/forebay/tasks/events"
)

const (
	// historyKept is how many attempts of a webhook are remembered, recentKept how many of a target.
	historyKept, recentKept = 50, 100
	// targetKept is how long a target is known that is not used.
	targetKept = 30 * 24 * time.Hour
)

// Limits are what attempts are held to. Every field is required.
type Limits struct {
	// PerTarget is how many attempts may be out to one target, PerTenant to all of a tenant's, in the whole fleet.
	PerTarget, PerTenant int
	// Lease is how long an attempt may be out: longer than it takes at most. Its permit expires by itself then.
	Lease time.Duration
	// Threshold is how many failures in a row open the breaker of a target.
	Threshold int
	// OpenFor is how long it is open at first; it doubles with each failed probe, up to OpenMost.
	OpenFor, OpenMost time.Duration
}

// Admission is what Admit answers.
type Admission struct {
	// Granted is the leave to make one attempt. Off says that the URL is off. Otherwise the attempt is to Wait, for Reason.
	Granted, Off bool
	Wait         time.Duration
	Reason       string
	// Busy says that it waits for no more than a permit, one of which is free once in a Slot.
	Busy bool
	Slot time.Duration
	// Probe tells that the attempt tests a target whose breaker is open.
	Probe bool

	token      string
	generation string
}

// Admit asks for leave to make an attempt. The token names the attempt, for this delivery alone. Whoever is granted one
// reports it, by Settle or Release; a permit expires by itself all the same. With a ticket, the wait of a refusal is that
// of all others who took one as well, one after the other.
func (s *Store) Admit(ctx context.Context, r *Record, token string, ticket bool, limits Limits) (Admission, error) {
	origin, err := Origin(r.To.URL)
	if err != nil {
		return Admission{}, fmt.Errorf("admit webhook %s: %w", r.ID, err)
	}
	target := digest(origin)
	words, err := s.run(ctx, "admit", r.ID, admitScript, []string{
		s.keys.WebhookTarget(r.Tenant, target), s.keys.WebhookTargetPermits(r.Tenant, target),
		s.keys.WebhookPermits(r.Tenant), s.keys.WebhookTargets(r.Tenant),
	}, token, target, digest(r.To.URL), origin, limits.PerTarget, limits.PerTenant, limits.Lease.Milliseconds(),
		targetKept.Milliseconds(), ticket)
	if err != nil {
		return Admission{}, err
	}
	switch words[0] {
	case "granted":
		return Admission{Granted: true, Probe: words[2] == "1", token: token, generation: words[1]}, nil
	case "off":
		return Admission{Off: true}, nil
	case "wait":
		wait, err := strconv.ParseInt(words[2], 10, 64)
		slot, problem := strconv.ParseInt(words[3], 10, 64)
		if err == nil && problem == nil {
			return Admission{
				Reason: words[1], Wait: time.Duration(wait) * time.Millisecond, Slot: time.Duration(slot) * time.Millisecond,
				Busy: words[1] == "target_busy" || words[1] == "tenant_busy",
			}, nil
		}
	}
	return Admission{}, fmt.Errorf("admit webhook %s: the script answered %q; versions of Forebay may be mixed", r.ID, words)
}

// Begin writes down that an attempt is about to be made, and returns its number, and how many there were in this cycle
// with it. ErrOpen says that one of another delivery is out, and the wait for how long at most; ErrEnded, ErrStale and
// ErrNotFound that none is to be made.
func (s *Store) Begin(ctx context.Context, r *Record, limits Limits) (wait time.Duration, err error) {
	words, err := s.run(ctx, "begin", r.ID, beginScript, []string{s.keys.Webhook(r.ID)}, r.Cycle, limits.Lease.Milliseconds(), historyKept)
	if errors.Is(err, ErrOpen) {
		ms, _ := strconv.ParseInt(words[1], 10, 64)
		return time.Duration(ms) * time.Millisecond, err
	}
	if err != nil {
		return 0, err
	}
	number, problem := strconv.Atoi(words[1])
	tries, problem2 := strconv.Atoi(words[2])
	if problem != nil || problem2 != nil {
		return 0, fmt.Errorf("begin webhook %s: the script answered %q; versions of Forebay may be mixed", r.ID, words)
	}
	r.Attempts, r.Tries, r.Waiting, r.NextAt = number, tries, "", time.Time{}
	return 0, nil
}

// Effect is what an attempt says of its target.
type Effect string

// The effects of attempts.
const (
	// TargetWell closes the breaker, TargetIll counts towards opening it, TargetUnknown does neither.
	TargetWell    Effect = "success"
	TargetIll     Effect = "failure"
	TargetUnknown Effect = "none"
)

// Next is what follows from an attempt.
type Next struct {
	// State is Pending, Delivered or Dead.
	State State
	// Reason is why it is dead, or what a pending one waits for.
	Reason string
	// Wait is for how long a pending one waits.
	Wait time.Duration
	// Free says that the attempt does not count as one of the cycle's.
	Free bool
	// Effect is what the attempt says of the target.
	Effect Effect
	// Rest is how long the target asked to be left alone; 0 is not.
	Rest time.Duration
	// Off switches the URL off.
	Off bool
}

// Settle writes down what came of an attempt that was begun, and what follows from it; gives its permit back; and tells
// the target's breaker. It may be repeated. It returns the state of the webhook that stands after it, which is another one
// than the next's where the attempt was late.
func (s *Store) Settle(ctx context.Context, r *Record, admission Admission, attempt Attempt, next Next, limits Limits) (State, error) {
	text, brief, err := s.texts(r.ID, attempt)
	if err != nil {
		return "", fmt.Errorf("settle webhook %s: %w", r.ID, err)
	}
	due, free := int64(0), 0
	if next.State == Pending {
		due = time.Now().Add(next.Wait).UnixMilli()
	}
	if next.Free {
		free = 1
	}
	words, err := s.run(ctx, "settle", r.ID, settleScript, []string{s.keys.Webhook(r.ID)}, attempt.Number, text,
		string(next.State), next.Reason, due, r.Keep.Milliseconds(), free)
	if err != nil {
		return "", err
	}
	if err := s.report(ctx, r, admission, brief, next, attempt.Latency, limits); err != nil {
		return "", err
	}
	r.State = State(words[1])
	if words[0] != "ok" || !r.State.Ended() {
		return r.State, nil
	}
	r.Reason, r.EndedAt = next.Reason, time.Now()
	if err := s.Index(ctx, r); err != nil || r.State != Dead {
		return r.State, err
	}
	return r.State, s.tellDead(ctx, r)
}

// texts are an attempt as its webhook's record holds it, and as the target's list of attempts does. What was answered may
// repeat the message, and with it a prompt or a result: it stands with the webhook, sealed where there is a key, and not in
// the list, which is of all jobs.
func (s *Store) texts(id string, attempt Attempt) (text, brief string, err error) {
	own, others := wire(attempt), wire(attempt)
	if own.Answer, err = s.sealer.Seal(s.keys.Webhook(id), fieldAnswer, attempt.Answer); err != nil {
		return "", "", err
	}
	others.Answer = ""
	encoded, err := json.Marshal(own)
	if err != nil {
		return "", "", err
	}
	short, err := json.Marshal(others)
	return string(encoded), string(short), err
}

// Release gives the permit of an attempt back that was not begun.
func (s *Store) Release(ctx context.Context, r *Record, admission Admission, limits Limits) error {
	return s.report(ctx, r, admission, "", Next{Effect: TargetUnknown}, -time.Millisecond, limits)
}

// report tells the target's slot.
func (s *Store) report(ctx context.Context, r *Record, admission Admission, text string, next Next, latency time.Duration, limits Limits) error {
	origin, err := Origin(r.To.URL)
	if err != nil {
		return fmt.Errorf("report webhook %s: %w", r.ID, err)
	}
	target, off := digest(origin), ""
	if next.Off {
		off = digest(r.To.URL)
	}
	if next.Effect == "" {
		next.Effect = TargetUnknown
	}
	words, err := s.run(ctx, "report", r.ID, reportScript, []string{
		s.keys.WebhookTarget(r.Tenant, target), s.keys.WebhookTargetPermits(r.Tenant, target),
		s.keys.WebhookPermits(r.Tenant), s.keys.WebhookTargetRecent(r.Tenant, target),
	}, admission.token, admission.generation, string(next.Effect), latency.Milliseconds(), limits.Threshold,
		limits.OpenFor.Milliseconds(), limits.OpenMost.Milliseconds(), next.Rest.Milliseconds(), off, text, recentKept,
		targetKept.Milliseconds())
	if err != nil {
		return err
	}
	return s.tellTarget(ctx, r, origin, words)
}

// tellTarget writes the events of what has changed with a target.
func (s *Store) tellTarget(ctx context.Context, r *Record, origin string, words [5]string) error {
	var problems []error
	if words[2] == "1" {
		problems = append(problems, events.Publish(ctx, s.redis, s.keys, "target.off", "tenant", r.Tenant, "target", origin, "webhook", r.ID))
	}
	if words[0] != "" {
		problems = append(problems, events.Publish(ctx, s.redis, s.keys, "target."+words[0], "tenant", r.Tenant, "target", origin, "for_ms", words[1]))
	}
	return errors.Join(problems...)
}

// wireAttempt is an attempt as Redis holds it.
type wireAttempt struct {
	Number    int    `json:"number"`
	AtMS      int64  `json:"at_ms"`
	Status    int    `json:"status,omitempty"`
	LatencyMS int64  `json:"latency_ms,omitempty"`
	Error     string `json:"error,omitempty"`
	Answer    string `json:"answer,omitempty"`
}

func wire(a Attempt) wireAttempt {
	return wireAttempt{a.Number, a.At.UnixMilli(), a.Status, a.Latency.Milliseconds(), a.Error, a.Answer}
}

func (a wireAttempt) attempt() Attempt {
	return Attempt{
		Number: a.Number, At: time.UnixMilli(a.AtMS).UTC(), Status: a.Status,
		Latency: time.Duration(a.LatencyMS) * time.Millisecond, Error: a.Error, Answer: a.Answer,
	}
}
