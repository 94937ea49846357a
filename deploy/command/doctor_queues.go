package command

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/deploy/config"
	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/producer/httpapi"
	"github.com/forebay-queue/forebay/producer/inbox"
	"github.com/forebay-queue/forebay/tasks/apikeys"
	"github.com/forebay-queue/forebay/tasks/batches"
	"github.com/forebay-queue/forebay/tasks/envelope"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/pauses"
)

const (
	// lately is what is told of as new.
	lately = time.Hour
	// inboxLate is how long an entry of the inbox may wait, inboxGone how long a consumer may be silent that is alive: it
	// reads at least every few seconds.
	inboxLate, inboxGone = time.Minute, 30 * time.Second
	// batchLate is how long a batch may stand without a producer: one takes over 30s after another has died.
	batchLate = time.Minute
	// unservedLate is how long a task may wait in a queue that workers have yet to find, which takes them seconds.
	unservedLate = time.Minute
	// mostBatches bounds how many are looked at, the oldest.
	mostBatches = 100
)

// patience is how long the oldest task of a queue may wait.
var patience = map[string]time.Duration{
	"critical": time.Minute, "default": 15 * time.Minute, "bulk": 24 * time.Hour, "webhooks": 10 * time.Minute,
}

// examineWorkers looks whether somebody does what waits.
func examineWorkers(ctx context.Context, client redis.UniversalClient, s *settings) ([]finding, error) {
	keys := keyspace.New(s.prefix)
	known, err := readFleet(ctx, client, keys)
	if err != nil {
		return nil, err
	}
	if workers := known.workers(); len(workers) > 0 {
		return append([]finding{{Code: codeWorkers, Level: levelOK, Subject: "workers", Message: fmt.Sprintf("%d alive", len(workers))}}, known.concerns()...), nil
	}
	found := finding{
		Code: codeNoWorkers, Level: levelWarning, Subject: "workers", Message: "no worker is alive: jobs are accepted and not done",
		Hint: "start one with `forebay worker`",
	}
	queues, err := producer.ReadQueues(ctx, client, keys)
	if err != nil {
		return nil, err
	}
	var waiting []string
	for _, queue := range queues.Queues {
		if count := queue.Pending + queue.Active + queue.Retry; count > 0 {
			waiting = append(waiting, fmt.Sprintf("%d in %s", count, queue.Queue))
		}
	}
	if len(waiting) > 0 {
		found.Level, found.Message = levelError, "no worker is alive, and tasks wait: "+strings.Join(waiting, ", ")
	}
	return append([]finding{found}, known.concerns()...), nil
}

// examineLeader looks at the lease of the leader, which somebody prolongs every second or two while a scheduler lives.
func examineLeader(ctx context.Context, client redis.UniversalClient, s *settings) ([]finding, error) {
	until, err := client.HGet(ctx, keyspace.New(s.prefix).Leader(), "until").Int64()
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, err
	}
	now, err := client.Time(ctx).Result()
	if err != nil || until > now.UnixMilli() {
		return nil, err
	}
	found := finding{
		Code: codeNoLeader, Level: levelError, Subject: "scheduler",
		Message: "no scheduler is alive: what a dead worker left is not mended, nothing expires, no endpoint is probed and no schedule ticks",
		Hint:    "start one with `forebay scheduler`, or two, of which one leads",
	}
	if until > 0 {
		found.Message += fmt.Sprintf("; the last one was heard of %s ago", brief(now.Sub(time.UnixMilli(until)).Round(time.Second)))
	}
	return []finding{found}, nil
}

// examineQueues looks how long the oldest task of each queue waits, or of each of its shards, whether a worker takes from
// it, and whether everybody agrees on how many shards there are.
func examineQueues(ctx context.Context, client redis.UniversalClient, s *settings) ([]finding, error) {
	keys := keyspace.New(s.prefix)
	paused, err := pauses.New(client, keys).Read(ctx)
	if err != nil {
		return nil, err
	}
	shards, err := envelope.FindShards(ctx, client, keys, s.shards())
	if err != nil {
		return nil, err
	}
	inspector := asynq.NewInspectorFromRedisClient(client)
	served := sync.OnceValue(func() map[string]bool { return servedQueues(inspector) })
	var findings []finding
	var beyond []string
	for _, shard := range shards {
		if !shard.Listed {
			continue
		}
		if s.file != nil && !s.shards().Has(shard.Shard) {
			beyond = append(beyond, shard.Label())
		}
		known, err := inspector.GetQueueInfo(shard.Name)
		if errors.Is(err, asynq.ErrQueueNotFound) {
			continue // it was empty, and was just taken off the list
		}
		if err != nil {
			return findings, err
		}
		if known.Pending == 0 || paused.Shard(shard.Queue, shard.Shard) {
			continue
		}
		if found := judgeQueue(shard, known, served); found != nil {
			findings = append(findings, *found)
		}
	}
	if len(beyond) > 0 {
		findings = append(findings, finding{
			Code: codeShardsBeyond, Level: levelWarning, Subject: "queues.shards",
			Message: fmt.Sprintf("it is %d here, and there are %s", max(1, s.shards()), strings.Join(beyond, ", ")),
			Hint:    "tell every process the same number; where it was lowered, workers empty those shards, and the leader removes them when they were empty for 10m",
		})
	}
	return findings, nil
}

// servedQueues are the queues, by their names in asynq, that some worker takes from; nil where that is not known. To ask
// makes asynq forget servers that have expired, so that nobody asks who need not.
func servedQueues(inspector *asynq.Inspector) map[string]bool {
	servers, err := inspector.Servers()
	if err != nil || len(servers) == 0 {
		return nil
	}
	served := map[string]bool{}
	for _, server := range servers {
		for name := range server.Queues {
			served[name] = true
		}
	}
	return served
}

// judgeQueue looks at a queue that is not empty and not paused, or at a shard of one.
func judgeQueue(shard envelope.ShardOfQueue, known *asynq.QueueInfo, served func() map[string]bool) *finding {
	waits := fmt.Sprintf("the oldest of its %s waits for %s", plural(known.Pending, "task"), brief(known.Latency.Round(time.Second)))
	if known.Latency < unservedLate {
		return nil
	}
	switch workers := served(); {
	case workers != nil && !workers[shard.Name]:
		return &finding{
			Code: codeQueueUnserved, Level: levelError, Subject: shard.Label(), Message: "workers are alive, and none takes from it: " + waits,
			Hint: "bring the workers to one version and one configuration: one that is older than shards does not see them",
		}
	case known.Latency > patience[shard.Queue]:
		return &finding{
			Code: codeQueueOld, Level: levelWarning, Subject: shard.Label(), Message: waits,
			Hint: "start more workers, or give them more worker.slots; where `forebay status` shows jobs that wait for limits or breakers, more would not help",
		}
	}
	return nil
}

// examineInbox looks at the stream of jobs, whose entries are deleted as they are accepted or refused.
func examineInbox(ctx context.Context, client redis.UniversalClient, s *settings) ([]finding, error) {
	keys := keyspace.New(s.prefix)
	var findings []finding
	first, err := client.XRangeN(ctx, keys.Inbox(), "-", "+", 1).Result()
	if err != nil {
		return nil, err
	}
	if len(first) > 0 {
		found, err := unread(ctx, client, keys, first[0].ID)
		if err != nil {
			return nil, err
		}
		findings = append(findings, found...)
	}
	since := strconv.FormatInt(time.Now().Add(-lately).UnixMilli(), 10)
	const most = 1000
	refused, err := client.XRevRangeN(ctx, keys.InboxRejected(), "+", since, most).Result()
	if err != nil || len(refused) == 0 {
		return findings, err
	}
	count := strconv.Itoa(len(refused))
	if len(refused) == most {
		count += " or more"
	}
	return append(findings, finding{
		Code: codeInboxRejected, Level: levelWarning, Subject: "inbox",
		Message: fmt.Sprintf("%s of its entries were refused within the last hour, the last one %s ago", count, brief(entryAge(refused[0].ID).Round(time.Second))),
		Hint:    "`redis-cli XREVRANGE " + keys.InboxRejected() + " + - COUNT 10` says why; correct whoever sends them, and send them again",
	}), nil
}

// unread tells of entries that wait, the oldest of which has this id.
func unread(ctx context.Context, client redis.UniversalClient, keys keyspace.Keyspace, oldest string) ([]finding, error) {
	age := entryAge(oldest)
	if age < inboxLate {
		return nil, nil
	}
	count, err := client.XLen(ctx, keys.Inbox()).Result()
	if err != nil {
		return nil, err
	}
	consumers, err := client.XInfoConsumers(ctx, keys.Inbox(), inbox.Group).Result()
	if err != nil && !redis.HasErrorPrefix(err, "NOGROUP") && !redis.HasErrorPrefix(err, "ERR no such key") {
		return nil, err
	}
	waits := fmt.Sprintf("%d of its entries wait, the oldest for %s", count, brief(age.Round(time.Second)))
	for _, consumer := range consumers {
		if consumer.Idle < inboxGone {
			return []finding{{
				Code: codeInboxUnread, Level: levelWarning, Subject: "inbox", Message: waits,
				Hint: "it is not read while inbox.max_queued tasks wait in the queues or Redis is nearly full; the producer's log says which. Start more workers",
			}}, nil
		}
	}
	return []finding{{
		Code: codeInboxUnread, Level: levelError, Subject: "inbox", Message: waits + ", and no producer reads it",
		Hint: "start `forebay producer`, with inbox.enabled: on",
	}}, nil
}

// entryAge is how old an entry of a stream is, by its id.
func entryAge(id string) time.Duration {
	stamp, _, _ := strings.Cut(id, "-")
	ms, _ := strconv.ParseInt(stamp, 10, 64)
	return time.Since(time.UnixMilli(ms))
}

// examineBatches looks for batches that a producer should be working on, and none is. Those whose members run need none.
func examineBatches(ctx context.Context, client redis.UniversalClient, s *settings) ([]finding, error) {
	store, err := batches.New(batches.Config{Redis: client, Prefix: s.prefix})
	if err != nil {
		return nil, err
	}
	open, err := store.Open(ctx)
	if err != nil {
		return nil, err
	}
	var stuck []string
	for _, id := range open[:min(len(open), mostBatches)] {
		batch, err := store.Get(ctx, id, "")
		if err != nil || !needsProducer(batch) {
			continue // it has just ended, or what is wrong with it is nothing that a producer could mend
		}
		taken, err := store.Leased(ctx, id)
		if err != nil {
			return nil, err
		}
		if !taken {
			stuck = append(stuck, id)
		}
	}
	if len(stuck) == 0 {
		return nil, nil
	}
	what := "1 batch is"
	if len(stuck) > 1 {
		what = fmt.Sprintf("%d batches are", len(stuck))
	}
	return []finding{{
		Code: codeBatchesStuck, Level: levelError, Subject: "batches",
		Message: fmt.Sprintf("%s to be read or written, such as %s, and no producer works on it", what, stuck[0]),
		Hint:    "start `forebay producer`, with batches.enabled: on and the files.url of the others",
	}}, nil
}

// needsProducer tells whether a batch has been standing for so long that a producer should have taken it.
func needsProducer(batch batches.Batch) bool {
	if batch.Kind != batches.KindFile {
		return false
	}
	switch batch.Status {
	case batches.StatusValidating:
		return time.Since(batch.CreatedAt) > batchLate
	case batches.StatusFinalizing:
		return time.Since(batch.FinalizingAt) > batchLate
	case batches.StatusCancelling:
		return batch.Counts.Ended() >= batch.Total && time.Since(batch.CancellingAt) > batchLate
	case batches.StatusInProgress, batches.StatusFailed, batches.StatusCompleted, batches.StatusExpired, batches.StatusCancelled:
	}
	return false
}

// examineAPIKeys looks whether somebody would be let in where the HTTP interface is not for this machine alone.
func examineAPIKeys(ctx context.Context, client redis.UniversalClient, s *settings) ([]finding, error) {
	if s.file == nil || s.file.HTTP.Listen == config.Off || httpapi.Loopback(s.file.HTTP.Listen) {
		return nil, nil
	}
	known, err := apikeys.New(client, keyspace.New(s.prefix)).List(ctx)
	if err != nil || len(known) > 0 {
		return nil, err
	}
	return []finding{{
		Code: codeNoAPIKeys, Level: levelError, Subject: "http.listen",
		Message: s.file.HTTP.Listen + " is not on loopback and there is no API key: `forebay producer` refuses to start there",
		Hint:    "`forebay keys create` makes one, or set http.listen to 127.0.0.1",
	}}, nil
}
