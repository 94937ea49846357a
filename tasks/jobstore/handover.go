package jobstore

import (
	"context"
	_ "embed" // for the scripts
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/webhooks"
)

var (
	//go:embed handed.lua
	handedSource string
	//go:embed told.lua
	toldSource string

	handedScript = redis.NewScript(handedSource)
	toldScript   = redis.NewScript(toldSource)
)

// The defaults of Replies.
const (
	defaultReplies  = 100_000
	defaultReplyAge = 7 * 24 * time.Hour
)

// Replies is how long results stay in reply streams.
type Replies struct {
	// MaxLen is about how many entries a stream keeps, the newest. Defaults to 100000.
	MaxLen int
	// MaxAge is about how long an entry is kept. Defaults to 168h.
	MaxAge time.Duration
}

// Webhooks are those that the ends of this Store's jobs set off.
func (s *Store) Webhooks() *webhooks.Store { return s.webhooks }

// Event is the event of a job's end: "job.succeeded".
func Event(end tasks.Status) string { return "job." + string(end) }

// hasWaysOut tells that somebody is told of the job's end beside those who ask: by a stream or a webhook. Of a job that
// cannot be read it is not known, and left to those who can.
func (r *Record) hasWaysOut() bool {
	return r.unread || r.Job.ReplyStream != "" || r.Job.Webhook != nil
}

// owes tells that the job has ended and that not everybody has been told.
func (r *Record) owes() bool { return r.Status.Ended() && r.hasWaysOut() && r.handed != r.Run }

// handOver tells those of a job's end who are to be told: its reply stream and its webhook. The id stays in the index's
// open set until it is done, so that whoever finds it there, ended, does it for one who died. The stream may be told
// twice, the webhook is made once.
func (s *Store) handOver(ctx context.Context, record *Record) error {
	if !record.owes() {
		return nil
	}
	if record.unread {
		return fmt.Errorf("tell of the end of job %s: %w", record.ID, ErrUnreadable)
	}
	if record.Job.ReplyStream != "" {
		if err := s.reply(ctx, record); err != nil {
			return err
		}
	}
	if event := Event(record.Status); record.Job.Webhook.Wants(event) {
		if err := s.webhooks.Create(ctx, s.webhookOf(record, event)); err != nil {
			return fmt.Errorf("make the webhook of job %s: %w", record.ID, err)
		}
	}
	_, err := s.run(ctx, call{verb: "hand over", id: record.ID, script: handedScript, keys: []string{s.keys.Job(record.ID)}, args: []any{record.Run}})
	if err == nil {
		record.handed = record.Run
	}
	return err
}

// fieldReply is the name under which a result is sealed that stands in a reply stream.
const fieldReply = "reply"

// OpenReply reads the field result of an entry of a reply stream, of the job that the entry names.
func (s *Store) OpenReply(id, text string) (tasks.Result, error) {
	opened, err := s.openField(id, fieldReply, text)
	var result tasks.Result
	if err == nil {
		err = json.Unmarshal([]byte(opened), &result)
	}
	if err != nil {
		return tasks.Result{}, fmt.Errorf("read the reply of job %s: %w", id, err)
	}
	return result, nil
}

// reply puts the result into the job's reply stream.
func (s *Store) reply(ctx context.Context, record *Record) error {
	result, err := encodeSealed(s, "reply with", record.ID, fieldReply, record.Result())
	if err != nil {
		return err
	}
	kept := s.replies.Load()
	stream := s.keys.Reply(record.Tenant, record.Job.ReplyStream)
	pipe := s.redis.Pipeline()
	pipe.XAdd(ctx, &redis.XAddArgs{
		Stream: stream, MaxLen: int64(kept.MaxLen), Approx: true,
		Values: []any{"id", record.ID, "run", record.Run, "status", string(record.Status), "result", result},
	})
	oldest := time.Now().Add(-kept.MaxAge).UnixMilli()
	pipe.XTrimMinIDApprox(ctx, stream, strconv.FormatInt(oldest, 10), 0)
	// A stream that nobody writes to any more goes with its last entry.
	pipe.PExpire(ctx, stream, kept.MaxAge)
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("put the result of job %s into the stream %s: %w", record.ID, stream, err)
	}
	return nil
}

// WebhookID is that of the webhook of a job's run. It is the same for whoever makes it.
func (r *Record) WebhookID(run int) string {
	return webhooks.ID("job", r.ID, strconv.Itoa(run), formatTime(r.CreatedAt))
}

func (s *Store) webhookOf(record *Record, event string) webhooks.Webhook {
	return webhooks.Webhook{
		ID: record.WebhookID(record.Run), Event: event, Tenant: record.Tenant, To: *record.Job.Webhook,
		Job: record.ID, Run: record.Run, At: record.FinishedAt, Keep: record.retention(),
		Trace: record.Job.Trace,
	}
}

// conclude reads a job that has just ended, tells everybody of it, and moves it in the index. Who is told goes on in the
// trace, that of the delivery which ended it, or in the job's where it is the zero value.
func (s *Store) conclude(ctx context.Context, id string, trace tasks.TraceContext) error {
	record, err := s.Get(ctx, id)
	if err != nil {
		return err
	}
	if trace.Parent != "" {
		record.Job.Trace = trace
	}
	return errors.Join(s.Report(ctx, record), s.Reindex(ctx, record))
}

// WebhookTold says that the webhook of a job's run has been delivered, or that nobody wants it any more: the record is
// kept for so long from now on, unless it is a dead letter. One of an earlier run changes nothing.
func (s *Store) WebhookTold(ctx context.Context, id string, run int, keep time.Duration) error {
	if keep <= 0 {
		keep = DefaultRetention
	}
	_, err := s.run(ctx, call{
		verb: "release", id: id, script: toldScript, keys: []string{s.keys.Job(id)}, args: []any{run, milliseconds(keep)},
	})
	return err
}

// keptFor is how long the record is kept after an end; 0 is until somebody decides, or its webhook has been delivered.
func (r *Record) keptFor(end tasks.Status) time.Duration {
	if end == tasks.StatusFailed && r.Refused == "" || r.Job.Webhook.Wants(Event(end)) {
		return 0
	}
	return r.retention()
}
