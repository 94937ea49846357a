// Package tasks is the contract between everybody who puts work into Forebay and everybody who does it: the
// job as it is asked for, the result as it is read, and the classes that a failure can have.
//
// It imports the standard library only, so that any Go program can speak the contract without taking on
// Forebay's dependencies. The sub-packages hold the shared state that belongs to it: the catalog of models and
// endpoints, the Redis keys, the job records and the gate.
//
// The words, each for one thing: a job is the user's unit of work; a task is asynq's envelope around it; a
// delivery is one run of the task; an attempt is one call to one endpoint; a route is a model at an endpoint; an
// account is what a provider bills and limits.
package tasks

// Version is the version of the contract that this build writes.
const Version = 1

// Status is where a job stands. Its values are part of the wire format.
type Status string

// The statuses of a job. The last four are ends: a job leaves them only by an explicit reopen, and succeeded never.
const (
	StatusQueued    Status = "queued"
	StatusRunning   Status = "running"
	StatusRetrying  Status = "retrying"
	StatusSucceeded Status = "succeeded"
	StatusFailed    Status = "failed"
	StatusCancelled Status = "cancelled"
	StatusExpired   Status = "expired"
)

// Ended reports whether the job has its result.
func (s Status) Ended() bool {
	switch s {
	case StatusSucceeded, StatusFailed, StatusCancelled, StatusExpired:
		return true
	case StatusQueued, StatusRunning, StatusRetrying:
		return false
	}
	return false
}

// Priority is which of the queues a job waits in.
type Priority string

// The priorities, the most urgent first.
const (
	PriorityCritical Priority = "critical"
	PriorityDefault  Priority = "default"
	PriorityBulk     Priority = "bulk"
)

// Priorities lists all priorities, the most urgent first.
func Priorities() []Priority { return []Priority{PriorityCritical, PriorityDefault, PriorityBulk} }

// Kind is what sort of call a job makes, and what sort of model can answer it.
type Kind string

// The kinds of jobs and models.
const (
	KindChat      Kind = "chat"
	KindEmbedding Kind = "embedding"
)
