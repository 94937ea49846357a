package httpapi

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/forebay-queue/forebay/tasks"
)

const (
	// mostInFrame is how many events are sent at a time; of more the newest are, and the others are counted.
	mostInFrame = 200
	// framesKept is how many frames wait for a listener. One that is slower than that loses the oldest.
	framesKept = 16
)

type liveInput struct {
	LastEventID string `header:"Last-Event-ID" doc:"The id of the last frame that was seen: what came after it is sent first. Browsers send it by themselves"`
}

// streamLive answers server-sent events of the deployment: how it stands, what it did, and the events of operators and
// of jobs.
func (a *API) streamLive(ctx context.Context, input *liveInput) (*huma.StreamResponse, error) {
	identity := IdentityOf(ctx)
	if !identity.Operator && identity.Tenant == "" {
		return nil, mayOperate(ctx, false)
	}
	return &huma.StreamResponse{Body: func(answer huma.Context) {
		request, w := humago.Unwrap(answer)
		header := w.Header()
		header.Set("Content-Type", "text/event-stream; charset=utf-8")
		header.Set("X-Accel-Buffering", "no") // proxies are to pass events on at once
		w.WriteHeader(http.StatusOK)
		if request.Method == http.MethodHead {
			return
		}
		s := &eventStream{w: w, limits: http.NewResponseController(w)}
		s.write(fmt.Sprintf("retry: %d\n\n", reconnectAfter.Milliseconds()))
		s.send("hello", "", struct {
			Session session `json:"session"`
		}{a.session(ctx)})
		a.listen(ctx, s, identity, input.LastEventID)
	}}, nil
}

// listen writes frames until the client leaves or the process is ending.
func (a *API) listen(ctx context.Context, s *eventStream, identity Identity, last string) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(a.draining, cancel)()
	l := a.hub.join(identity)
	defer a.hub.leave(l)
	l.awaitReading(ctx)
	s.frame(l, a.hub.backlog(ctx, last))
	heartbeat := time.NewTicker(a.config.Heartbeat)
	defer heartbeat.Stop()
	for s.err == nil {
		select {
		case <-ctx.Done():
			return
		case <-heartbeat.C:
			s.write(": nothing new\n\n")
		case f := <-l.frames:
			s.frame(l, f)
		}
	}
}

// liveEvent is an entry of a stream of events.
type liveEvent struct {
	id string
	// job tells that it is of the stream of jobs, tenant whose it is; operators' events are nobody's.
	job    bool
	tenant string
	data   json.RawMessage
}

// shownTo tells whether somebody may see an event.
func (e liveEvent) shownTo(identity Identity) bool {
	return identity.Operator || e.job && e.tenant != "" && e.tenant == identity.Tenant
}

// frame is what is sent at a time: a status, an activity, or events.
type frame struct {
	name string
	// data is that of a status or an activity.
	data []byte
	// at is how far the streams were read, events what came.
	at     position
	events []liveEvent
}

// frame writes what a listener may see of a frame.
func (s *eventStream) frame(l *listener, f frame) {
	if f.name != frameEvents {
		if l.identity.Operator || f.name == frameStore {
			s.write(fmt.Sprintf("event: %s\ndata: %s\n\n", f.name, f.data))
		}
		return
	}
	shown := struct {
		Events  []json.RawMessage `json:"events"`
		Dropped int64             `json:"dropped,omitempty"`
	}{Events: []json.RawMessage{}}
	news := l.news(f)
	kept := newest(news, mostInFrame)
	for _, event := range kept {
		shown.Events = append(shown.Events, event.data)
	}
	shown.Dropped = int64(len(news)-len(kept)) + l.lost.Swap(0)
	if len(shown.Events) > 0 || shown.Dropped > 0 {
		s.send(frameEvents, f.at.String(), shown)
	}
}

// news are the events of a frame that the listener may see and was not shown before: its backlog and the first frames
// behind it may have the same ones.
func (l *listener) news(f frame) []liveEvent {
	var news []liveEvent
	for _, event := range f.events {
		seen := l.at.operators
		if event.job {
			seen = l.at.jobs
		}
		if event.shownTo(l.identity) && (seen == "" || entryBefore(seen, event.id)) {
			news = append(news, event)
		}
	}
	if l.at.operators == "" || entryBefore(l.at.operators, f.at.operators) {
		l.at.operators = f.at.operators
	}
	if l.at.jobs == "" || entryBefore(l.at.jobs, f.at.jobs) {
		l.at.jobs = f.at.jobs
	}
	return news
}

// newest leaves out the oldest events of what are too many: those of jobs before any of operators.
func newest(events []liveEvent, most int) []liveEvent {
	over := len(events) - most
	if over <= 0 {
		return events
	}
	kept := make([]liveEvent, 0, len(events))
	for _, event := range events {
		if over > 0 && event.job {
			over--
			continue
		}
		kept = append(kept, event)
	}
	return kept[over:]
}

// send writes one event with its data as JSON.
func (s *eventStream) send(name, id string, what any) {
	data, err := tasks.Encode(what)
	if err != nil {
		s.err = cmp.Or(s.err, err)
		return
	}
	var event bytes.Buffer
	if id != "" {
		fmt.Fprintf(&event, "id: %s\n", id)
	}
	fmt.Fprintf(&event, "event: %s\ndata: %s\n\n", name, data)
	s.write(event.String())
}

// position is how far the two streams were read: ids of entries, "0" for their beginnings.
type position struct{ operators, jobs string }

// String is what a client sends back as Last-Event-ID.
func (p position) String() string { return p.operators + "," + p.jobs }

// parsePosition reads what a client sent. What cannot be one is the zero position.
func parsePosition(text string) (position, bool) {
	operators, jobs, found := strings.Cut(text, ",")
	if !found || !isEntryID(operators) || !isEntryID(jobs) {
		return position{}, false
	}
	return position{operators, jobs}, true
}

func isEntryID(text string) bool {
	if text == "" || len(text) > 41 { // two numbers of 64 bits
		return false
	}
	for i, part := range strings.Split(text, "-") {
		if i > 1 || part == "" || strings.Trim(part, "0123456789") != "" {
			return false
		}
	}
	return true
}
