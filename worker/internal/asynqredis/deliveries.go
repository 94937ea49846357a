package asynqredis

import (
	"context"
	"hash/fnv"
	"sync"
	"time"

	"github.com/hibiken/asynq"
	"github.com/rs/zerolog"

	"github.com/forebay-queue/forebay/worker/internal/slots"
)

const (
	// beginLimit is how long after asynq has started a delivery's goroutine its handler may be called. What was not
	// called by then never will be: asynq has dropped it.
	beginLimit = 30 * time.Second
	// overLimit is how long a delivery is remembered whose ack does not come, because its lease was lost.
	overLimit = 2 * time.Minute
	// sweepEvery is how often forgotten deliveries are looked for.
	sweepEvery = time.Second
)

type state int

const (
	handed  state = iota // to asynq, which has not called the handler
	running              // in the handler
	over                 // the handler has returned, the ack is still to come
)

// delivery is one task between its dequeue and its ack. Its slot is freed when the handler returns; or by an ack
// without a handler, which is how asynq ends a delivery whose deadline has passed; or, when neither comes, by the
// sweep.
type delivery struct {
	id      string
	mark    uint64 // fingerprint of the message, which every ack but requeue changes or deletes
	state   state
	since   time.Time // handed: when asynq is known to have started it; over: when the handler returned
	hasSlot bool
}

// deliveries are those of one client.
type deliveries struct {
	lane *slots.Lane
	log  zerolog.Logger

	mu    sync.Mutex
	byID  map[string]*delivery
	swept time.Time
}

func newDeliveries(lane *slots.Lane, log zerolog.Logger) *deliveries {
	return &deliveries{lane: lane, log: log, byID: make(map[string]*delivery)}
}

// Handler wraps the server's handler, so that a delivery's slot is free again when the handler returns, whether by
// itself, by a panic, or long after asynq has given the delivery up. Every server of a Client needs it.
func (c *Client) Handler(next asynq.Handler) asynq.Handler {
	return asynq.HandlerFunc(func(ctx context.Context, task *asynq.Task) error {
		id, _ := asynq.GetTaskID(ctx)
		d := c.deliveries.begin(id)
		defer c.deliveries.end(d)
		return next.ProcessTask(ctx, task)
	})
}

// handOut registers a task that asynq gets now. It brings its slot along.
func (ds *deliveries) handOut(id, msg string) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	if old := ds.byID[id]; old != nil && old.state == handed {
		ds.free(old) // dropped by asynq, else the task could not come again
	}
	ds.byID[id] = &delivery{id: id, mark: fingerprint(msg), hasSlot: true}
}

// begin marks a delivery as running; nil when it is not known, because it was taken for dropped.
func (ds *deliveries) begin(id string) *delivery {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	d := ds.byID[id]
	if d == nil || d.state != handed {
		return nil
	}
	d.state = running
	return d
}

// end frees the slot of a delivery whose handler has returned.
func (ds *deliveries) end(d *delivery) {
	if d == nil {
		return
	}
	ds.mu.Lock()
	defer ds.mu.Unlock()
	d.state, d.since = over, time.Now()
	ds.free(d)
}

// find returns the delivery that an ack belongs to, or nil. The acks of asynq's recoverer, which come with a
// context that nothing ends, belong to none.
func (ds *deliveries) find(ctx context.Context, id string) *delivery {
	if ctx.Done() == nil {
		return nil
	}
	ds.mu.Lock()
	defer ds.mu.Unlock()
	return ds.byID[id]
}

// acked forgets a delivery that asynq has ended. A handler that still runs keeps its slot until it returns.
func (ds *deliveries) acked(d *delivery) {
	if d == nil {
		return
	}
	ds.mu.Lock()
	defer ds.mu.Unlock()
	if d.state == handed {
		ds.free(d)
	}
	ds.forget(d)
}

// sweep frees the slots of deliveries that asynq dropped between the dequeue and the handler, and forgets those
// whose ack will not come. It is called by asynq's fetching goroutine, which starts each delivery's goroutine before
// it asks for the next task.
func (ds *deliveries) sweep() {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	now := time.Now()
	if now.Sub(ds.swept) < sweepEvery {
		return
	}
	ds.swept = now
	for _, d := range ds.byID {
		switch {
		case d.state == handed && d.since.IsZero():
			d.since = now
		case d.state == handed && now.Sub(d.since) > beginLimit:
			ds.log.Warn().Str("task", d.id).Msg("asynq dropped a task without calling its handler: its slot is free again")
			ds.free(d)
			ds.forget(d)
		case d.state == over && now.Sub(d.since) > overLimit:
			ds.forget(d)
		}
	}
}

func (ds *deliveries) free(d *delivery) {
	if d.hasSlot {
		d.hasSlot = false
		ds.lane.Release(1)
	}
}

func (ds *deliveries) forget(d *delivery) {
	if ds.byID[d.id] == d {
		delete(ds.byID, d.id)
	}
}

func fingerprint(msg string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(msg))
	return h.Sum64()
}
