package jobstore

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/forebay-queue/forebay/tasks"
)

// Result is the record as the job's user reads it. CostUSD is the sum of the ledger, over all runs. A response that
// is no JSON stands in it as a JSON string.
func (r *Record) Result() tasks.Result {
	var result tasks.Result
	if r.result != nil {
		result = *r.result
	}
	r.describe(&result)
	result.Status = r.Status
	result.FinishedAt = timeOrNil(r.FinishedAt)
	result.Waiting = r.Waiting
	result.Attempts = slices.Clone(r.Attempts)
	result.CostUSD = costOf(r.Attempts)
	if !r.Status.Ended() {
		result.Error = r.LastError
	}
	if len(r.Response) > 0 {
		result.Response = r.Response
		if !json.Valid(r.Response) {
			result.Response, _ = tasks.Encode(string(r.Response)) // a string always encodes
		}
	}
	return result
}

// Outcome begins the result of a commit: everything that the record knows, and the cost of its ledger together with
// the given attempts, those that were begun or ended since the record was read. The caller adds what the answer
// brought: model, endpoint, text, usage, or the error. The attempts are for whoever is told of the end; what is written has none,
// since they stand in the ledger.
func (r *Record) Outcome(status tasks.Status, finishedAt time.Time, attempts ...tasks.Attempt) tasks.Result {
	ledger := slices.Clone(r.Attempts)
	for _, attempt := range attempts {
		known := slices.IndexFunc(ledger, func(a tasks.Attempt) bool { return a.Seq == attempt.Seq })
		if known >= 0 {
			ledger[known] = attempt
		} else {
			ledger = append(ledger, attempt)
		}
	}
	result := tasks.Result{Status: status, Attempts: ledger, CostUSD: costOf(ledger), FinishedAt: millisecondsOf(&finishedAt)}
	r.describe(&result)
	return result
}

// Open are the attempts without an end that other deliveries than the given one have begun.
func (r *Record) Open(delivery string) []tasks.Attempt {
	var open []tasks.Attempt
	for _, attempt := range r.Attempts {
		if !attempt.Ended && attempt.Delivery != delivery {
			open = append(open, attempt)
		}
	}
	return open
}

func (r *Record) describe(result *tasks.Result) {
	result.ID, result.Run = r.ID, r.Run
	result.TaskType, result.Tenant = r.TaskType, r.Tenant
	result.Retries = r.Failures
	if member := r.Job.Member; member != nil {
		result.Batch = member.Batch
	}
	result.Metadata = r.Job.Metadata
	result.CreatedAt = timeOrNil(r.CreatedAt)
	result.StartedAt = timeOrNil(r.StartedAt)
}

func costOf(attempts []tasks.Attempt) float64 {
	var sum float64
	for _, attempt := range attempts {
		sum += attempt.CostUSD
	}
	return sum
}

func timeOrNil(at time.Time) *time.Time {
	if at.IsZero() {
		return nil
	}
	return &at
}
