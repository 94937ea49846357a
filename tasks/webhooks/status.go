package webhooks

import (
	"cmp"
	"time"

	"github.com/forebay-queue/forebay/tasks"
)

// Status is the record as its tenant, and operators, are shown it.
func (r *Record) Status() tasks.WebhookStatus {
	status := tasks.WebhookStatus{
		ID: r.ID, Event: r.Event, Tenant: r.Tenant, URL: r.To.URL, Secret: cmp.Or(r.To.Secret, tasks.DefaultSecret),
		Job: r.Job, Run: r.Run, Batch: r.Batch, State: string(r.State), Reason: r.Reason, Attempts: r.Attempts, Cycle: r.Cycle,
		Waiting: r.Waiting, NextAt: moment(r.NextAt), At: moment(r.At), EndedAt: moment(r.EndedAt),
	}
	for _, attempt := range r.History {
		status.History = append(status.History, attempt.shown())
	}
	if len(status.History) > 0 {
		status.Last = &status.History[len(status.History)-1]
	}
	return status
}

// Brief is Status for a list: without the history, and without what was answered, which may repeat the message.
func (r *Record) Brief() tasks.WebhookStatus {
	status := r.Status()
	status.History = nil
	if status.Last != nil {
		last := *status.Last
		last.Answer = ""
		status.Last = &last
	}
	return status
}

func (a Attempt) shown() tasks.WebhookAttempt {
	return tasks.WebhookAttempt{
		Number: a.Number, At: a.At, Status: a.Status, LatencyMS: a.Latency.Milliseconds(), Error: a.Error, Answer: a.Answer,
	}
}

// TargetStatus is how a target stands as it is shown.
type TargetStatus struct {
	// Origin is its scheme, host and port.
	Origin string `json:"origin" doc:"Its scheme, host and port"`
	// Breaker is closed or open; while it is open nothing is sent until Until, and then one probe.
	Breaker string     `json:"breaker" enum:"closed,open" doc:"open: nothing is sent until the time in until, and then one attempt to try it"`
	Until   *time.Time `json:"until,omitempty" doc:"Until when its breaker is open"`
	// RestsUntil is until when it asked to be left alone.
	RestsUntil *time.Time `json:"rests_until,omitempty" doc:"Until when it asked to be left alone, by Retry-After"`
	// Failures is how many came in a row.
	Failures int `json:"failures" doc:"How many attempts failed in a row"`
	// LatencyMS is the smoothed one of its successes.
	LatencyMS int64 `json:"latency_ms" doc:"How long it takes to answer, smoothed"`
	// Delivered and Failed count attempts, Out those that are out.
	Delivered int64 `json:"delivered" doc:"Attempts that it took"`
	Failed    int64 `json:"failed" doc:"Attempts that failed"`
	Out       int64 `json:"out" doc:"Attempts that are out"`
	// Off is how many of its URLs are off.
	Off int `json:"off" doc:"How many of its URLs are off, since they answered 410"`
	// Recent is its last attempts, the newest first.
	Recent []tasks.WebhookAttempt `json:"recent,omitempty" doc:"Its last attempts, up to 100, the newest first"`
}

// Status is the target as its tenant, and operators, are shown it.
func (t Target) Status() TargetStatus {
	status := TargetStatus{
		Origin: t.Origin, Breaker: "closed", RestsUntil: moment(t.RestsUntil), Failures: t.Failures,
		LatencyMS: t.Latency.Milliseconds(), Delivered: t.Delivered, Failed: t.Failed, Out: t.Out, Off: t.Off,
	}
	if t.Open {
		status.Breaker, status.Until = "open", moment(t.Until)
	}
	for _, attempt := range t.Recent {
		status.Recent = append(status.Recent, attempt.shown())
	}
	return status
}

func moment(at time.Time) *time.Time {
	if at.IsZero() {
		return nil
	}
	at = at.UTC()
	return &at
}
