package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/activity"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

// The names of the frames.
const (
	frameEvents   = "events"
	frameStatus   = "status"
	frameActivity = "activity"
	// frameStore says whether Redis answers: when it no longer does, and when it does again.
	frameStore = "store"
)

const (
	// eventsEvery is how often the streams are read, countsEvery how often the activity is, and statusEvery how often
	// the status is, while somebody listens. A status that takes long is read less often: statusShare of the time.
	eventsEvery = 200 * time.Millisecond
	countsEvery = time.Second
	statusEvery = time.Second
	statusShare = 5
	// answersWithin is how long Redis may take for the events before listeners are told that what they see is old.
	answersWithin = 2 * time.Second
	// mostRead is how many entries of a stream are read at a time.
	mostRead = 1000
	// backlogOf is how many events of each stream are read for a new listener, and backlogAfter how many after a break.
	backlogOf, backlogAfter = 30, 1000
)

// hub reads what happens for all who listen to this process: once, and while there is somebody.
type hub struct {
	redis  redis.UniversalClient
	keys   keyspace.Keyspace
	status func(ctx context.Context) (any, error)
	log    zerolog.Logger

	mutex     sync.Mutex
	listeners map[*listener]struct{}
	stop      context.CancelFunc // nil while nobody listens
	stopped   chan struct{}
	// reading is closed once it is known from where on the streams are read.
	reading chan struct{}
	// last are the frames that a new listener is shown at once.
	last map[string]frame
}

// listener is one who listens.
type listener struct {
	identity Identity
	frames   chan frame
	reading  <-chan struct{}
	// lost counts the events in frames that it was too slow for.
	lost atomic.Int64
	// at is how far it was shown the streams; only who writes to it looks at that.
	at position
}

// awaitReading returns once frames come that begin no later than a backlog which is read from now on ends: between the
// two nothing is missed. While Redis is away it returns after some seconds.
func (l *listener) awaitReading(ctx context.Context) {
	select {
	case <-l.reading:
	case <-ctx.Done():
	case <-time.After(readWithin):
	}
}

func newHub(client redis.UniversalClient, keys keyspace.Keyspace, status func(context.Context) (any, error), log zerolog.Logger) *hub {
	return &hub{redis: client, keys: keys, status: status, log: log, listeners: map[*listener]struct{}{}, last: map[string]frame{}}
}

// join has somebody listen. The first one starts the reading.
func (h *hub) join(identity Identity) *listener {
	l := &listener{identity: identity, frames: make(chan frame, framesKept)}
	h.mutex.Lock()
	defer h.mutex.Unlock()
	h.listeners[l] = struct{}{}
	for _, f := range h.last {
		l.frames <- f // there is room: it is new
	}
	if h.stop == nil {
		ctx, stop := context.WithCancel(context.Background())
		before, done, reading := h.stopped, make(chan struct{}), make(chan struct{})
		h.stop, h.stopped, h.reading = stop, done, reading
		go func() {
			defer close(done)
			if before != nil {
				<-before
			}
			h.run(ctx, reading)
		}()
	}
	l.reading = h.reading
	return l
}

// leave ends it. The last one ends the reading.
func (h *hub) leave(l *listener) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	delete(h.listeners, l)
	if len(h.listeners) == 0 && h.stop != nil {
		h.stop()
		h.stop, h.last = nil, map[string]frame{}
	}
}

// tell hands a frame to all. Who is too slow loses its oldest one.
func (h *hub) tell(ctx context.Context, f frame) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	if ctx.Err() != nil {
		return
	}
	if f.name != frameEvents {
		if bytes.Equal(h.last[f.name].data, f.data) {
			return
		}
		h.last[f.name] = f
	}
	for l := range h.listeners {
		select {
		case l.frames <- f:
			continue
		default:
		}
		select {
		case missed := <-l.frames:
			for _, event := range missed.events {
				if event.shownTo(l.identity) {
					l.lost.Add(1)
				}
			}
		default:
		}
		select {
		case l.frames <- f:
		default:
		}
	}
}

// run reads until nobody listens.
func (h *hub) run(ctx context.Context, reading chan<- struct{}) {
	var parts sync.WaitGroup
	parts.Go(func() { h.follow(ctx, reading) })
	parts.Go(func() { h.every(ctx, countsEvery, frameActivity, h.readActivity) })
	if h.status != nil {
		parts.Go(func() { h.every(ctx, statusEvery, frameStatus, h.status) })
	}
	parts.Wait()
}

// every reads something again and again, and tells of it.
func (h *hub) every(ctx context.Context, wait time.Duration, name string, read func(context.Context) (any, error)) {
	for ctx.Err() == nil {
		begun := time.Now()
		reading, cancel := context.WithTimeout(ctx, readWithin)
		what, err := read(reading)
		cancel()
		if err == nil {
			var data []byte
			if data, err = tasks.Encode(what); err == nil {
				h.tell(ctx, frame{name: name, data: data})
			}
		}
		if err != nil && ctx.Err() == nil {
			h.log.Debug().Err(err).Str("what", name).Msg("what is shown live cannot be read at the moment")
		}
		pause(ctx, max(wait, statusShare*time.Since(begun))-time.Since(begun))
	}
}

func (h *hub) readActivity(ctx context.Context) (any, error) {
	points, err := activity.Latest(ctx, h.redis, h.keys, time.Now())
	return struct {
		StepS  int              `json:"step_s"`
		Points []activity.Point `json:"points"`
	}{10, points}, err
}

// follow reads both streams, from now on.
func (h *hub) follow(ctx context.Context, reading chan<- struct{}) {
	var at position
	answered := true
	for ctx.Err() == nil {
		bounded, cancel := context.WithTimeout(ctx, answersWithin)
		read, err := h.read(bounded, at)
		cancel()
		if answers := err == nil; answers != answered && ctx.Err() == nil {
			answered = answers
			h.tell(ctx, frame{name: frameStore, data: fmt.Appendf(nil, `{"answers":%t}`, answers)})
		}
		switch {
		case err != nil:
			if ctx.Err() == nil {
				h.log.Debug().Err(err).Msg("the events cannot be read at the moment")
			}
		case at == position{}:
			at = read.at // what had happened before is the backlog of each listener
			close(reading)
		default:
			if at = read.at; len(read.events) > 0 {
				h.tell(ctx, read)
			}
		}
		pause(ctx, eventsEvery)
	}
}

func pause(ctx context.Context, wait time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(wait):
	}
}

// read reads what stands behind a position; from the zero one nothing, only where the streams end.
func (h *hub) read(ctx context.Context, from position) (frame, error) {
	if from == (position{}) {
		return h.newest(ctx, position{"0", "0"}, 1)
	}
	pipe := h.redis.Pipeline()
	operators := pipe.XRangeN(ctx, h.keys.Events(), "("+from.operators, "+", mostRead)
	jobs := pipe.XRangeN(ctx, h.keys.JobEvents(), "("+from.jobs, "+", mostRead)
	if _, err := pipe.Exec(ctx); err != nil {
		return frame{}, err
	}
	return newFrame(from, operators.Val(), jobs.Val()), nil
}

// newest reads the last entries of both streams behind a position.
func (h *hub) newest(ctx context.Context, from position, most int64) (frame, error) {
	pipe := h.redis.Pipeline()
	operators := pipe.XRevRangeN(ctx, h.keys.Events(), "+", "("+from.operators, most)
	jobs := pipe.XRevRangeN(ctx, h.keys.JobEvents(), "+", "("+from.jobs, most)
	if _, err := pipe.Exec(ctx); err != nil {
		return frame{}, err
	}
	return newFrame(from, reversed(operators.Val()), reversed(jobs.Val())), nil
}

func reversed(entries []redis.XMessage) []redis.XMessage {
	turned := make([]redis.XMessage, 0, len(entries))
	for i := len(entries) - 1; i >= 0; i-- {
		turned = append(turned, entries[i])
	}
	return turned
}

// backlog is what a new listener is shown first: what came after the last frame that it has seen, or the newest.
func (h *hub) backlog(ctx context.Context, last string) frame {
	ctx, cancel := context.WithTimeout(ctx, readWithin)
	defer cancel()
	from, most := position{"0", "0"}, int64(backlogOf)
	if seen, found := parsePosition(last); found {
		from, most = seen, backlogAfter
	}
	f, err := h.newest(ctx, from, most)
	if err != nil {
		return frame{name: frameEvents} // the events that follow are told all the same
	}
	return f
}

// newFrame makes a frame of entries, in the order of their times.
func newFrame(from position, operators, jobs []redis.XMessage) frame {
	f := frame{name: frameEvents, at: from}
	if count := len(operators); count > 0 {
		f.at.operators = operators[count-1].ID
	}
	if count := len(jobs); count > 0 {
		f.at.jobs = jobs[count-1].ID
	}
	for len(operators)+len(jobs) > 0 {
		switch {
		case len(jobs) == 0, len(operators) > 0 && !entryBefore(jobs[0].ID, operators[0].ID):
			f.events = append(f.events, liveEvent{id: operators[0].ID, data: eventData("operators", operators[0])})
			operators = operators[1:]
		default:
			tenant, _ := jobs[0].Values["tenant"].(string)
			f.events = append(f.events, liveEvent{id: jobs[0].ID, job: true, tenant: tenant, data: eventData("jobs", jobs[0])})
			jobs = jobs[1:]
		}
	}
	return f
}

// entryBefore compares ids of entries.
func entryBefore(a, b string) bool {
	aTime, aRest, _ := strings.Cut(a, "-")
	bTime, bRest, _ := strings.Cut(b, "-")
	if len(aTime) != len(bTime) {
		return len(aTime) < len(bTime)
	}
	if aTime != bTime {
		return aTime < bTime
	}
	if len(aRest) != len(bRest) {
		return len(aRest) < len(bRest)
	}
	return aRest < bRest
}

// eventData is an entry as JSON: its fields, with its id and the stream that it stands in.
func eventData(stream string, entry redis.XMessage) json.RawMessage {
	fields := make(map[string]any, len(entry.Values)+2)
	for name, value := range entry.Values {
		fields[name] = value
	}
	fields["id"], fields["stream"] = entry.ID, stream
	data, err := tasks.Encode(fields)
	if err != nil {
		return json.RawMessage("{}") // texts can be written
	}
	return data
}
