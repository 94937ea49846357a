package httpapi

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/jobstore"
)

const (
	// showWithin bounds the reading of all jobs of one answer: the console goes on without those that take longer.
	showWithin = time.Second
	showAtOnce = 8
	// maxShown bounds how many jobs of one answer are read, longestShown the characters of a text that are shown of one.
	maxShown     = 100
	longestShown = 600
)

// taskJobs shows the jobs behind asynq's tasks, whose payload is no more than the id. asynqmon's own formatters are
// given neither the task nor a context, and one task at a time.
type taskJobs struct {
	read func(ctx context.Context, id string) (*jobstore.Record, error)
}

func newTaskJobs(store *jobstore.Store) taskJobs { return taskJobs{read: store.Get} }

// shownJob is a job as the console shows it in the place of the payload, for people.
type shownJob struct {
	Job       string         `json:"job"`
	TaskType  string         `json:"task_type,omitempty"`
	Tenant    string         `json:"tenant"`
	Status    tasks.Status   `json:"status"`
	Models    tasks.Models   `json:"models,omitempty"`
	Request   string         `json:"request"`
	Waiting   string         `json:"waiting,omitempty"`
	Attempts  int            `json:"attempts,omitempty"`
	CostUSD   float64        `json:"cost_usd"`
	Error     *shownError    `json:"error,omitempty"`
	CreatedAt string         `json:"created_at"`
	Metadata  map[string]any `json:"metadata,omitempty"`
}

type shownError struct {
	Class   tasks.Class `json:"class"`
	Code    string      `json:"code,omitempty"`
	Message string      `json:"message"`
}

// shownResult is what came of a job, in the place of asynq's result.
type shownResult struct {
	Status   tasks.Status `json:"status"`
	Model    string       `json:"model,omitempty"`
	Endpoint string       `json:"endpoint,omitempty"`
	Text     string       `json:"text,omitempty"`
	Usage    *tasks.Usage `json:"usage,omitempty"`
	CostUSD  float64      `json:"cost_usd"`
	Error    *shownError  `json:"error,omitempty"`
}

// show puts jobs into an answer of asynqmon that has tasks. What cannot be read in time is left as it was.
func (t taskJobs) show(ctx context.Context, answer []byte) []byte {
	decoder := json.NewDecoder(bytes.NewReader(answer))
	decoder.UseNumber()
	var top map[string]any
	if decoder.Decode(&top) != nil {
		return answer
	}
	list, isList := top["tasks"].([]any)
	if !isList {
		list = []any{top}
	}
	ctx, cancel := context.WithTimeout(ctx, showWithin)
	defer cancel()
	var group errgroup.Group
	group.SetLimit(showAtOnce)
	shown := 0
	for _, entry := range list {
		task, _ := entry.(map[string]any)
		taskType, _ := task["type"].(string)
		id, _ := task["payload"].(string)
		if shown == maxShown || !strings.HasPrefix(taskType, "completion:") || !tasks.ValidID(id) {
			continue
		}
		shown++
		group.Go(func() error { // each has a task of its own
			record, err := t.read(ctx, id)
			switch {
			case err == nil:
				showJob(task, record, "")
			case errors.Is(err, jobstore.ErrUnreadable):
				showJob(task, record, shownSealed)
			}
			return nil
		})
	}
	_ = group.Wait() // what could not be read is left as it was
	if shown == 0 {
		return answer
	}
	changed, err := tasks.Encode(top)
	if err != nil {
		return answer
	}
	return changed
}

// shownSealed stands for the request and the text of a job that is sealed: the console has no keys.
const shownSealed = "(sealed)"

// showJob puts a job in the place of its task's payload and result. Sealed stands for what cannot be read of it.
func showJob(task map[string]any, record *jobstore.Record, sealed string) {
	result := record.Result()
	job := shownJob{
		Job: record.ID, TaskType: record.TaskType, Tenant: record.Tenant, Status: record.Status, Models: record.Job.Model,
		Request: cmp.Or(sealed, shorten(requestText(record.Job.Request))), Attempts: len(record.Attempts), CostUSD: result.CostUSD,
		Error: errorShown(result.Error), CreatedAt: record.CreatedAt.Format(time.RFC3339),
	}
	if waits := result.Waiting; waits != nil {
		job.Waiting = waits.Reason + " until " + waits.Until.Format(time.RFC3339)
	}
	for name, value := range record.Job.Metadata {
		if job.Metadata == nil {
			job.Metadata = map[string]any{}
		}
		job.Metadata[name] = value
	}
	put(task, "payload", job)
	if record.Status.Ended() {
		put(task, "result", shownResult{
			Status: record.Status, Model: result.Model, Endpoint: result.Endpoint, Text: cmp.Or(sealed, shorten(result.Text)), Usage: result.Usage,
			CostUSD: result.CostUSD, Error: errorShown(result.Error),
		})
	}
}

// put writes a value as the text that the console shows; it indents JSON by itself.
func put(task map[string]any, field string, value any) {
	if text, err := tasks.Encode(value); err == nil {
		task[field] = string(text)
	}
}

func errorShown(failure *tasks.Failure) *shownError {
	if failure == nil {
		return nil
	}
	return &shownError{Class: failure.Class, Code: failure.Code, Message: shorten(failure.Message)}
}

// requestText is the last text that a request asks about, which says best what it is; else the whole of it.
func requestText(request json.RawMessage) string {
	var body struct {
		Messages []struct {
			Content any `json:"content"`
		} `json:"messages"`
		Input any `json:"input"`
	}
	if json.Unmarshal(request, &body) == nil {
		if text, isText := body.Input.(string); isText {
			return text
		}
		if last := len(body.Messages) - 1; last >= 0 {
			if text, isText := body.Messages[last].Content.(string); isText {
				return text
			}
		}
	}
	return string(request)
}

// shorten cuts a text that is long, between two characters.
func shorten(text string) string {
	if len(text) <= longestShown {
		return text
	}
	end := longestShown
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "…"
}
