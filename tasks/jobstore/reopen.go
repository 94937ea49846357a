package jobstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/forebay-queue/forebay/tasks"
)

// Reopen begins the next run of a job that failed, was cancelled or expired, and returns its record: queued, to be
// started at once, with all its retries. Its last result goes to Record.Previous. A deadline that has passed is
// replaced by one as far from now as it was from the job's creation. A success is ErrSucceeded, a job that has
// not ended ErrNotEnded. The caller enqueues the task.
func (s *Store) Reopen(ctx context.Context, id string) (*Record, error) {
	return s.reopen(ctx, id, 0)
}

// ReopenRun is Reopen for somebody who has seen that a run ended: a job whose run is another by now, because somebody
// else was faster, is ErrStaleRun; with its record where that happened only now, for then nobody may have enqueued the
// task yet.
func (s *Store) ReopenRun(ctx context.Context, id string, run int) (*Record, error) {
	return s.reopen(ctx, id, run)
}

func (s *Store) reopen(ctx context.Context, id string, run int) (*Record, error) {
	read := 0 // the run that this call has found ended
	changed := false
	for range maxRereads {
		record, err := s.Get(ctx, id)
		switch {
		case err != nil:
			return nil, err
		case read > 0 && record.Run == read+1 && !record.Status.Ended():
			// Reopened by an execution of this very call whose reply was lost, or by somebody at the same time.
			if err := errors.Join(s.Reindex(ctx, record), s.reportOpen(ctx, record)); err != nil || run == 0 || !changed {
				return record, err
			}
			return record, refused("reopen", id, "stale_run")
		case run > 0 && record.Run != run:
			return nil, refused("reopen", id, "stale_run")
		case record.Status == tasks.StatusSucceeded:
			return nil, refused("reopen", id, "succeeded")
		case !record.Status.Ended():
			return nil, refused("reopen", id, "open")
		case record.Refused != "":
			return nil, refused("reopen", id, "refused")
		}
		if err := s.handOver(ctx, record); err != nil { // of this end nobody would be told afterwards
			return nil, err
		}
		read = record.Run
		c, err := s.reopenCall(record)
		if err != nil {
			return nil, err
		}
		r, err := s.run(ctx, c)
		if err != nil {
			return nil, err
		}
		// After ok and after changed alike the record says how it stands.
		changed = r.word == "changed"
		if r.word != "ok" && r.word != "changed" {
			return nil, refused("reopen", id, r.word)
		}
	}
	return nil, fmt.Errorf("reopen job %s: its record changed %d times meanwhile; try again", id, maxRereads)
}

func (s *Store) reopenCall(record *Record) (call, error) {
	const verb = "reopen"
	if record.result == nil {
		return call{}, fmt.Errorf("reopen job %s: %w", record.ID, errors.New("its record has no result"))
	}
	previous, err := encodeSealed(s, verb, record.ID, fieldPrevious, append(record.Previous, *record.result))
	if err != nil {
		return call{}, err
	}
	job, err := reopenedJob(record, time.Now())
	if err != nil {
		return call{}, fmt.Errorf("reopen job %s: field job: %w", record.ID, err)
	}
	if job, err = s.sealField(verb, record.ID, fieldJob, job); err != nil {
		return call{}, err
	}
	return call{
		verb: verb, id: record.ID, script: reopenScript, keys: []string{s.keys.Job(record.ID)},
		args: []any{record.Run, previous, job},
	}, nil
}

// reopenedJob is the job's text with a deadline to come and without an earliest start. All else stays as it was
// written, also the fields of a newer contract.
func reopenedJob(record *Record, now time.Time) (string, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal([]byte(record.jobText), &fields); err != nil {
		return "", err
	}
	delete(fields, "run_at")
	if deadline := record.Job.Deadline; deadline != nil && !deadline.After(now) {
		fields["deadline"] = []byte(`"` + formatTime(now.Add(deadline.Sub(record.CreatedAt))) + `"`)
	}
	text, err := tasks.Encode(fields)
	return string(text), err
}
