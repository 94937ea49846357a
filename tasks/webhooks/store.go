package webhooks

import (
	"cmp"
	"context"
	_ "embed" // for the scripts
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks/envelope"
	"github.com/forebay-queue/forebay/tasks/events"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/seal"
)

var (
	//go:embed create.lua
	createSource string
	//go:embed begin.lua
	beginSource string
	//go:embed settle.lua
	settleSource string
	//go:embed finish.lua
	finishSource string
	//go:embed postpone.lua
	postponeSource string
	//go:embed redeliver.lua
	redeliverSource string
	//go:embed admit.lua
	admitSource string
	//go:embed report.lua
	reportSource string
	//go:embed switchon.lua
	switchonSource string

	createScript    = redis.NewScript(createSource)
	beginScript     = redis.NewScript(beginSource)
	settleScript    = redis.NewScript(settleSource)
	finishScript    = redis.NewScript(finishSource)
	postponeScript  = redis.NewScript(postponeSource)
	redeliverScript = redis.NewScript(redeliverSource)
	admitScript     = redis.NewScript(admitSource)
	reportScript    = redis.NewScript(reportSource)
	switchonScript  = redis.NewScript(switchonSource)
)

// defaultKeep is how long a delivered webhook is kept that does not say.
const defaultKeep = 24 * time.Hour

// Config configures a Store.
type Config struct {
	// Redis is where webhooks are kept. Required. The Store does not close it.
	Redis redis.UniversalClient
	// Prefix stands before every key. Defaults to keyspace.DefaultPrefix.
	Prefix string
	// Sealer encrypts where a webhook goes, with which headers, and what was answered. Defaults to none.
	Sealer *seal.Sealer
	// Shards is into how many shards the queue of new webhooks is divided. Defaults to 1.
	Shards keyspace.Shards
}

// Store reads and writes what is known of webhooks. It may be used by any number of goroutines.
type Store struct {
	redis  redis.UniversalClient
	keys   keyspace.Keyspace
	sealer *seal.Sealer
	shards keyspace.Shards
	queue  *asynq.Client
}

// New returns a Store. It sends nothing yet.
func New(config Config) (*Store, error) {
	if config.Redis == nil {
		return nil, errors.New("webhooks: Config.Redis is missing; give it a client of go-redis")
	}
	return &Store{
		redis: config.Redis, keys: keyspace.New(config.Prefix), sealer: config.Sealer, shards: config.Shards,
		queue: asynq.NewClientFromRedisClient(config.Redis),
	}, nil
}

// Create makes a webhook known and enqueues it. It may be repeated: of one that is known nothing changes, but that it
// stands in the lists, and has its task while it is pending.
func (s *Store) Create(ctx context.Context, w Webhook) error {
	if err := w.validate(); err != nil {
		return fmt.Errorf("create a webhook: %w", err)
	}
	if w.Keep == 0 {
		w.Keep = defaultKeep
	}
	fields, err := s.fieldsOf(w)
	if err != nil {
		return fmt.Errorf("create webhook %s: %w", w.ID, err)
	}
	words, err := s.run(ctx, "create", w.ID, createScript, []string{s.keys.Webhook(w.ID)}, fields...)
	if err != nil {
		return err
	}
	if words[3] != w.Tenant {
		return fmt.Errorf("create webhook %s: another tenant has one of this id", w.ID)
	}
	cycle, err := strconv.Atoi(words[2])
	if err != nil {
		return fmt.Errorf("create webhook %s: its cycle is %q", w.ID, words[2])
	}
	record := &Record{Webhook: w, State: State(words[1]), Cycle: cycle, Shard: keyspace.Shard(words[4])}
	if record.State.Ended() {
		record.EndedAt = time.Now()
	}
	if err := s.Index(ctx, record); err != nil {
		return err
	}
	if record.State.Ended() {
		return nil
	}
	return s.Enqueue(ctx, record, time.Time{})
}

// Enqueue makes sure of the task of a pending webhook's cycle, which is due at a time; zero is now.
func (s *Store) Enqueue(ctx context.Context, r *Record, at time.Time) error {
	task, options, err := envelope.NewWebhook(s.keys, r.Shard, r.ID, r.Event, r.Cycle, at)
	if err != nil {
		return err
	}
	if _, err := s.queue.EnqueueContext(ctx, task, options...); err != nil && !errors.Is(err, asynq.ErrTaskIDConflict) {
		return fmt.Errorf("enqueue webhook %s: %w", r.ID, err)
	}
	return nil
}

// Index puts a webhook into the lists of its state, and takes it out of the others.
func (s *Store) Index(ctx context.Context, r *Record) error {
	entry := redis.Z{Score: float64(r.At.UnixMilli()), Member: r.ID}
	pipe := s.redis.Pipeline()
	for _, tenant := range []string{"", r.Tenant} {
		pipe.ZAdd(ctx, s.keys.Webhooks("", tenant), entry)
		for _, list := range []string{"pending", "dead", "ended"} {
			if list == r.State.list() {
				pipe.ZAdd(ctx, s.keys.Webhooks(list, tenant), entry)
			} else {
				pipe.ZRem(ctx, s.keys.Webhooks(list, tenant), r.ID)
			}
		}
	}
	expiring, ended := r.Tenant+"/"+r.ID, cmp.Or(r.EndedAt, time.Now()) // of one that somebody else has ended it is not known
	if r.State.list() == "ended" {
		pipe.ZAdd(ctx, s.keys.WebhooksExpiring(), redis.Z{Score: float64(ended.Add(r.Keep).UnixMilli()), Member: expiring})
	} else {
		pipe.ZRem(ctx, s.keys.WebhooksExpiring(), expiring)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("list webhook %s as %s: %w", r.ID, r.State, err)
	}
	return nil
}

// Get reads a webhook. An empty tenant is any; another one's webhook is ErrNotFound. Where something of it is sealed and
// cannot be opened it returns the rest, with an error that wraps seal.ErrUnreadable.
func (s *Store) Get(ctx context.Context, id, tenant string) (*Record, error) {
	fields, err := s.redis.HGetAll(ctx, s.keys.Webhook(id)).Result()
	if err != nil {
		return nil, fmt.Errorf("read webhook %.80s: %w", id, err)
	}
	if fields["state"] == "" || (tenant != "" && fields["tenant"] != tenant) {
		return nil, fmt.Errorf("webhook %.80s: %w", id, ErrNotFound)
	}
	return s.parse(id, fields)
}

// Redeliver begins the schedule of a webhook anew, whatever has become of it, with the same id.
func (s *Store) Redeliver(ctx context.Context, id, tenant string) error {
	record, err := s.Get(ctx, id, tenant)
	if err != nil {
		return err
	}
	words, err := s.run(ctx, "redeliver", id, redeliverScript, []string{s.keys.Webhook(id)})
	if err != nil {
		return err
	}
	if record.Cycle, err = strconv.Atoi(words[1]); err != nil {
		return fmt.Errorf("redeliver webhook %s: its cycle is %q", id, words[1])
	}
	record.State = Pending
	if err := s.Index(ctx, record); err != nil {
		return err
	}
	return s.Enqueue(ctx, record, time.Time{})
}

// Discard gives up a webhook that is pending or dead. One that has ended otherwise is ErrEnded. It need not be readable.
func (s *Store) Discard(ctx context.Context, id, tenant string) error {
	record, err := s.Get(ctx, id, tenant)
	if err != nil && !errors.Is(err, seal.ErrUnreadable) {
		return err
	}
	return s.finish(ctx, record, Discarded, ReasonDiscarded, "0")
}

// Die ends a pending webhook without an attempt, for a reason. It must be the record's cycle still.
func (s *Store) Die(ctx context.Context, r *Record, reason string) error {
	if err := s.finish(ctx, r, Dead, reason, strconv.Itoa(r.Cycle)); err != nil {
		return err
	}
	return s.tellDead(ctx, r)
}

func (s *Store) finish(ctx context.Context, r *Record, state State, reason, cycle string) error {
	_, err := s.run(ctx, "end", r.ID, finishScript, []string{s.keys.Webhook(r.ID)}, string(state), reason,
		r.Keep.Milliseconds(), cycle)
	if err != nil {
		return err
	}
	r.State, r.Reason, r.EndedAt = state, reason, time.Now()
	return s.Index(ctx, r)
}

// Postpone writes down what a pending webhook waits for, and for how long.
func (s *Store) Postpone(ctx context.Context, r *Record, reason string, wait time.Duration) error {
	_, err := s.run(ctx, "postpone", r.ID, postponeScript, []string{s.keys.Webhook(r.ID)}, reason, wait.Milliseconds())
	return err
}

func (s *Store) tellDead(ctx context.Context, r *Record) error {
	return events.Publish(ctx, s.redis, s.keys, "webhook.dead", "webhook", r.ID, "event", r.Event, "tenant", r.Tenant,
		"reason", r.Reason, "host", Host(r.To.URL))
}

// refusals are what the words of scripts mean.
var refusals = map[string]error{
	"not_found": ErrNotFound, "ended": ErrEnded, "stale": ErrStale, "open": ErrOpen,
}

// run runs a script, and returns its words: four of them, empty where it gave fewer.
func (s *Store) run(ctx context.Context, verb, id string, script *redis.Script, keys []string, args ...any) ([5]string, error) {
	reply, err := script.Run(ctx, s.redis, keys, args...).StringSlice()
	if err != nil {
		return [5]string{}, fmt.Errorf("%s webhook %.80s: %w", verb, id, err)
	}
	var words [5]string
	copy(words[:], reply)
	if refusal, found := refusals[words[0]]; found {
		return words, fmt.Errorf("%s webhook %.80s: %w", verb, id, refusal)
	}
	return words, nil
}

// fieldsOf are the fields of a record that never change.
func (s *Store) fieldsOf(w Webhook) ([]any, error) {
	headers, err := json.Marshal(w.To.Headers)
	if err != nil {
		return nil, fmt.Errorf("its headers: %w", err)
	}
	url, err := s.sealer.Seal(s.keys.Webhook(w.ID), fieldURL, w.To.URL)
	if err != nil {
		return nil, err
	}
	sealed, err := s.sealer.Seal(s.keys.Webhook(w.ID), fieldHeaders, string(headers))
	if err != nil {
		return nil, err
	}
	fields := []any{
		"event", w.Event, "tenant", w.Tenant, fieldURL, url, "secret", w.To.Secret, fieldHeaders, sealed,
		"job", w.Job, "run", w.Run, "batch", w.Batch, "at", w.At.UnixMilli(), "keep", w.Keep.Milliseconds(),
	}
	for name, value := range w.Trace.Headers() {
		fields = append(fields, name, value)
	}
	if shard := s.shards.Of(w.ID); shard != keyspace.Unsharded {
		fields = append(fields, "shard", string(shard))
	}
	return fields, nil
}
