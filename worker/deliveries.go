package worker

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks/fleet"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/worker/internal/policy"
)

const (
	heartbeatInterval = fleet.Every
	// asynqCancel is the channel on which asynq's consoles cancel a task by its id.
	asynqCancel = "asynq:cancel"
)

// deliveries are those that run in this process. The zero value is ready.
type deliveries struct {
	mutex sync.Mutex
	open  map[*delivery]struct{}
	// idle is closed when none is open; nil until somebody waits for it.
	idle chan struct{}
}

func (r *deliveries) add(d *delivery) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if r.open == nil {
		r.open = map[*delivery]struct{}{}
	}
	r.open[d] = struct{}{}
}

func (r *deliveries) remove(d *delivery) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	delete(r.open, d)
	if len(r.open) == 0 && r.idle != nil {
		close(r.idle)
		r.idle = nil
	}
}

// busy tells whether one is open.
func (r *deliveries) busy() bool {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return len(r.open) > 0
}

// stop ends the deliveries of a job with a cause.
func (r *deliveries) stop(job string, cause error) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	for d := range r.open {
		if d.jobID == job {
			d.stop(cause)
		}
	}
}

// wait waits until nothing runs: asynq gives up a delivery whose lease it lost, but the call goes on.
func (r *deliveries) wait() {
	r.mutex.Lock()
	if len(r.open) == 0 {
		r.mutex.Unlock()
		return
	}
	if r.idle == nil {
		r.idle = make(chan struct{})
	}
	idle := r.idle
	r.mutex.Unlock()
	<-idle
}

// listen hears of cancelled jobs and of pauses until the Worker stops. What it misses while Redis is away is seen by
// the next step of the delivery, which is refused, or with the next heartbeat.
func (w *Worker) listen() {
	keys := keyspace.New(w.config.Prefix)
	channel, pauses := keys.Cancel(), keys.Pauses()
	subscription := w.redis.Subscribe(w.alive, channel, pauses, asynqCancel)
	defer func() { _ = subscription.Close() }()
	messages := subscription.Channel(redis.WithChannelSize(1000))
	for {
		select {
		case <-w.alive.Done():
			return
		case message, open := <-messages:
			switch {
			case !open:
				return
			case message.Channel == channel:
				w.running.stop(message.Payload, policy.ErrCancelled)
			case message.Channel == pauses:
				w.hearPauses()
			default:
				// A console's cancel gives the delivery back: the job itself is not cancelled. Behind a dot stands the run.
				job, _, _ := strings.Cut(message.Payload, ".")
				w.running.stop(job, policy.ErrAbandoned)
			}
		}
	}
}

// heartbeat keeps the Worker's liveness key until it stops, and looks at what is paused and at the endpoints' order.
func (w *Worker) heartbeat() {
	ticker := time.NewTicker(heartbeatInterval)
	defer ticker.Stop()
	var lost outageLog
	for {
		select {
		case <-w.writable.Done():
			return
		case <-ticker.C:
		}
		w.pulse.beat()
		ctx, cancel := context.WithTimeout(w.writable, heartbeatInterval)
		err := w.config.Member.Beat(ctx)
		cancel()
		if lost.tell(w, err); err != nil {
			continue // what follows needs Redis too
		}
		w.watchPauses()
		w.watchOrder()
		w.sweepHolds()
	}
}

// outageLog tells of an outage of Redis: when it begins, every half minute while it lasts, and when it is over. The zero
// value is ready.
type outageLog struct{ since, told time.Time }

func (o *outageLog) tell(w *Worker, err error) {
	switch {
	case err == nil && !o.since.IsZero():
		w.log.Info().Dur("away", time.Since(o.since)).Msg("Redis is back")
		*o = outageLog{}
	case err != nil && w.writable.Err() == nil && time.Since(o.told) >= repeatsEvery:
		o.told = time.Now()
		if o.since.IsZero() {
			o.since = o.told
		}
		w.log.Warn().Err(err).Msg("the worker's heartbeat did not reach Redis; running calls go on")
	}
}

// leave takes the liveness key away: whatever this Worker may have left open is nobody's any more.
func (w *Worker) leave() {
	if err := w.config.Member.Leave(context.Background()); err != nil {
		w.log.Warn().Err(err).Msg("the worker's liveness key expires by itself")
	}
}
