package webhooks

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

var (
	// ErrNotFound says that there is no such webhook, or none of this tenant.
	ErrNotFound = errors.New("there is no such webhook")
	// ErrEnded says that a webhook is not pending any more.
	ErrEnded = errors.New("the webhook has ended")
	// ErrStale says that a webhook was begun anew since.
	ErrStale = errors.New("the webhook was begun anew since")
	// ErrOpen says that an attempt of the webhook is out.
	ErrOpen = errors.New("an attempt of the webhook is out")
	// ErrUnknownTarget says that no attempt was ever made at a target.
	ErrUnknownTarget = errors.New("there is no such target")
	// ErrCursor says that a list cannot go on behind what was given.
	ErrCursor = errors.New("the place to go on is none that this list gave")
)

// State is how a webhook stands.
type State string

// The states of a webhook.
const (
	// Pending webhooks are on their way.
	Pending State = "pending"
	// Delivered ones were answered with a status of 200 to 299.
	Delivered State = "delivered"
	// Dead ones are given up, and stay until somebody decides.
	Dead State = "dead"
	// Discarded ones were given up by somebody.
	Discarded State = "discarded"
)

// Ended tells that a webhook is not on its way any more.
func (s State) Ended() bool { return s != Pending }

// list is the part of the key of the list in which a webhook of this state stands.
func (s State) list() string {
	if s == Delivered || s == Discarded {
		return "ended"
	}
	return string(s)
}

// The reasons for which a webhook is dead or was discarded.
const (
	// ReasonExhausted: every attempt of its schedule failed.
	ReasonExhausted = "attempts_exhausted"
	// ReasonExpired: it waited for too long.
	ReasonExpired = "expired"
	// ReasonRefused: its target is none that a request may go to.
	ReasonRefused = "refused"
	// ReasonGone: the target answered 410, and its URL is off.
	ReasonGone = "gone"
	// ReasonTargetOff: the target's URL is off, because it answered 410 to another webhook.
	ReasonTargetOff = "target_off"
	// ReasonNoContent: what it is about is known no longer.
	ReasonNoContent = "content_gone"
	// ReasonDiscarded: somebody discarded it.
	ReasonDiscarded = "discarded"
)

// The words that stand for what became of attempts that have no status.
const (
	// ErrorOpen is an attempt that is out.
	ErrorOpen = "open"
	// ErrorUnknown is an attempt of which nobody knows what came: its worker died. It may have arrived.
	ErrorUnknown = "unknown"
)

// Webhook is what a webhook is about and where it goes. It does not change.
type Webhook struct {
	// ID is the same on every attempt: see ID, the function.
	ID string
	// Event is such as job.succeeded.
	Event  string
	Tenant string
	// To is where it goes.
	To tasks.Webhook
	// Job and Run are the job's that it is about, Batch the batch's.
	Job   string
	Run   int
	Batch string
	// At is when it happened.
	At time.Time
	// Keep is how long the record is kept after it was delivered, or discarded. Defaults to 24h.
	Keep time.Duration
	// Trace is the trace that its attempts belong to.
	Trace tasks.TraceContext
}

// Record is a webhook and what has become of it.
type Record struct {
	Webhook

	State State
	// Shard is that of the queue, from the webhook's creation on.
	Shard keyspace.Shard
	// Reason is why it is dead or was discarded.
	Reason string
	// Cycle counts from 1 how often its schedule was begun, Since is when it was last.
	Cycle int
	Since time.Time
	// Attempts is how many were made in all, Tries how many count in this cycle.
	Attempts, Tries int
	// Waiting is what a pending webhook waits for, NextAt until when; empty and zero when it waits for nothing.
	Waiting string
	NextAt  time.Time
	// OpenUntil is until when an attempt may be out; zero when none is.
	OpenUntil time.Time
	// EndedAt is when it was delivered, died or was discarded; zero while it is pending.
	EndedAt time.Time
	// History is its last attempts, the oldest first.
	History []Attempt
}

// Attempt is one POST of a webhook.
type Attempt struct {
	// Number counts from 1.
	Number int
	At     time.Time
	// Status is the HTTP status of the answer; 0 is none.
	Status int
	// Latency is the time until the answer was read, or there was none.
	Latency time.Duration
	// Error is the word for what went wrong; empty after a success.
	Error string
	// Answer is the first 512 bytes of the answer.
	Answer string
}

// ID makes the id of a webhook from what it is about. It is always the same for the same parts, so that a webhook may be
// created again.
func ID(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return "msg_" + hex.EncodeToString(sum[:16])
}

// Origin is the scheme, host and port of a URL, which are what a target is.
func Origin(address string) (string, error) {
	parsed, err := url.Parse(address)
	if err != nil || parsed.Hostname() == "" {
		return "", errors.New("the URL of the webhook cannot be read") // it may hold a secret: it is not repeated
	}
	host, port := strings.ToLower(parsed.Hostname()), parsed.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[parsed.Scheme]
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return parsed.Scheme + "://" + host + ":" + port, nil
}

// Host is the host of a URL, for people.
func Host(address string) string {
	parsed, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return strings.ToLower(parsed.Hostname())
}

// digest is what stands for a target or a URL in keys.
func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:12])
}

func (w Webhook) validate() error {
	var problems []error
	if !tasks.ValidID(w.ID) {
		problems = append(problems, fmt.Errorf("its id %.80q is not valid", w.ID))
	}
	if !tasks.ValidName(w.Event) || !tasks.ValidName(w.Tenant) {
		problems = append(problems, fmt.Errorf("its event %.80q or its tenant %.80q is not valid", w.Event, w.Tenant))
	}
	if _, err := Origin(w.To.URL); err != nil {
		problems = append(problems, err)
	}
	if w.At.IsZero() || w.Keep < 0 {
		problems = append(problems, errors.New("the time of its event is missing, or it is to be kept for a negative time"))
	}
	return errors.Join(problems...)
}
