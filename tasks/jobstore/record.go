package jobstore

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/batches"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

// DefaultRetention is how long the record of an ended job is kept when the job does not say.
const DefaultRetention = 24 * time.Hour

// timeLayout is how every time in the hash reads: RFC 3339, UTC, milliseconds.
const timeLayout = "2006-01-02T15:04:05.000Z"

const ledgerPrefix = "a:"

// Record is a job's record as it was read.
type Record struct {
	ID          string
	Status      tasks.Status
	Job         tasks.Job
	Fingerprint string
	Tenant      string
	TaskType    string
	Priority    tasks.Priority
	// Shard is that of the priority's queue, from the job's creation to its end.
	Shard keyspace.Shard
	// PromptTokens is the estimate of the request's tokens before its answer; 0 where none was made at the way in.
	PromptTokens int
	// Run is 1, and one more for every reopening.
	Run int

	// The zero time is one that has not come.
	CreatedAt, RunAt, StartedAt, FinishedAt time.Time

	// Refused names what was refused, where the job never was one; see Store.Refuse.
	Refused string
	// Cancel is set while a running job is asked to end.
	Cancel bool
	// Failures, Deaths and Deliveries are those of this run.
	Failures, Deaths, Deliveries int
	// Delivery and Worker hold the job while it is running; otherwise they were the last to hold it.
	Delivery, Worker string
	Waiting          *tasks.Waiting
	LastError        *tasks.Failure
	// Waits are the last 20 waits of all runs that were written, the one that lasts among them, the oldest first.
	Waits []tasks.Waiting

	// Attempts is the ledger of all runs, by Seq.
	Attempts []tasks.Attempt
	// Response is the provider's body, byte for byte.
	Response []byte
	// Previous are the results of earlier runs, the oldest first.
	Previous []tasks.Result

	// handed is the run of whose end everybody has been told who is to be.
	handed int
	// unread tells that the record lacks fields that could not be opened.
	unread bool
	result *tasks.Result
	// jobText is the job as it was written: a newer contract's fields are kept.
	jobText string
	// intents are the ledger's texts, by Seq: an orphan is closed only while its intent is what was read.
	intents map[int]string
}

// Get reads a record. It answers ErrNotFound where there is none, and ErrUnreadable, with what can be read, where a field
// is sealed and cannot be opened.
func (s *Store) Get(ctx context.Context, id string) (*Record, error) {
	fields, err := s.redis.HGetAll(ctx, s.keys.Job(id)).Result()
	if err != nil {
		return nil, fmt.Errorf("read job %s: %w", id, err)
	}
	if fields["status"] == "" {
		return nil, fmt.Errorf("read job %s: %w", id, ErrNotFound)
	}
	return s.readRecord(id, fields)
}

func parseRecord(id string, fields map[string]string) (*Record, error) {
	record := &Record{
		ID: id, Status: tasks.Status(fields["status"]), Fingerprint: fields["fingerprint"], Tenant: fields["tenant"],
		TaskType: fields["task_type"], Priority: tasks.Priority(fields["priority"]), Shard: keyspace.Shard(fields["shard"]), Cancel: fields["cancel"] == "1", Refused: fields["refused"],
		Delivery: fields["delivery"], Worker: fields["worker"], jobText: fields["job"],
	}
	if response, found := fields["response"]; found {
		record.Response = []byte(response)
	}
	parser := fieldParser{id: id, fields: fields}
	parser.integer("prompt_tokens", &record.PromptTokens)
	parser.integer("run", &record.Run)
	parser.integer("failures", &record.Failures)
	parser.integer("deaths", &record.Deaths)
	parser.integer("deliveries", &record.Deliveries)
	parser.integer("handed", &record.handed)
	parser.time("created_at", &record.CreatedAt)
	parser.time("run_at", &record.RunAt)
	parser.time("started_at", &record.StartedAt)
	parser.time("finished_at", &record.FinishedAt)
	parser.json("waiting", &record.Waiting)
	parser.waits(&record.Waits)
	parser.json("last_error", &record.LastError)
	parser.json("result", &record.result)
	parser.json("previous", &record.Previous)
	parser.ledger(record)
	if parser.err != nil {
		return nil, parser.err
	}
	job, err := decodeJob(fields["job"])
	if err != nil {
		return nil, fmt.Errorf("read job %s: field job: %w", id, err)
	}
	record.Job = job
	record.Job.Member = parseMembership(fields["member"])
	record.Job.Trace = tasks.TraceContext{Parent: fields[tasks.TraceParentField], State: fields[tasks.TraceStateField]}
	return record, nil
}

// fieldParser reads fields one after the other and keeps the first error.
type fieldParser struct {
	id     string
	fields map[string]string
	err    error
}

func (p *fieldParser) failed(name string, err error) {
	if err != nil && p.err == nil {
		p.err = fmt.Errorf("read job %s: field %s: %w", p.id, name, err)
	}
}

func (p *fieldParser) integer(name string, into *int) {
	if text := p.fields[name]; text != "" {
		value, err := strconv.Atoi(text)
		p.failed(name, err)
		*into = value
	}
}

func (p *fieldParser) time(name string, into *time.Time) {
	if text := p.fields[name]; text != "" {
		value, err := time.Parse(time.RFC3339, text)
		p.failed(name, err)
		*into = value
	}
}

func (p *fieldParser) json(name string, into any) {
	if text := p.fields[name]; text != "" {
		p.failed(name, json.Unmarshal([]byte(text), into))
	}
}

func (p *fieldParser) waits(into *[]tasks.Waiting) {
	for line := range strings.Lines(p.fields["waits"]) {
		var wait tasks.Waiting
		p.failed("waits", json.Unmarshal([]byte(line), &wait))
		*into = append(*into, wait)
	}
}

func (p *fieldParser) ledger(record *Record) {
	for name, text := range p.fields {
		if !strings.HasPrefix(name, ledgerPrefix) {
			continue
		}
		var attempt tasks.Attempt
		p.json(name, &attempt)
		record.Attempts = append(record.Attempts, attempt)
		if record.intents == nil {
			record.intents = map[int]string{}
		}
		record.intents[attempt.Seq] = text
	}
	slices.SortFunc(record.Attempts, func(a, b tasks.Attempt) int { return a.Seq - b.Seq })
}

// lastSeq is the number of the latest attempt.
func (r *Record) lastSeq() int {
	if len(r.Attempts) == 0 {
		return 0
	}
	return r.Attempts[len(r.Attempts)-1].Seq
}

// retention is how long the record is kept after an end that is no failure.
func (r *Record) retention() time.Duration {
	keep := DefaultRetention
	if r.Job.Retention > 0 {
		keep = time.Duration(r.Job.Retention)
	}
	if r.Job.Member != nil {
		keep = max(keep, batches.Kept) // until its answer is written, which Release says
	}
	return keep
}

func formatTime(at time.Time) string { return at.UTC().Format(timeLayout) }

// toMilliseconds is at as it will read in a record.
func toMilliseconds(at time.Time) time.Time { return at.UTC().Truncate(time.Millisecond) }

func millisecondsOf(at *time.Time) *time.Time {
	if at == nil {
		return nil
	}
	cut := toMilliseconds(*at)
	return &cut
}
