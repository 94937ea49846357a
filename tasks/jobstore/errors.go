package jobstore

import (
	"errors"
	"fmt"
)

// What a verb answers when it changes nothing. All errors of this package that are about a job name it.
var (
	// ErrNotFound: there is no such record, or it is another tenant's.
	ErrNotFound = errors.New("no such job: the id is wrong, or the job's retention has passed")
	// ErrIDConflict: the id belongs to another job, or to another tenant.
	ErrIDConflict = errors.New("the id is taken by a job that asks for something else; choose another id")
	// ErrEnded: the job has its result.
	ErrEnded = errors.New("the job has ended")
	// ErrNotEnded: the job has no result yet.
	ErrNotEnded = errors.New("the job has not ended; wait for it or cancel it first")
	// ErrSucceeded: a success is never changed.
	ErrSucceeded = errors.New("the job has succeeded and is never run again; enqueue it under another id")
	// ErrRefused: the job was refused at its way in, so that there is nothing to run.
	ErrRefused = errors.New("the job was refused and never accepted; enqueue it again, corrected, under the same id")
	// ErrCancelled: the user asked for the job's end.
	ErrCancelled = errors.New("the job is asked to end as cancelled")
	// ErrStaleRun: the job has been reopened since.
	ErrStaleRun = errors.New("the job has been reopened, and this belongs to an older run")
	// ErrSuperseded: another delivery has taken the job, or this one has given it back.
	ErrSuperseded = errors.New("the delivery no longer holds the job")
	// ErrNoAttempt: the attempt was never begun.
	ErrNoAttempt = errors.New("the record has no such attempt")
	// ErrClosed: the store was closed.
	ErrClosed = errors.New("the job store is closed")
)

// refusals maps the words of the scripts to errors.
var refusals = map[string]error{
	"not_found":  ErrNotFound,
	"conflict":   ErrIDConflict,
	"ended":      ErrEnded,
	"open":       ErrNotEnded,
	"succeeded":  ErrSucceeded,
	"refused":    ErrRefused,
	"cancelled":  ErrCancelled,
	"stale_run":  ErrStaleRun,
	"superseded": ErrSuperseded,
	"no_attempt": ErrNoAttempt,
}

func refused(verb, id, word string) error {
	if err, known := refusals[word]; known {
		return fmt.Errorf("%s job %s: %w", verb, id, err)
	}
	return fmt.Errorf("%s job %s: the script answered %q; worker and producer may be of different versions", verb, id, word)
}
