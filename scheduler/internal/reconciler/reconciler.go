package reconciler

import (
	"context"
	_ "embed" // for the scripts
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/forebay-queue/forebay/tasks/envelope"
	"github.com/forebay-queue/forebay/tasks/jobstore"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

const (
	// lookEvery is how often leases are looked at, mendEvery how often everything else is.
	lookEvery = time.Second
	mendEvery = 5 * time.Second
	// stepTimeout bounds one step: a Redis that does not answer by then has not answered.
	stepTimeout = 4 * time.Second
)

var (
	//go:embed mend.lua
	mendSource string
	//go:embed restore.lua
	restoreSource string

	mendScript    = redis.NewScript(mendSource)
	restoreScript = redis.NewScript(restoreSource)
)

// Term is the time for which this process leads.
type Term interface {
	// Number is what the scripts compare: a later term's is higher.
	Number() int64
	// Err is not nil once this process may not act any more.
	Err() error
	// Above raises the number above one that was seen, or fails when this process leads no more.
	Above(ctx context.Context, seen int64) error
}

// Config configures a Reconciler. Redis, Store and Term are required.
type Config struct {
	// Redis is the client to use.
	Redis redis.UniversalClient
	// Store holds the records of the jobs.
	Store *jobstore.Store
	// Shards is into how many shards the queues are divided. Others are mended as well, and go once they are empty.
	// Defaults to 1.
	Shards keyspace.Shards
	// Term is the leader's.
	Term Term
	// Log takes a line for everything that was mended. The zero value discards them.
	Log zerolog.Logger
}

// Reconciler mends for one term of one leader. It is used by one goroutine.
type Reconciler struct {
	redis    redis.UniversalClient
	store    *jobstore.Store
	term     Term
	log      zerolog.Logger
	messages messages
	// inspector removes queues.
	inspector *asynq.Inspector
	shards    keyspace.Shards
	// queues are all that are known, strays what was seen of the others.
	queues   []*queue
	strays   strays
	records  records
	webhooks webhookReview
}

// queue is one of asynq's queues and what is known of it.
type queue struct {
	name   string
	of     envelope.ShardOfQueue
	keys   queueKeys
	leases leases
	// rank is where the next look into the long lists begins.
	rank int
	// readable are the active tasks whose messages have been looked at.
	readable map[string]bool
	// emptySince is since when a shard beyond the configured number is empty; the zero time while it is not.
	emptySince time.Time
}

// New returns a Reconciler that has seen nothing yet.
func New(config Config) (*Reconciler, error) {
	known, err := newMessages()
	if err != nil {
		return nil, err
	}
	r := &Reconciler{
		redis: config.Redis, store: config.Store, term: config.Term, log: config.Log, messages: known,
		records: newRecords(), webhooks: webhookReview{suspects: map[string]suspect{}},
		shards: config.Shards, inspector: asynq.NewInspectorFromRedisClient(config.Redis),
	}
	for _, of := range envelope.ShardsOf(config.Store.Keys(), config.Shards) {
		r.queues = append(r.queues, newQueue(of))
	}
	return r, nil
}

// Run mends until the context ends.
func (r *Reconciler) Run(ctx context.Context) {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	quiet := true
	var mended time.Time
	for ctx.Err() == nil {
		full := time.Since(mended) >= mendEvery
		if full {
			mended = time.Now()
		}
		if err := r.round(ctx, full); err == nil {
			quiet = true
		} else if ctx.Err() == nil {
			if quiet {
				r.log.Warn().Err(err).Msg("cannot mend at the moment; trying on")
			}
			quiet = false
		}
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}

// round looks at all leases, and mends what is to be mended now: everything when it is full, else only the queues in
// which a delivery is dead.
func (r *Reconciler) round(ctx context.Context, full bool) error {
	var problems []error
	if full {
		problems = append(problems, r.bounded(ctx, r.findQueues))
	}
	for _, q := range r.queues {
		if err := r.bounded(ctx, func(ctx context.Context) error { return r.visit(ctx, q, full) }); err != nil {
			problems = append(problems, fmt.Errorf("queue %s: %w", q.name, err))
		}
	}
	if full {
		problems = append(problems, r.reviewRecords(ctx), r.reviewWebhooks(ctx), r.reviewShards(ctx))
	}
	return errors.Join(problems...)
}

// bounded runs one step, unless this process leads no more.
func (r *Reconciler) bounded(ctx context.Context, step func(context.Context) error) error {
	if err := r.term.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	return step(ctx)
}

// visit looks at the leases of a queue and mends it where that is due.
func (r *Reconciler) visit(ctx context.Context, q *queue, full bool) error {
	if err := r.look(ctx, q); err != nil {
		return err
	}
	dead, err := r.dead(ctx, q)
	if err != nil || (len(dead) == 0 && !full) {
		return err
	}
	if err := r.mend(ctx, q, dead); err != nil || !full {
		return err
	}
	return r.readMessages(ctx, q)
}

// run runs a script that carries the term. A queue that has seen a later term than this process, which leads, has
// outlived the counter of terms: then the counter is raised and the script run again.
func (r *Reconciler) run(ctx context.Context, script *redis.Script, keys []string, args ...any) ([]string, error) {
	for again := false; ; again = true {
		if err := r.term.Err(); err != nil {
			return nil, err
		}
		reply, err := script.Run(ctx, r.redis, keys, append([]any{r.term.Number()}, args...)...).StringSlice()
		if err != nil {
			return nil, err
		}
		if len(reply) < 2 {
			return nil, fmt.Errorf("the script answered %d parts; versions of Forebay may be mixed", len(reply))
		}
		if reply[0] != "stale" {
			return reply, nil
		}
		seen, err := strconv.ParseInt(reply[1], 10, 64)
		if err != nil || again {
			return nil, fmt.Errorf("refused: a leader of term %s has been here", reply[1])
		}
		if err := r.term.Above(ctx, seen); err != nil {
			return nil, err
		}
	}
}
