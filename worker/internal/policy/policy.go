// Package policy says what failures are and what follows from them. Classify gives an answer its class; the table of
// verdicts says what each class means. Nobody else reads a status code, matches a message or decides by a class.
package policy

import (
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/gate"
)

// Next is where a delivery goes after an attempt.
type Next int

// The next steps.
const (
	// End ends the job with the verdict's status.
	End Next = iota
	// AgainThenNextRoute calls the same endpoint again while it has tries left, then the next route.
	AgainThenNextRoute
	// NextRoute goes on to the next endpoint of the model, and after its last to the next model.
	NextRoute
	// OtherAccounts does the same, past every endpoint of this account.
	OtherAccounts
	// Limited tries the other endpoints of the same model; if the model meets only limits the delivery waits for it.
	Limited
	// LargerModel goes on to the next model with a larger window; the job ends as failed if there is none.
	LargerModel
	// NextModel goes on to the next model if the task type allows it; the job ends as failed otherwise.
	NextModel
	// GiveBack puts the job back into the queue at once.
	GiveBack
	// Later ends the delivery as failed: the queue repeats it after its backoff.
	Later
)

// Verdict is what a class means.
type Verdict struct {
	Next Next
	// Status is that of the job when Next is End.
	Status tasks.Status
	// Effect is what the endpoint's shared state is told.
	Effect gate.Effect
	// Spends tells that a delivery which ends with this class has failed and costs the job one of its retries.
	Spends bool
}

// verdicts says what each class means. ClassRejected is in it once a job can say what it accepts.
//
//exhaustive:ignore
var verdicts = map[tasks.Class]Verdict{
	tasks.ClassInvalid:       {Next: End, Status: tasks.StatusFailed, Effect: gate.Ignore},
	tasks.ClassAuth:          {Next: OtherAccounts, Effect: gate.TripAccount, Spends: true},
	tasks.ClassQuota:         {Next: OtherAccounts, Effect: gate.TripAccount, Spends: true},
	tasks.ClassNotServed:     {Next: NextRoute, Effect: gate.NotServed, Spends: true},
	tasks.ClassMisconfigured: {Next: NextRoute, Effect: gate.Trip, Spends: true},
	tasks.ClassContextLength: {Next: LargerModel, Effect: gate.Ignore},
	tasks.ClassContentPolicy: {Next: NextModel, Effect: gate.Ignore},
	tasks.ClassThrottled:     {Next: Limited, Effect: gate.Throttle},
	tasks.ClassUnavailable:   {Next: AgainThenNextRoute, Effect: gate.Failure, Spends: true},
	tasks.ClassDeferred:      {Next: Limited, Effect: gate.Release},
	tasks.ClassCancelled:     {Next: End, Status: tasks.StatusCancelled, Effect: gate.Ignore},
	tasks.ClassExpired:       {Next: End, Status: tasks.StatusExpired, Effect: gate.Ignore},
	tasks.ClassAbandoned:     {Next: GiveBack, Effect: gate.Ignore},
	tasks.ClassInternal:      {Next: Later, Effect: gate.Ignore, Spends: true},
}

// For returns what the class means. The class of a good answer is empty: its endpoint is told of a success.
// A class that the table does not know is our own fault, and treated as one.
func For(class tasks.Class) Verdict {
	if class == "" {
		return Verdict{Next: End, Status: tasks.StatusSucceeded, Effect: gate.Success}
	}
	verdict, known := verdicts[class]
	if !known {
		return verdicts[tasks.ClassInternal]
	}
	return verdict
}
