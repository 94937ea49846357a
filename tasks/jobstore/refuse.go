package jobstore

import (
	"context"
	"fmt"
	"time"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/batches"
)

// Refusal is a job that was refused after its sender had gone, as in the inbox. Its sender finds it under the job's
// id, as failed.
type Refusal struct {
	// What names the refused thing, such as an entry of a stream: refusing it again changes nothing.
	What string
	// Job is what is known of the job. Its id must be valid; input and request are not kept.
	Job tasks.Job
	// Failure says why.
	Failure tasks.Failure
	// Retention is how long the record is kept. Defaults to DefaultRetention: it is no dead letter, since there is
	// nothing that could be run again.
	Retention time.Duration
}

// Refuse writes the record of a refused job, already ended as failed, and tells everybody who waits for it. It reports
// false where the id belongs to a record of another kind, which is left as it stands. A refused job is none: one that is
// accepted under its id later takes its place.
func (s *Store) Refuse(ctx context.Context, refusal Refusal) (bool, error) {
	c, now, err := s.refuseCall(refusal)
	if err != nil {
		return false, err
	}
	r, err := s.run(ctx, c)
	switch {
	case err != nil:
		return false, err
	case r.word == "taken":
		return false, nil
	case r.word != "refused":
		return false, refused(c.verb, c.id, r.word)
	}
	if refusal.Job.Webhook != nil || refusal.Job.ReplyStream != "" {
		return true, s.conclude(ctx, c.id, tasks.TraceContext{})
	}
	pipe := s.redis.Pipeline()
	queueMoves(ctx, pipe, s.moves(c.id, indexDead, now))
	if _, err := pipe.Exec(ctx); err != nil {
		return true, fmt.Errorf("index job %s: %w", c.id, err)
	}
	record := Record{ID: c.id, Run: 1, Job: refusal.Job}
	return true, s.reportEnd(ctx, &record, tasks.StatusFailed, tasks.Result{})
}

func (s *Store) refuseCall(refusal Refusal) (call, time.Time, error) {
	const verb = "refuse"
	job, now := refusal.Job, time.Now()
	if !tasks.ValidID(job.ID) || refusal.What == "" {
		return call{}, now, fmt.Errorf("refuse job %q: its id is not valid, or it is not said what is refused", job.ID)
	}
	job.V, job.Input, job.Request, job.CreatedAt = tasks.Version, "", nil, &now
	if job.Webhook != nil && len(job.Webhook.Validate(tasks.JobEvents())) > 0 {
		job.Webhook = nil // it may be what the job was refused for
	}
	result := tasks.Result{
		TaskType: job.TaskType, Tenant: job.Tenant, Error: &refusal.Failure, Metadata: job.Metadata, CreatedAt: &now,
	}
	encoded, err := encodeSealed(s, verb, job.ID, fieldJob, job)
	if err != nil {
		return call{}, now, err
	}
	ended, err := s.resultText(verb, job.ID, 1, tasks.StatusFailed, result, now)
	if err != nil {
		return call{}, now, err
	}
	keep := refusal.Retention
	if keep <= 0 {
		keep = DefaultRetention
	}
	if job.Member != nil {
		keep = max(keep, batches.Kept)
	}
	if job.Webhook.Wants(Event(tasks.StatusFailed)) {
		keep = 0
	}
	return call{
		verb: verb, id: job.ID, script: refuseScript, keys: []string{s.keys.Job(job.ID), s.keys.JobDone(job.ID)},
		args: []any{refusal.What, job.Tenant, encoded, job.TaskType, formatTime(now), ended, milliseconds(keep), membership(job.Member)},
	}, now, nil
}
