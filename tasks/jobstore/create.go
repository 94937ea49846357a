package jobstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/failpoint"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

// NewJob is a job as the catalog has prepared it, with the fingerprint of what its user asked for and the estimate of
// its prompt's tokens.
type NewJob struct {
	Job          tasks.Job
	Fingerprint  string
	PromptTokens int
}

// Created is what Create found or did. Where the job was there already, the fields are those of its record: its
// task belongs into that queue, at that time, for that run.
type Created struct {
	// Created is false for a job that was there.
	Created  bool
	Status   tasks.Status
	Run      int
	Priority tasks.Priority
	Shard    keyspace.Shard
	// RunAt is the zero time for a job without one.
	RunAt time.Time
	// replaced tells that the record of a refused job made room.
	replaced bool
}

// Create writes the record of a job and puts it into the index. A job that was there, with the same id, tenant and
// fingerprint, is left as it stands, and its index is mended. Another job with that id is an ErrIDConflict.
func (s *Store) Create(ctx context.Context, job NewJob) (Created, error) {
	created, errs := s.CreateMany(ctx, []NewJob{job})
	return created[0], errs[0]
}

// CreateMany is Create for many jobs in two round trips. What is wrong with one job is that job's error; both slices
// are as long as jobs.
func (s *Store) CreateMany(ctx context.Context, jobs []NewJob) ([]Created, []error) {
	created, errs := make([]Created, 0, len(jobs)), make([]error, 0, len(jobs))
	creations := make([]creation, 0, len(jobs))
	records, index := s.redis.Pipeline(), s.redis.Pipeline()
	for _, job := range jobs {
		creations = append(creations, s.createOn(ctx, records, job))
	}
	execute(ctx, records)
	failpoint.At("enqueue.recorded")
	for i := range creations {
		creations[i].read(ctx, s, index)
	}
	execute(ctx, index)
	accepted := 0
	for _, c := range creations {
		if c.err == nil && c.index != nil && c.index.Err() != nil {
			c.err = fmt.Errorf("index job %s: %w", c.job.ID, c.index.Err())
		}
		if c.err == nil && c.created.Created {
			accepted++
		}
		created, errs = append(created, c.created), append(errs, c.err)
	}
	if accepted > 0 {
		s.accepted(accepted)
	}
	return created, errs
}

// creation is one job on its way through the two pipelines.
type creation struct {
	job     tasks.Job
	record  *Pending[Created]
	index   *redis.IntCmd
	created Created
	err     error
}

func (s *Store) createOn(ctx context.Context, pipe redis.Pipeliner, job NewJob) creation {
	c, err := s.createCall(job)
	if err != nil {
		return creation{job: job.Job, err: err}
	}
	return creation{job: job.Job, record: pend(ctx, s, pipe, c, func(_ context.Context, r reply) (Created, error) {
		if r.word != "created" && r.word != "exists" {
			return Created{}, refused(c.verb, c.id, r.word)
		}
		return readCreated(c.id, r)
	})}
}

// read reads the record's reply and puts an open job into the index. One that is there keeps its place.
func (c *creation) read(ctx context.Context, s *Store, index redis.Pipeliner) {
	if c.record == nil {
		return
	}
	if c.created, c.err = c.record.Reply(ctx); c.err != nil || c.created.Status.Ended() {
		return
	}
	c.index = index.ZAddNX(ctx, s.keys.Index(keyspace.IndexShard(c.job.ID), indexOpen),
		redis.Z{Score: float64(deadlineOf(c.job).UnixMilli()), Member: c.job.ID})
	if c.created.replaced {
		index.ZRem(ctx, s.keys.Index(keyspace.IndexShard(c.job.ID), indexDead), c.job.ID)
	}
}

// execute sends a pipeline whose replies are read one by one.
func execute(ctx context.Context, pipe redis.Pipeliner) {
	if pipe.Len() > 0 {
		_, _ = pipe.Exec(ctx)
	}
}

func (s *Store) createCall(job NewJob) (call, error) {
	const verb = "create"
	id := job.Job.ID
	if !tasks.ValidID(id) || job.Fingerprint == "" || job.Job.Priority == "" {
		return call{}, fmt.Errorf("create job %q: %w", id, errors.New("id, priority or fingerprint is missing; prepare the job with the catalog first"))
	}
	createdAt := time.Now()
	if job.Job.CreatedAt != nil {
		createdAt = *job.Job.CreatedAt
	}
	var runAt, waiting string
	if at := job.Job.RunAt; at != nil {
		runAt = formatTime(*at)
		if at.After(createdAt) {
			var err error
			waiting, err = encode(verb, id, tasks.Waiting{Reason: "scheduled", Since: toMilliseconds(createdAt), Until: toMilliseconds(*at)})
			if err != nil {
				return call{}, err
			}
		}
	}
	text, err := encodeSealed(s, verb, id, fieldJob, job.Job)
	if err != nil {
		return call{}, err
	}
	var metadata string
	if len(job.Job.Metadata) > 0 {
		if metadata, err = encodeSealed(s, verb, id, fieldMetadata, job.Job.Metadata); err != nil {
			return call{}, err
		}
	}
	fingerprint, others := s.sealer.Fingerprint(s.keys.Job(id), job.Fingerprint)
	return call{
		verb: verb, id: id, script: createScript, keys: []string{s.keys.Job(id)},
		args: []any{
			fingerprint, job.Job.Tenant, text, job.Job.TaskType, string(job.Job.Priority),
			formatTime(createdAt), runAt, waiting, job.PromptTokens, metadata, membership(job.Job.Member),
			strings.Join(others, " "), string(s.shards.Of(id)), job.Job.Trace.Parent, job.Job.Trace.State,
		},
	}, nil
}

func readCreated(id string, r reply) (Created, error) {
	run, err := strconv.Atoi(r.text(1))
	if err != nil {
		return Created{}, fmt.Errorf("create job %s: the script answered the run %q", id, r.text(1))
	}
	created := Created{
		Created: r.word == "created", Status: tasks.Status(r.text(0)), Run: run, Priority: tasks.Priority(r.text(2)),
		replaced: r.text(4) != "", Shard: keyspace.Shard(r.text(5)),
	}
	if text := r.text(3); text != "" {
		if created.RunAt, err = time.Parse(time.RFC3339, text); err != nil {
			return Created{}, fmt.Errorf("create job %s: field run_at: %w", id, err)
		}
	}
	return created, nil
}
