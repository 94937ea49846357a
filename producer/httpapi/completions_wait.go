package httpapi

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/producer/internal/openai"
	"github.com/forebay-queue/forebay/tasks"
)

// awaitCall waits for the end of a call's job. One that was withdrawn, since the client of an earlier try had left, is
// opened again.
func (a *API) awaitCall(ctx context.Context, id string) (tasks.Result, error) {
	for {
		result, err := a.client.Wait(ctx, id)
		if err != nil || result.Status != tasks.StatusCancelled || result.Error == nil || result.Error.Code != producer.CodeWithdrawn {
			return result, err
		}
		if _, err := a.client.ReopenRun(ctx, id, result.Run); err != nil && !errors.Is(err, producer.ErrStaleRun) {
			return tasks.Result{}, err
		}
	}
}

func failureIsTimeout(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

// callWriter answers a call: with one body or, where the call asks for a stream, with server-sent events. Nothing is
// sent before the end, or the first comment, so that what fails early is told by its status.
type callWriter struct {
	w      http.ResponseWriter
	limits *http.ResponseController
	call   *call
	begun  bool
	err    error
}

func newCallWriter(w http.ResponseWriter, c *call) *callWriter {
	return &callWriter{w: w, limits: http.NewResponseController(w), call: c}
}

// comment says that the connection lives: proxies cut what is silent. Clients pass over it.
func (o *callWriter) comment() error {
	o.event([]byte(": waiting\n\n"))
	return o.err
}

func (o *callWriter) event(text []byte) {
	if !o.begun {
		o.begun = true
		header := o.w.Header()
		header.Set("Content-Type", "text/event-stream; charset=utf-8")
		header.Set("X-Accel-Buffering", "no") // proxies are to pass events on at once
		o.w.WriteHeader(http.StatusOK)
	}
	if o.err != nil {
		return
	}
	_ = o.limits.SetWriteDeadline(time.Now().Add(o.call.within + answerWithin)) // not every writer has one
	if _, o.err = o.w.Write(text); o.err == nil {
		o.err = o.limits.Flush()
	}
}

func (o *callWriter) data(data []byte) {
	o.event(append(append([]byte("data: "), data...), "\n\n"...))
}

// end answers the end of the call's job.
func (o *callWriter) end(answer openai.Answer) error {
	if answer.Status == http.StatusOK && o.call.Stream {
		chunks, err := openai.Chunks(answer.Body, o.call.IncludeUsage)
		if err == nil {
			for _, chunk := range chunks {
				o.data(chunk)
			}
			o.data([]byte("[DONE]"))
			return o.err
		}
		answer = openai.AnswerOf(tasks.Result{ID: o.call.id})
	}
	if o.begun {
		o.data(answer.Body)
		return o.err
	}
	header := o.w.Header()
	header.Set("Content-Type", contentJSON)
	if answer.Status != http.StatusOK {
		header.Set("X-Should-Retry", "false") // the queue has tried what there was to try
	}
	o.w.WriteHeader(answer.Status)
	if _, o.err = o.w.Write(answer.Body); o.err == nil {
		o.err = o.limits.Flush()
	}
	return o.err
}

// refuse says why there is no end.
func (o *callWriter) refuse(problem apiError) {
	if !o.begun {
		writeError(o.w, problem)
		return
	}
	if text, err := problem.MarshalJSON(); err == nil {
		o.data(text)
	}
}
