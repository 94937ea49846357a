package activity

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/events"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/metrics"
)

const (
	// tellEvery is how often events are written, countEvery how often counts are.
	tellEvery  = 100 * time.Millisecond
	countEvery = time.Second
	// writeWithin bounds one writing.
	writeWithin = 2 * time.Second
	// mostEvents bounds what is kept to be written: more than the stream holds is of no use.
	mostEvents = events.Most
	// warnEvery is how often the log hears that nothing can be written.
	warnEvery = time.Minute
)

// Recorder counts what one process does. Its methods return at once; a nil Recorder counts nothing. It is made by New,
// and Close writes what is left.
type Recorder struct {
	redis redis.UniversalClient
	keys  keyspace.Keyspace
	log   zerolog.Logger
	// unwritten counts the events that were dropped.
	unwritten prometheus.Counter
	// now is the time; a test's own.
	now func() time.Time

	mutex   sync.Mutex
	counts  map[string]int64
	events  [][]any
	dropped int64
	timer   *time.Timer
	// counted is when the counts were last written.
	counted time.Time
	closed  bool

	// writing is held by the one that writes.
	writing sync.Mutex
	warned  time.Time
}

// New returns a Recorder; registerer may be nil. It sends nothing before there is something to be told.
func New(client redis.UniversalClient, keys keyspace.Keyspace, registerer prometheus.Registerer, log zerolog.Logger) *Recorder {
	return &Recorder{
		redis: client, keys: keys, log: log, now: time.Now, counts: map[string]int64{},
		unwritten: metrics.Register(registerer, prometheus.NewCounter(prometheus.CounterOpts{
			Name: "forebay_events_dropped_total", Help: "Events of jobs that were not written to their stream, because Redis was away or too slow.",
		})),
	}
}

// Accepted counts jobs that are new.
func (r *Recorder) Accepted(jobs int) {
	r.record(func() { r.counts[field(wordAccepted)] += int64(jobs) })
}

// Ended counts a job's end, and tells of it. The catalog is that of the process, which may be nil.
func (r *Recorder) Ended(known *catalog.Catalog, job tasks.Job, status tasks.Status, result tasks.Result) {
	if r == nil {
		return
	}
	taskType, tier := metrics.TaskType(known, job), metrics.Tier(known, job, result.Model)
	took := time.Duration(-1)
	if result.CreatedAt != nil && result.FinishedAt != nil {
		took = max(0, result.FinishedAt.Sub(*result.CreatedAt))
	}
	event := event{kind: "job." + string(status), job: job, run: result.Run, tier: tier, took: took, cost: result.CostUSD, attempts: len(result.Attempts)}
	event.model, event.endpoint = result.Model, result.Endpoint
	if result.Error != nil {
		event.code, event.class = metrics.Code(result.Error.Code), metrics.Class(result.Error.Class)
	}
	told := r.fields(event)
	r.record(func() {
		r.counts[field(wordEnded, string(status), taskType, tier)]++
		if event.code != "" {
			r.counts[field(wordCode, event.code)]++
		}
		if took >= 0 {
			r.counts[field(wordJob, bucket(took))]++
		}
		r.tell(told)
	})
}

// Retried counts a delivery that failed and is repeated, and tells of it.
func (r *Recorder) Retried(known *catalog.Catalog, job tasks.Job, run int, failure *tasks.Failure, attempts int) {
	if r == nil {
		return
	}
	event := event{kind: "job.retrying", job: job, run: run, tier: metrics.Tier(known, job, ""), took: -1, attempts: attempts}
	event.class = metrics.Class(tasks.ClassInternal)
	if failure != nil {
		event.code, event.class = metrics.Code(failure.Code), metrics.Class(failure.Class)
	}
	told := r.fields(event)
	r.record(func() {
		r.counts[field(wordRetried, event.class)]++
		r.tell(told)
	})
}

// Attempted counts a call of a job that has ended. Its time is counted where it was made.
func (r *Recorder) Attempted(known *catalog.Catalog, job tasks.Job, attempt tasks.Attempt, called bool, took time.Duration) {
	if r == nil {
		return
	}
	r.record(func() {
		r.counts[field(wordAttempt, attempt.Endpoint, attempt.Model, metrics.Class(attempt.Class))]++
		if called {
			r.counts[field(wordCall, attempt.Endpoint, bucket(took))]++
		}
		usage := attempt.Usage
		if usage == nil {
			return
		}
		r.counts[field(wordTokens, "prompt", attempt.Endpoint, attempt.Model)] += int64(max(0, usage.PromptTokens))
		r.counts[field(wordTokens, "completion", attempt.Endpoint, attempt.Model)] += int64(max(0, usage.CompletionTokens))
		r.counts[field(wordCost, metrics.TaskType(known, job), metrics.Tier(known, job, attempt.Model), attempt.Model)] += nanos(attempt.CostUSD)
		if known != nil {
			_, dearest := known.DearestCost(job.Kind, *usage)
			r.counts[field(wordDearest)] += nanos(dearest)
		}
	})
}

func nanos(usd float64) int64 { return int64(max(0, usd)*1e9 + 0.5) }

// record changes what is to be written, and has it be.
func (r *Recorder) record(change func()) {
	if r == nil {
		return
	}
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if r.closed {
		return
	}
	change()
	if r.timer == nil {
		r.timer = time.AfterFunc(tellEvery, r.flush)
	}
}

// event is one of a job.
type event struct {
	kind                               string
	job                                tasks.Job
	run                                int
	tier, model, endpoint, code, class string
	cost                               float64
	took                               time.Duration
	attempts                           int
}

// fields are an event as the stream has it.
func (r *Recorder) fields(e event) []any {
	fields := []any{
		"type", e.kind, "at", r.now().UTC().Format(events.Layout), "job", e.job.ID, "run", e.run, "tenant", e.job.Tenant,
		"task_type", e.job.TaskType, "queue", string(e.job.Priority), "tier", e.tier, "model", e.model, "endpoint", e.endpoint,
		"code", e.code, "class", e.class, "cost_usd", strconv.FormatFloat(e.cost, 'f', -1, 64), "attempts", e.attempts,
	}
	if e.took >= 0 {
		fields = append(fields, "took_ms", e.took.Milliseconds())
	}
	return fields
}

// tell keeps an event until it is written. The newest are kept.
func (r *Recorder) tell(fields []any) {
	if len(r.events) >= mostEvents {
		r.events, r.dropped = r.events[1:], r.dropped+1
		r.unwritten.Inc()
	}
	r.events = append(r.events, fields)
}

// flush writes what there is, and comes back as long as something is left.
func (r *Recorder) flush() {
	r.write(context.Background())
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.timer = nil
	if !r.closed && len(r.events)+len(r.counts) > 0 {
		r.timer = time.AfterFunc(tellEvery, r.flush)
	}
}

// write writes the events, and the counts once they are due or the Recorder is closed. What cannot be written is dropped.
func (r *Recorder) write(ctx context.Context) {
	r.writing.Lock()
	defer r.writing.Unlock()
	ctx, cancel := context.WithTimeout(ctx, writeWithin)
	defer cancel()
	now := r.now()
	r.mutex.Lock()
	told, counts := r.events, map[string]int64(nil)
	r.events = nil
	if r.closed || now.Sub(r.counted) >= countEvery {
		counts, r.counts, r.counted = r.counts, map[string]int64{}, now
	}
	r.mutex.Unlock()
	if len(told)+len(counts) == 0 {
		return
	}
	pipe := r.redis.Pipeline()
	for _, fields := range told {
		pipe.XAdd(ctx, &redis.XAddArgs{Stream: r.keys.JobEvents(), MaxLen: events.Most, Approx: true, Values: fields})
	}
	if len(counts) > 0 {
		for _, span := range []span{fine, coarse} {
			key := span.key(r.keys, now)
			for name, count := range counts {
				pipe.HIncrBy(ctx, key, name, count)
			}
			pipe.Expire(ctx, key, span.keep)
		}
	}
	if _, err := pipe.Exec(ctx); err != nil {
		r.lost(len(told), err)
	}
}

// lost says that something could not be written, not more than once a minute.
func (r *Recorder) lost(told int, err error) {
	r.mutex.Lock()
	r.dropped += int64(told)
	r.unwritten.Add(float64(told))
	dropped := r.dropped
	r.mutex.Unlock()
	if time.Since(r.warned) < warnEvery {
		return
	}
	r.warned = time.Now()
	r.log.Warn().Err(fmt.Errorf("write what jobs did to Redis: %w", err)).Int64("dropped", dropped).
		Msg("the activity of this process is not shown in full; jobs and their results are not touched by that")
}

// Dropped is how many events were not written, since the beginning.
func (r *Recorder) Dropped() int64 {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return r.dropped
}

// Close writes what is left, for some seconds at most, and has the Recorder count no more.
func (r *Recorder) Close(ctx context.Context) {
	if r == nil {
		return
	}
	r.mutex.Lock()
	r.closed = true
	if r.timer != nil {
		r.timer.Stop()
	}
	r.mutex.Unlock()
	r.write(ctx)
}
