package jobstore

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/forebay-queue/forebay/tasks"
)

// openMargin is how long after an open attempt's call deadline its worker may still be busy with it.
const openMargin = 5 * time.Second

// CodeWorkerGone is the code of an attempt that was ended because its worker is gone.
const CodeWorkerGone = "worker_gone"

// CloseOrphans looks at the attempts that other deliveries have left open in the record. Those whose worker is gone,
// or whose call deadline is 5 s past, are ended as maybe billed, in Redis and in the record. It returns until when
// the given delivery must not call because of the others: the zero time when it may call at once.
func (s *Store) CloseOrphans(ctx context.Context, record *Record, delivery string) (time.Time, error) {
	var until time.Time
	for _, attempt := range record.Open(delivery) {
		leaseEnd := attempt.CallDeadline.Add(openMargin)
		if time.Now().Before(leaseEnd) {
			alive, err := s.WorkerAlive(ctx, attempt.Worker)
			if err != nil {
				return time.Time{}, err
			}
			if alive {
				if leaseEnd.After(until) {
					until = leaseEnd
				}
				continue
			}
		}
		if err := s.Orphan(ctx, record, attempt.Seq); err != nil {
			return time.Time{}, err
		}
	}
	return until, nil
}

// Orphan ends an open attempt of the record as one whose worker is gone: unavailable, maybe billed. An end that has
// arrived since the record was read stands, and the record takes it over; one that arrives later replaces this one.
func (s *Store) Orphan(ctx context.Context, record *Record, seq int) error {
	const verb = "end an orphaned attempt of"
	for i, attempt := range record.Attempts {
		if attempt.Seq != seq || attempt.Ended {
			continue
		}
		attempt.Ended, attempt.MaybeBilled = true, true
		attempt.Class, attempt.Code = tasks.ClassUnavailable, CodeWorkerGone
		text, err := encodeAttempt(verb, record.ID, attempt)
		if err != nil {
			return err
		}
		c := call{
			verb: verb, id: record.ID, script: orphanScript, keys: []string{s.keys.Job(record.ID)},
			args: []any{seq, record.intents[seq], text},
		}
		r, err := s.run(ctx, c)
		if err != nil {
			return err
		}
		if r.word != "ok" {
			return refused(verb, record.ID, r.word)
		}
		var stands tasks.Attempt
		if err := json.Unmarshal([]byte(r.text(0)), &stands); err != nil {
			return fmt.Errorf("%s job %s: attempt %d: %w", verb, record.ID, seq, err)
		}
		record.Attempts[i], record.intents[seq] = stands, r.text(0)
		if stands.Code == CodeWorkerGone {
			s.abandons(stands)
		}
		return nil
	}
	return nil
}
