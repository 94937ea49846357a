package envelope

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hibiken/asynq"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

// HealthTypePrefix begins the type of the tasks that are health probes: "health:<endpoint>". They are no jobs, and have
// no record.
const HealthTypePrefix = "health:"

// healthTimeout is asynq's own for one health probe. The worker's are shorter.
const healthTimeout = time.Minute

// HealthProbe is one health probe of one endpoint: it is made once for each tick.
type HealthProbe struct {
	Endpoint string
	// Tick is the time for which it is made, a whole multiple of Every by the clock of Redis.
	Tick time.Time
	// Every is the time from one tick to the next, at least 1s. A health probe that waited for so long is not made.
	Every time.Duration
}

// healthPayload is the payload of a health probe's task.
type healthPayload struct {
	TickMS  int64 `json:"tick_ms"`
	EveryMS int64 `json:"every_ms"`
}

// TaskID is the id of the health probe's task. No job has such an id.
func (p HealthProbe) TaskID() string {
	return HealthTypePrefix + p.Endpoint + ":" + strconv.FormatInt(p.Tick.UnixMilli(), 10)
}

// Previous is the health probe of the tick before.
func (p HealthProbe) Previous() HealthProbe {
	p.Tick = p.Tick.Add(-p.Every)
	return p
}

// Late tells that the health probe has waited until the next one was due.
func (p HealthProbe) Late(now time.Time) bool { return !now.Before(p.Tick.Add(p.Every)) }

// NewHealthProbe makes the task of a health probe, and the options to enqueue it with: into the most urgent queue,
// under its TaskID, and to be remembered until the next tick, so that none is made twice.
func NewHealthProbe(keys keyspace.Keyspace, probe HealthProbe) (*asynq.Task, []asynq.Option, error) {
	if !tasks.ValidName(probe.Endpoint) || probe.Every < time.Second {
		return nil, nil, fmt.Errorf("make a health probe of endpoint %q, every %s: the name or the time is not valid", probe.Endpoint, probe.Every)
	}
	payload, err := json.Marshal(healthPayload{probe.Tick.UnixMilli(), probe.Every.Milliseconds()})
	if err != nil {
		return nil, nil, fmt.Errorf("make a health probe of endpoint %s: %w", probe.Endpoint, err)
	}
	return asynq.NewTask(HealthTypePrefix+probe.Endpoint, payload), []asynq.Option{
		asynq.TaskID(probe.TaskID()),
		asynq.Queue(HealthQueue(keys)),
		// With none, asynq would put into its archive what a worker's death interrupts. Repeated, it is late.
		asynq.MaxRetry(MaxRetry),
		asynq.Timeout(healthTimeout),
		asynq.Retention(probe.Every),
	}, nil
}

// HealthQueue is the queue of the health probes: no shard, so that all schedulers mean the same one, whatever number of
// shards they know.
func HealthQueue(keys keyspace.Keyspace) string {
	return Queue(keys, tasks.PriorityCritical, keyspace.Unsharded)
}

// IsHealthProbe tells health probes from jobs.
func IsHealthProbe(task *asynq.Task) bool { return strings.HasPrefix(task.Type(), HealthTypePrefix) }

// DecodeHealthProbe reads the task of a health probe; any other is ErrForeign.
func DecodeHealthProbe(task *asynq.Task) (HealthProbe, error) {
	endpoint, found := strings.CutPrefix(task.Type(), HealthTypePrefix)
	var payload healthPayload
	err := json.Unmarshal(task.Payload(), &payload)
	if err != nil || !found || !tasks.ValidName(endpoint) || payload.TickMS <= 0 || payload.EveryMS <= 0 {
		return HealthProbe{}, fmt.Errorf("task of type %q with %d bytes: %w", printable(task.Type()), len(task.Payload()), ErrForeign)
	}
	return HealthProbe{
		Endpoint: endpoint, Tick: time.UnixMilli(payload.TickMS), Every: time.Duration(payload.EveryMS) * time.Millisecond,
	}, nil
}
