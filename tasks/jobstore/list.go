package jobstore

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/forebay-queue/forebay/tasks"
)

const (
	// DefaultListLimit is how many jobs a page of List has where nothing is said.
	DefaultListLimit = 50
	// MaxListLimit is how many it has at most.
	MaxListLimit = 1000
	// maxLooked is how many records one List looks at: it answers within a second or so, whatever it is asked for.
	maxLooked = 20_000
	// fewestRead and mostRead bound the records that are read in one round trip.
	fewestRead = 64
	mostRead   = 1000
)

// adhoc is the word for no task type where an empty one cannot be written, as in the types of tasks (package envelope).
const adhoc = "adhoc"

// Filter says which jobs are meant. A zero field means all of them.
type Filter struct {
	// Statuses are the statuses that a job may have.
	Statuses []tasks.Status
	// TaskTypes may hold an empty one or "adhoc", which is that of the jobs without.
	TaskTypes []string
	// Tenant is whose jobs they are; empty is everybody's, for operators.
	Tenant string
	// Codes are codes or classes of the job's error; of an open job that is why its last delivery failed.
	Codes []string
	// Since and Until are of the acceptance of an open job, and of the end of one that has ended. Since is the first
	// moment that is meant, Until the first that is not any more.
	Since, Until time.Time
	// Text is a part, in any case, of the id, the task type, the error's code or message, or a value of the metadata.
	Text string
	// Batch is the batch that they are members of. They are listed in the order of their numbers.
	Batch string
}

// Row is a job in a list: what many are looked at for, and neither its prompt nor its answer.
type Row struct {
	ID       string         `json:"id"`
	Status   tasks.Status   `json:"status"`
	TaskType string         `json:"task_type,omitempty"`
	Tenant   string         `json:"tenant,omitempty"`
	Batch    string         `json:"batch,omitempty"`
	Priority tasks.Priority `json:"priority,omitempty"`
	Run      int            `json:"run,omitempty"`
	Retries  int            `json:"retries,omitempty"`
	Waiting  *tasks.Waiting `json:"waiting,omitempty"`
	// Model, Endpoint and Region are those of the last call; they gave the answer of a job that has succeeded.
	Model    string `json:"model,omitempty"`
	Endpoint string `json:"endpoint,omitempty"`
	Region   string `json:"region,omitempty"`
	// Attempts counts the calls of all runs, which cost CostUSD.
	Attempts int     `json:"attempts"`
	CostUSD  float64 `json:"cost_usd"`
	// Error is the job's, or why the last delivery of an open one failed. It has no Detail.
	Error *tasks.Failure `json:"error,omitempty"`

	CreatedAt  *time.Time `json:"created_at,omitempty"`
	StartedAt  *time.Time `json:"started_at,omitempty"`
	FinishedAt *time.Time `json:"finished_at,omitempty"`

	Metadata map[string]string `json:"metadata,omitempty"`
}

// Code is the code of the job's error, or its class where it has none; empty without an error.
func (r *Row) Code() string {
	switch {
	case r.Error == nil:
		return ""
	case r.Error.Code == "":
		return string(r.Error.Class)
	}
	return r.Error.Code
}

// at is the time that Since and Until mean.
func (r *Row) at() *time.Time {
	if r.Status.Ended() {
		return r.FinishedAt
	}
	return r.CreatedAt
}

// Page is a part of a list.
type Page struct {
	Jobs []Row `json:"jobs"`
	// Next is where the next page begins; empty at the end of the list. It may be set although there are fewer jobs than
	// were asked for, or none: when many records had to be looked at.
	Next string `json:"next,omitempty"`
	// Looked is how many records were looked at.
	Looked int `json:"-"`
}

// List reads a part of the jobs that a filter means: first the open ones, those with the latest deadline first, which is
// mostly the order in which they were accepted; then those that have ended, the newest end first. The cursor is a page's
// Next, or empty at the beginning; the limit is 1 to MaxListLimit, 0 is DefaultListLimit. What is asked for wrongly is a
// *tasks.FieldError.
//
// A list is no snapshot: a job is shown where it stands when its page is read. One that ends meanwhile may be shown as
// open and, pages later, once more as ended; one that is reopened meanwhile may be missed; all others are shown once.
func (s *Store) List(ctx context.Context, filter Filter, cursor string, limit int) (Page, error) {
	if limit == 0 {
		limit = DefaultListLimit
	}
	if limit < 1 || limit > MaxListLimit {
		return Page{}, &tasks.FieldError{Field: "limit", Problem: fmt.Sprintf("must be 1 to %d", MaxListLimit)}
	}
	search, err := s.newSearch(filter)
	if err != nil {
		return Page{}, err
	}
	if cursor, err = s.unsealed(ctx, cursor, filter.Tenant); err != nil {
		return Page{}, err
	}
	from, err := parseCursor(cursor, search.stages)
	if err != nil {
		return Page{}, err
	}
	page, listed := Page{Jobs: []Row{}}, []found(nil)
	search.from(from, max(limit+1, fewestRead)) // one more, to know whether there is one
	for len(listed) < limit && page.Looked < maxLooked && !search.done() {
		batch, err := search.next(ctx)
		if err != nil {
			return Page{}, err
		}
		if room := limit - len(listed); len(batch.found) > room {
			batch.found, batch.end, batch.last = batch.found[:room], batch.found[room-1].place, false
		}
		page.Looked += batch.looked
		listed = append(listed, batch.found...)
		page.Next = ""
		if !batch.last {
			page.Next = batch.end.cursor()
		}
	}
	if page.Next, err = s.sealed(ctx, page.Next, filter.Tenant); err != nil {
		return Page{}, err
	}
	if err := s.readLedgers(ctx, listed); err != nil {
		return Page{}, err
	}
	for _, f := range listed {
		page.Jobs = append(page.Jobs, f.Row)
	}
	return page, nil
}

// check refuses a filter that cannot be obeyed.
func (f Filter) check() error {
	if f.Batch != "" && !tasks.ValidID(f.Batch) {
		return &tasks.FieldError{Field: "batch", Problem: fmt.Sprintf("%.140q is no batch's id", f.Batch)}
	}
	for _, status := range f.Statuses {
		if !slices.Contains(statuses, status) {
			return &tasks.FieldError{Field: "status", Problem: fmt.Sprintf("no status %.40q; there are %s", string(status), names(statuses))}
		}
	}
	return nil
}

var statuses = []tasks.Status{
	tasks.StatusQueued, tasks.StatusRunning, tasks.StatusRetrying,
	tasks.StatusSucceeded, tasks.StatusFailed, tasks.StatusCancelled, tasks.StatusExpired,
}

// names lists words for people.
func names[T ~string](words []T) string {
	texts := make([]string, len(words))
	for i, word := range words {
		texts[i] = string(word)
	}
	return strings.Join(texts, ", ")
}

// means tells of a status whether the filter means it.
func (f Filter) means(status tasks.Status) bool {
	return len(f.Statuses) == 0 || slices.Contains(f.Statuses, status)
}

// matchesGlance is what can be told of a job whose error may not have been read yet.
func (f Filter) matchesGlance(row *Row) bool {
	at := row.at()
	switch {
	case !f.means(row.Status), f.Tenant != "" && row.Tenant != f.Tenant,
		len(f.TaskTypes) > 0 && !slices.Contains(f.TaskTypes, row.TaskType) &&
			(row.TaskType != "" || !slices.Contains(f.TaskTypes, adhoc)):
		return false
	case !f.Since.IsZero() && (at == nil || at.Before(f.Since)), !f.Until.IsZero() && (at == nil || !at.Before(f.Until)):
		return false
	}
	return len(f.Codes) == 0 || row.Error != nil || hasUnreadError(row)
}

// matchesError is the rest.
func (f Filter) matchesError(row *Row) bool {
	if len(f.Codes) > 0 && (row.Error == nil ||
		!slices.Contains(f.Codes, row.Error.Code) && !slices.Contains(f.Codes, string(row.Error.Class))) {
		return false
	}
	return f.Text == "" || contains(row, strings.ToLower(f.Text))
}

func contains(row *Row, lower string) bool {
	texts := []string{row.ID, row.TaskType}
	if row.Error != nil {
		texts = append(texts, row.Code(), row.Error.Message)
	}
	for _, value := range row.Metadata {
		texts = append(texts, value)
	}
	return slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(strings.ToLower(text), lower) })
}
