package batches

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"strconv"
	"time"

	"github.com/forebay-queue/forebay/tasks"
)

// Kept is how long a batch is known after its end, and how long the records of its members are at most while nobody has
// said that their answers are written (Retention).
const Kept = 30 * 24 * time.Hour

// What the verbs of a Store answer when they change nothing.
var (
	// ErrNotFound: there is no such batch, or it is another tenant's.
	ErrNotFound = errors.New("no such batch: the id is wrong, or it ended more than 30 days ago")
	// ErrEnded: the batch has ended, or its output is being written.
	ErrEnded = errors.New("the batch has ended, or is about to")
	// ErrCancelling: the batch is asked to end, so that it takes no more members.
	ErrCancelling = errors.New("the batch is being cancelled")
	// ErrNotEnded: some of the batch's members have not ended.
	ErrNotEnded = errors.New("some members of the batch have not ended")
)

// Kind says who reads and writes the files of a batch.
type Kind string

// The kinds of batches.
const (
	// KindFile is made from an input file, and its answers become files, by the producers (OpenAI's Batch API).
	KindFile Kind = "file"
	// KindRun is read and written by `forebay batch run`.
	KindRun Kind = "run"
)

// Status is where a batch stands, in the words of OpenAI's Batch API.
type Status string

// The statuses of batches.
const (
	StatusValidating Status = "validating"
	StatusFailed     Status = "failed"
	StatusInProgress Status = "in_progress"
	StatusFinalizing Status = "finalizing"
	StatusCompleted  Status = "completed"
	StatusExpired    Status = "expired"
	StatusCancelling Status = "cancelling"
	StatusCancelled  Status = "cancelled"
)

// Ended tells that nothing happens to the batch any more, unless some of its members are run again.
func (s Status) Ended() bool {
	switch s {
	case StatusFailed, StatusCompleted, StatusExpired, StatusCancelled:
		return true
	case StatusValidating, StatusInProgress, StatusFinalizing, StatusCancelling:
	}
	return false
}

// Batch is what is known of a batch. Times that have not come are zero.
type Batch struct {
	// ID identifies it: see NewID.
	ID string `json:"id"`
	// Tenant pays for it.
	Tenant string `json:"tenant"`
	// Name is its input's, for people.
	Name   string `json:"name,omitempty"`
	Kind   Kind   `json:"kind"`
	Status Status `json:"status"`

	// Endpoint, CompletionWindow and the files are those of OpenAI's Batch API, for one of KindFile.
	Endpoint         string `json:"endpoint,omitempty"`
	CompletionWindow string `json:"completion_window,omitempty"`
	InputFileID      string `json:"input_file_id,omitempty"`
	OutputFileID     string `json:"output_file_id,omitempty"`
	ErrorFileID      string `json:"error_file_id,omitempty"`
	// OutputExpiresAfter is how long the output files are kept; 0 is as long as all are.
	OutputExpiresAfter time.Duration `json:"-"`

	Metadata map[string]string `json:"metadata,omitempty"`
	// Webhooks are those that tell of its end.
	Webhooks []tasks.Webhook `json:"-"`
	// Trace is the trace that it was made in.
	Trace tasks.TraceContext `json:"-"`
	// Problems say why it failed.
	Problems []Problem `json:"problems,omitempty"`

	// Total is how many members it has, 0 until that is known.
	Total  int    `json:"total"`
	Counts Counts `json:"counts"`
	// CostUSD and Usage are those of the members that have ended, over all their runs.
	CostUSD float64 `json:"cost_usd"`
	Usage   Usage   `json:"usage"`
	// Retention is how long a member's record is kept once its answer is written.
	Retention time.Duration `json:"-"`

	CreatedAt    time.Time `json:"created_at,omitzero"`
	InProgressAt time.Time `json:"in_progress_at,omitzero"`
	// Deadline is when what has not ended of it expires.
	Deadline     time.Time `json:"deadline,omitzero"`
	FinalizingAt time.Time `json:"finalizing_at,omitzero"`
	CompletedAt  time.Time `json:"completed_at,omitzero"`
	FailedAt     time.Time `json:"failed_at,omitzero"`
	ExpiredAt    time.Time `json:"expired_at,omitzero"`
	CancellingAt time.Time `json:"cancelling_at,omitzero"`
	CancelledAt  time.Time `json:"cancelled_at,omitzero"`

	// Notes are those of whoever works on it: see Store.Note.
	Notes map[string]string `json:"-"`
}

// EndedAt is when it ended; zero while it has not.
func (b *Batch) EndedAt() time.Time {
	switch b.Status {
	case StatusFailed:
		return b.FailedAt
	case StatusCompleted:
		return b.CompletedAt
	case StatusExpired:
		return b.ExpiredAt
	case StatusCancelled:
		return b.CancelledAt
	case StatusValidating, StatusInProgress, StatusFinalizing, StatusCancelling:
	}
	return time.Time{}
}

// Problem is why a batch failed its validation.
type Problem struct {
	// Code is one of OpenAI's, such as "invalid_json_line".
	Code    string `json:"code"`
	Message string `json:"message"`
	// Param is the field that is wrong, or empty.
	Param string `json:"param,omitempty"`
	// Line counts the input's from 1; 0 is all of it.
	Line int `json:"line,omitempty"`
}

// Counts are the members that have ended, by how.
type Counts struct {
	Succeeded int `json:"succeeded"`
	Failed    int `json:"failed"`
	Cancelled int `json:"cancelled"`
	Expired   int `json:"expired"`
}

// Ended is how many members have ended.
func (c Counts) Ended() int { return c.Succeeded + c.Failed + c.Cancelled + c.Expired }

// Usage is what the members' answers used, in tokens.
type Usage struct {
	PromptTokens     int64 `json:"prompt_tokens"`
	CompletionTokens int64 `json:"completion_tokens"`
	TotalTokens      int64 `json:"total_tokens"`
}

// State is how a member stands, as far as was reported.
type State byte

// The states of members.
const (
	// Unreported is that of a member of which nothing was reported yet: one that is open, or was never enqueued.
	Unreported State = 0
	// Open is that of a member that was opened again.
	Open      State = 'o'
	Succeeded State = 's'
	Failed    State = 'f'
	Cancelled State = 'c'
	Expired   State = 'x'
)

// Ended tells that the member has.
func (s State) Ended() bool { return s != Unreported && s != Open }

const idPrefix = "batch_"

// NewID makes the id of a batch. It cannot be guessed, so that nobody takes the ids of its members before they are
// enqueued.
func NewID() string {
	random := make([]byte, 16)
	_, _ = rand.Read(random) // never fails: see its documentation
	return idPrefix + hex.EncodeToString(random)
}

// MemberID is the id of a member's job.
func MemberID(batch string, number int) string { return batch + "-" + strconv.Itoa(number) }
