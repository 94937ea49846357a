package tasks

import "time"

// WebhookStatus is how a webhook stands, which is one message about one event on its way to one target.
type WebhookStatus struct {
	// ID is the message's, which is the header webhook-id of every attempt.
	ID     string `json:"id"`
	Event  string `json:"event"`
	Tenant string `json:"tenant,omitempty"`
	URL    string `json:"url"`
	// Secret names the secret that it is signed with.
	Secret string `json:"secret,omitempty"`
	// Job and Run, or Batch, are what it tells of; a test has neither.
	Job   string `json:"job,omitempty"`
	Run   int    `json:"run,omitempty"`
	Batch string `json:"batch,omitempty"`
	// State is pending, delivered, dead or discarded, and Reason why it is dead or was discarded.
	State  string `json:"state"`
	Reason string `json:"reason,omitempty"`
	// Attempts counts those of all cycles; a redelivery begins the next cycle.
	Attempts int `json:"attempts"`
	Cycle    int `json:"cycle"`
	// Waiting is what a pending one waits for, and NextAt until when.
	Waiting string     `json:"waiting,omitempty"`
	NextAt  *time.Time `json:"next_at,omitempty"`
	// At is when happened what it tells of, EndedAt when it was delivered, died or was discarded.
	At      *time.Time `json:"at,omitempty"`
	EndedAt *time.Time `json:"ended_at,omitempty"`
	// Last is the last attempt; History the last 50, the oldest first, where one webhook is shown.
	Last    *WebhookAttempt  `json:"last,omitempty"`
	History []WebhookAttempt `json:"history,omitempty"`
}

// WebhookAttempt is one POST of a webhook.
type WebhookAttempt struct {
	// Number counts from 1.
	Number int       `json:"number"`
	At     time.Time `json:"at"`
	// Status is HTTP's; 0 is no answer.
	Status    int   `json:"status,omitempty"`
	LatencyMS int64 `json:"latency_ms"`
	// Error is the word for what went wrong, empty after a success. "open" is an attempt that is out, "unknown" one of which
	// nobody knows what came.
	Error string `json:"error,omitempty"`
	// Answer is the first bytes of the answer, up to 512.
	Answer string `json:"answer,omitempty"`
}
