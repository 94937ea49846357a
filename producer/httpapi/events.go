package httpapi

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/forebay-queue/forebay/tasks"
)

// reconnectAfter is how long a client is to wait before it asks again after a stream that broke off.
const reconnectAfter = 2 * time.Second

type eventsInput struct {
	ID          string `path:"id" maxLength:"4096" doc:"The job's id"`
	LastEventID string `header:"Last-Event-ID" doc:"The id of the last event that was seen: it is not sent again. Browsers send it by themselves"`
}

// streamEvents answers server-sent events: how the job stands, each change, and its end, after which the stream ends.
//
// The end is published, and told at once. That a job runs or waits again is not published, since that would cost every
// delivery something that few look at: it is looked for every Config.Reread, for as long as somebody listens.
func (a *API) streamEvents(ctx context.Context, input *eventsInput) (*huma.StreamResponse, error) {
	result, err := a.read(ctx, input.ID)
	if err != nil {
		return nil, err
	}
	return &huma.StreamResponse{Body: func(answer huma.Context) {
		request, w := humago.Unwrap(answer)
		if result.Status.Ended() && eventID(result) == input.LastEventID {
			w.WriteHeader(http.StatusNoContent) // it tells a browser not to ask again
			return
		}
		header := w.Header()
		header.Set("Content-Type", "text/event-stream; charset=utf-8")
		header.Set("X-Accel-Buffering", "no") // proxies are to pass events on at once
		w.WriteHeader(http.StatusOK)
		if request.Method == http.MethodHead {
			return
		}
		s := &eventStream{w: w, limits: http.NewResponseController(w), last: input.LastEventID}
		s.write(fmt.Sprintf("retry: %d\n\n", reconnectAfter.Milliseconds()))
		a.follow(ctx, s, result)
	}}, nil
}

// follow tells of a job until it ends, the client leaves or the process is ending.
func (a *API) follow(ctx context.Context, s *eventStream, result tasks.Result) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(a.draining, cancel)()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = a.client.Wait(ctx, result.ID) // however it returns, the job is read again
	}()
	defer func() { <-ended }()
	defer cancel()
	heartbeat, reread := time.NewTicker(a.config.Heartbeat), time.NewTicker(a.config.Reread)
	defer heartbeat.Stop()
	defer reread.Stop()
	over := ended
	for {
		s.tell(result)
		if result.Status.Ended() || s.err != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-heartbeat.C:
			s.write(": nothing new\n\n")
			continue
		case <-over:
			over = nil // where the wait could not go on, the ticker does
		case <-reread.C:
		}
		switch read, err := a.read(ctx, result.ID); {
		case err == nil:
			result = read
		case failure(result.ID, err).code == "job_not_found":
			return
		}
	}
}

// eventID names a state of a job.
func eventID(result tasks.Result) string {
	id := fmt.Sprintf("%d-%s-%d", result.Run, result.Status, len(result.Attempts))
	if result.Waiting != nil {
		id += fmt.Sprintf("-%d", result.Waiting.Since.UnixMilli())
	}
	return id
}

// eventStream writes server-sent events, and keeps the first error.
type eventStream struct {
	w      http.ResponseWriter
	limits *http.ResponseController
	last   string
	err    error
}

// tell writes an event unless it was the last one.
func (s *eventStream) tell(result tasks.Result) {
	id := eventID(result)
	if id == s.last {
		return
	}
	s.last = id
	name := "status"
	if result.Status.Ended() {
		name = "result"
	}
	data, err := tasks.Encode(result)
	if err != nil {
		s.err = err
		return
	}
	var event bytes.Buffer
	fmt.Fprintf(&event, "id: %s\nevent: %s\ndata: %s\n\n", id, name, data)
	s.write(event.String())
}

func (s *eventStream) write(text string) {
	if s.err != nil {
		return
	}
	_ = s.limits.SetWriteDeadline(time.Now().Add(answerWithin)) // not every writer has one
	if _, s.err = s.w.Write([]byte(text)); s.err == nil {
		s.err = s.limits.Flush()
	}
}
