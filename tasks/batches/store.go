package batches

import (
	"cmp"
	"context"
	_ "embed" // for the scripts
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/events"
	"github.com/forebay-queue/forebay/tasks/internal/gather"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/seal"
	"github.com/forebay-queue/forebay/tasks/webhooks"
)

var (
	//go:embed create.lua
	createSource string
	//go:embed fail.lua
	failSource string
	//go:embed begin.lua
	beginSource string
	//go:embed report.lua
	reportSource string
	//go:embed cancel.lua
	cancelSource string
	//go:embed finish.lua
	finishSource string
	//go:embed lease.lua
	leaseSource string

	createScript = redis.NewScript(createSource)
	failScript   = redis.NewScript(failSource)
	beginScript  = redis.NewScript(beginSource)
	reportScript = redis.NewScript(reportSource)
	cancelScript = redis.NewScript(cancelSource)
	finishScript = redis.NewScript(finishSource)
	leaseScript  = redis.NewScript(leaseSource)
)

// Config configures a Store.
type Config struct {
	// Redis is where batches are kept. Required. The Store does not close it.
	Redis redis.UniversalClient
	// Prefix stands before every key. Defaults to keyspace.DefaultPrefix.
	Prefix string
	// Sealer encrypts what users say of batches, and why they failed. Defaults to none.
	Sealer *seal.Sealer
	// Shards is into how many shards the queue of new webhooks is divided. Defaults to 1.
	Shards keyspace.Shards
}

// Store reads and writes what is known of batches. It may be used by any number of goroutines.
type Store struct {
	redis   redis.UniversalClient
	keys    keyspace.Keyspace
	sealer  *seal.Sealer
	reports *gather.Group[string, Report, struct{}]
	hooks   *webhooks.Store
}

// New returns a Store. It sends nothing yet.
func New(config Config) (*Store, error) {
	if config.Redis == nil {
		return nil, errors.New("batches: Config.Redis is missing; give it a client of go-redis")
	}
	hooks, err := webhooks.New(webhooks.Config{Redis: config.Redis, Prefix: config.Prefix, Sealer: config.Sealer, Shards: config.Shards})
	if err != nil {
		return nil, err
	}
	s := &Store{redis: config.Redis, keys: keyspace.New(config.Prefix), sealer: config.Sealer, hooks: hooks}
	s.reports = gather.New(mostReports, s.reportTogether)
	return s, nil
}

// Create makes a batch known: its ID, Tenant and Kind are required, and what has come of it is not looked at. Of one that
// is known nothing changes, and it reports false; one of another tenant is ErrNotFound.
func (s *Store) Create(ctx context.Context, b Batch) (created bool, err error) {
	if b.Kind != KindFile && b.Kind != KindRun || !tasks.ValidID(b.ID) || !tasks.ValidName(b.Tenant) {
		return false, fmt.Errorf("create batch %.80q: its id, tenant or kind is missing or not valid", b.ID)
	}
	b.CreatedAt = cmp.Or(b.CreatedAt, time.Now())
	fields, err := s.newFields(b)
	if err != nil {
		return false, fmt.Errorf("create batch %s: %w", b.ID, err)
	}
	// The lists first: an id without a batch is found there and taken out, a batch in no list never.
	pipe := s.redis.Pipeline()
	entry := redis.Z{Score: float64(b.CreatedAt.UnixMilli()), Member: b.ID}
	for _, list := range []string{s.keys.Batches(""), s.keys.Batches(b.Tenant), s.keys.OpenBatches()} {
		pipe.ZAddNX(ctx, list, entry)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return false, fmt.Errorf("create batch %s: %w", b.ID, err)
	}
	words, err := s.run(ctx, "create", b.ID, createScript, []string{s.keys.Batch(b.ID)}, fields...)
	switch {
	case err != nil:
		return false, err
	case words[0] == "exists" && words[2] != b.Tenant:
		return false, fmt.Errorf("create batch %s: %w", b.ID, ErrNotFound)
	}
	return words[0] == "created", nil
}

func (s *Store) newFields(b Batch) ([]any, error) {
	fields := []any{
		"tenant", b.Tenant, "kind", string(b.Kind), "created_at", b.CreatedAt.UnixMilli(),
		"retention", b.Retention.Milliseconds(), "output_expires_after", b.OutputExpiresAfter.Milliseconds(),
	}
	for _, text := range []struct{ name, value string }{
		{"name", b.Name}, {"endpoint", b.Endpoint}, {"completion_window", b.CompletionWindow}, {"input_file_id", b.InputFileID},
	} {
		if text.value != "" {
			fields = append(fields, text.name, text.value)
		}
	}
	for name, value := range b.Trace.Headers() {
		fields = append(fields, name, value)
	}
	if !b.Deadline.IsZero() {
		fields = append(fields, "deadline", b.Deadline.UnixMilli())
	}
	for _, value := range []struct {
		name  string
		of    any
		empty bool
	}{{fieldMetadata, b.Metadata, len(b.Metadata) == 0}, {fieldWebhooks, b.Webhooks, len(b.Webhooks) == 0}} {
		if value.empty {
			continue
		}
		encoded, err := tasks.Encode(value.of)
		if err != nil {
			return nil, err
		}
		sealed, err := s.sealer.Seal(s.keys.Batch(b.ID), value.name, string(encoded))
		if err != nil {
			return nil, err
		}
		fields = append(fields, value.name, sealed)
	}
	for name, note := range b.Notes {
		fields = append(fields, notePrefix+name, note)
	}
	return fields, nil
}

// Get reads a batch. An empty tenant is the operator's, who sees all; a batch of another tenant is ErrNotFound.
func (s *Store) Get(ctx context.Context, id, tenant string) (Batch, error) {
	fields, err := s.redis.HGetAll(ctx, s.keys.Batch(id)).Result()
	switch {
	case err != nil:
		return Batch{}, fmt.Errorf("read batch %s: %w", id, err)
	case fields["status"] == "", tenant != "" && fields["tenant"] != tenant:
		return Batch{}, fmt.Errorf("read batch %.80s: %w", id, ErrNotFound)
	}
	return s.parse(id, fields)
}

// Fail ends a batch that is being validated, with the reasons. Failing it again changes nothing.
func (s *Store) Fail(ctx context.Context, id string, problems []Problem) error {
	why, err := json.Marshal(problems)
	if err != nil {
		return fmt.Errorf("fail batch %s: %w", id, err)
	}
	sealed, err := s.sealer.Seal(s.keys.Batch(id), fieldProblems, string(why))
	if err != nil {
		return fmt.Errorf("fail batch %s: %w", id, err)
	}
	words, err := s.run(ctx, "fail", id, failScript, []string{s.keys.Batch(id), s.keys.BatchDone(id)}, sealed, Kept.Milliseconds())
	if err != nil || words[2] != "1" {
		return err
	}
	return s.Tell(ctx, id)
}

// Begin says that the batch has so many members, numbered from 0, which may be enqueued from now on. With more than
// before it grows, also one that has ended; with fewer nothing changes. It answers ErrCancelling, or ErrEnded for one
// that failed.
func (s *Store) Begin(ctx context.Context, id string, total int) error {
	if total < 1 {
		return fmt.Errorf("begin batch %s: it needs at least one member", id)
	}
	deadline, err := s.nextDeadline(ctx, id)
	if err != nil {
		return err
	}
	words, err := s.run(ctx, "begin", id, beginScript,
		[]string{s.keys.Batch(id), s.keys.BatchMembers(id), s.keys.BatchDone(id)}, total, deadline)
	if err != nil || words[2] != "1" {
		return err
	}
	return s.reopened(ctx, id)
}

// Cancel asks a batch to end, and returns it as it stands then: cancelling, or cancelled where it had no members yet.
// The members are the caller's to cancel: package producer has a Client for it. One that has ended is ErrEnded.
func (s *Store) Cancel(ctx context.Context, id, tenant string) (Batch, error) {
	if _, err := s.Get(ctx, id, tenant); err != nil {
		return Batch{}, err
	}
	words, err := s.run(ctx, "cancel", id, cancelScript, []string{s.keys.Batch(id), s.keys.BatchDone(id)}, Kept.Milliseconds())
	if err != nil {
		return Batch{}, err
	}
	if words[2] == "1" {
		if err := s.Tell(ctx, id); err != nil {
			return Batch{}, err
		}
	}
	return s.Get(ctx, id, tenant)
}

// Finish says that the output of a batch of KindFile is written, once all its members have ended: it is completed,
// expired or cancelled then. A file that there is none of is empty. Finishing it again changes nothing. It answers
// ErrNotEnded while members have not ended, as after one was run again.
func (s *Store) Finish(ctx context.Context, id, outputFile, errorFile string) (Batch, error) {
	words, err := s.run(ctx, "finish", id, finishScript,
		[]string{s.keys.Batch(id), s.keys.BatchMembers(id), s.keys.BatchDone(id)}, outputFile, errorFile, Kept.Milliseconds())
	if err != nil {
		return Batch{}, err
	}
	if words[2] == "1" {
		if err := s.Tell(ctx, id); err != nil {
			return Batch{}, err
		}
	}
	return s.Get(ctx, id, "")
}

// Lease takes a batch for the owner to work on it, or keeps it for so long. It reports false while another one has it.
func (s *Store) Lease(ctx context.Context, id, owner string, keep time.Duration) (bool, error) {
	words, err := s.run(ctx, "lease", id, leaseScript, []string{s.keys.Batch(id)}, owner, max(keep.Milliseconds(), 1))
	return err == nil && words[0] == "taken", err
}

// Leased tells whether somebody works on a batch.
func (s *Store) Leased(ctx context.Context, id string) (bool, error) {
	until, err := s.redis.HGet(ctx, s.keys.Batch(id), "owner_until").Int64()
	if err != nil && !errors.Is(err, redis.Nil) {
		return false, fmt.Errorf("read who works on batch %s: %w", id, err)
	}
	now, err := s.redis.Time(ctx).Result()
	if err != nil {
		return false, fmt.Errorf("read who works on batch %s: %w", id, err)
	}
	return until > now.UnixMilli(), nil
}

// Leave lets another one take the batch at once.
func (s *Store) Leave(ctx context.Context, id, owner string) error {
	_, err := s.run(ctx, "leave", id, leaseScript, []string{s.keys.Batch(id)}, owner, 0)
	return err
}

const notePrefix = "note:"

// Note writes down what whoever works on the batch needs to know to go on, such as how far its members are enqueued. It
// is read in Batch.Notes.
func (s *Store) Note(ctx context.Context, id string, notes map[string]string) error {
	fields := make([]any, 0, 2*len(notes))
	for name, note := range notes {
		fields = append(fields, notePrefix+name, note)
	}
	if len(fields) == 0 {
		return nil
	}
	if err := s.redis.HSet(ctx, s.keys.Batch(id), fields...).Err(); err != nil {
		return fmt.Errorf("note of batch %s: %w", id, err)
	}
	return nil
}

// Tell writes the event of a batch's end, makes its webhooks, and takes the batch out of the list of those that have not
// ended. It is told at least once: a crash in between has it told again. One that has not ended is left alone.
func (s *Store) Tell(ctx context.Context, id string) error {
	b, err := s.Get(ctx, id, "")
	if err != nil || !b.Status.Ended() {
		return err
	}
	err = events.Publish(ctx, s.redis, s.keys, "batch."+string(b.Status), "batch", b.ID, "tenant", b.Tenant, "name", b.Name,
		"total", b.Total, "succeeded", b.Counts.Succeeded, "failed", b.Counts.Failed, "cancelled", b.Counts.Cancelled,
		"expired", b.Counts.Expired, "cost_usd", strconv.FormatFloat(b.CostUSD, 'f', -1, 64))
	if err != nil {
		return err
	}
	if err := s.send(ctx, b); err != nil {
		return err
	}
	if err := s.redis.ZRem(ctx, s.keys.OpenBatches(), id).Err(); err != nil {
		return fmt.Errorf("take batch %s out of the list of open ones: %w", id, err)
	}
	return nil
}

// send makes the webhooks that tell of a batch's end. Each end has its own, and has them once.
func (s *Store) send(ctx context.Context, b Batch) error {
	event := "batch." + string(b.Status)
	for i, to := range b.Webhooks {
		if !to.Wants(event) {
			continue
		}
		end := strconv.FormatInt(b.EndedAt().UnixMilli(), 10)
		err := s.hooks.Create(ctx, webhooks.Webhook{
			ID: webhooks.ID("batch", b.ID, event, end, strconv.Itoa(i)), Event: event, Tenant: b.Tenant, To: to,
			Batch: b.ID, At: b.EndedAt(), Keep: Kept, Trace: b.Trace,
		})
		if err != nil {
			return fmt.Errorf("make the webhook of batch %s: %w", b.ID, err)
		}
	}
	return nil
}

// reopened puts a batch back among those that have not ended.
func (s *Store) reopened(ctx context.Context, id string) error {
	err := s.redis.ZAdd(ctx, s.keys.OpenBatches(), redis.Z{Score: float64(time.Now().UnixMilli()), Member: id}).Err()
	if err != nil {
		return fmt.Errorf("put batch %s among the open ones: %w", id, err)
	}
	return nil
}

// nextDeadline is the deadline of a batch that goes on after its end: as far from now as it was from its creation. 0 is
// none.
func (s *Store) nextDeadline(ctx context.Context, id string) (int64, error) {
	values, err := s.redis.HMGet(ctx, s.keys.Batch(id), "created_at", "deadline").Result()
	if err != nil {
		return 0, fmt.Errorf("read batch %s: %w", id, err)
	}
	text := func(i int) string { value, _ := values[i].(string); return value }
	created, _ := strconv.ParseInt(text(0), 10, 64)
	deadline, _ := strconv.ParseInt(text(1), 10, 64)
	if deadline <= created {
		return 0, nil
	}
	return time.Now().UnixMilli() + deadline - created, nil
}

// refusals are what the words of scripts mean.
var refusals = map[string]error{
	"not_found": ErrNotFound, "ended": ErrEnded, "cancelling": ErrCancelling, "open": ErrNotEnded,
}

// run runs a script, and returns its words: three of them, empty where it gave fewer.
func (s *Store) run(ctx context.Context, verb, id string, script *redis.Script, keys []string, args ...any) ([3]string, error) {
	reply, err := script.Run(ctx, s.redis, keys, args...).StringSlice()
	if err != nil {
		return [3]string{}, fmt.Errorf("%s batch %s: %w", verb, id, err)
	}
	var words [3]string
	copy(words[:], reply)
	if refusal, found := refusals[words[0]]; found {
		if words[1] != "" {
			refusal = fmt.Errorf("it is %s: %w", words[1], refusal)
		}
		return words, fmt.Errorf("%s batch %.80s: %w", verb, id, refusal)
	}
	return words, nil
}

// nanoUSD is a price in billionths of a dollar, as counters hold it.
func nanoUSD(usd float64) int64 { return int64(math.Round(usd * 1e9)) }
