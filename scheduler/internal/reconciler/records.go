package reconciler

import (
	"context"
	"errors"
	"hash/maphash"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks/envelope"
	"github.com/forebay-queue/forebay/tasks/jobstore"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

const (
	// missingFor is how long a job's task must have been missing.
	missingFor = time.Minute
	// pageSize is how many ids are read at once, and perReview how many of a set each time: a hundred thousand open
	// jobs are looked at within 100 s, for about 1 % of Redis's time.
	pageSize  = 500
	perReview = 5000
	// shortQueue is the longest pending list that is compared with the records.
	shortQueue = 1000
)

// records is where the review of the jobs' records stands.
type records struct {
	open, ended, failed walk
	// suspects are the open jobs whose tasks are not where they should be, and since when.
	suspects map[string]suspect
	// seen are the jobs that had a task in this pass over the open jobs or the one before, by a hash of their ids: if
	// they have none now, somebody has deleted it.
	seen, seenBefore map[uint64]struct{}
	seed             maphash.Seed
}

// suspect is a job whose task is missing.
type suspect struct {
	run   int
	since time.Time
	// hadTask tells that its task was seen before it was missing.
	hadTask bool
	// at is how far a living worker had come with it when it was judged, and since when it has not come further.
	at      string
	atSince time.Time
}

func newRecords() records {
	return records{
		open: walk{set: jobstore.SetOpen}, ended: walk{set: jobstore.SetEnded}, failed: walk{set: jobstore.SetDead},
		suspects: map[string]suspect{}, seen: map[uint64]struct{}{}, seenBefore: map[uint64]struct{}{},
		seed: maphash.MakeSeed(),
	}
}

// hadTask tells whether the job's run was seen with a task.
func (r *records) hadTask(taskID string) bool {
	key := maphash.String(r.seed, taskID)
	_, now := r.seen[key]
	_, before := r.seenBefore[key]
	return now || before
}

func (r *records) see(taskID string) { r.seen[maphash.String(r.seed, taskID)] = struct{}{} }

// walk goes round one set of the index, page by page through its shards.
type walk struct {
	set         jobstore.Set
	shard, rank int
}

// next reads the next page, and tells whether the walk has come round with it.
func (w *walk) next(ctx context.Context, store *jobstore.Store) (ids []string, round bool, err error) {
	ids, err = store.Page(ctx, w.shard, w.set, w.rank, pageSize)
	if err != nil {
		return nil, false, err
	}
	if w.rank += len(ids); len(ids) < pageSize {
		w.rank = 0
		w.shard = (w.shard + 1) % keyspace.IndexShards
	}
	return ids, w.shard == 0 && w.rank == 0, nil
}

// reviewRecords looks at the next of the open jobs, at those that are suspect, at those past their deadline, and takes
// ids out of the index whose records have expired. What goes wrong with one is looked at again.
func (r *Reconciler) reviewRecords(ctx context.Context) error {
	var problems []error
	for _, step := range []func(context.Context) error{
		r.reviewOpen, r.reviewSuspects, r.expire,
		func(ctx context.Context) error { return r.trim(ctx, &r.records.ended) },
		func(ctx context.Context) error { return r.trim(ctx, &r.records.failed) },
	} {
		problems = append(problems, step(ctx))
	}
	return errors.Join(problems...)
}

// reviewOpen looks at the next of the open jobs.
func (r *Reconciler) reviewOpen(ctx context.Context) error {
	pending := map[string]map[string]bool{}
	round, err := r.each(ctx, &r.records.open, func(ctx context.Context, ids []string) error {
		return r.review(ctx, ids, pending)
	})
	if round {
		r.records.seenBefore, r.records.seen = r.records.seen, map[uint64]struct{}{}
	}
	return err
}

// each does something with the next pages of a walk, for one round at the most; every page is a step of its own.
func (r *Reconciler) each(ctx context.Context, w *walk, do func(context.Context, []string) error) (round bool, err error) {
	for looked := 0; looked < perReview && !round && err == nil; {
		err = r.bounded(ctx, func(ctx context.Context) error {
			var ids []string
			var err error
			if ids, round, err = w.next(ctx, r.store); err != nil {
				return err
			}
			looked += len(ids)
			return do(ctx, ids)
		})
	}
	return round, err
}

// review looks at jobs that the index has for open. Pending remembers the pending lists read so far.
func (r *Reconciler) review(ctx context.Context, ids []string, pending map[string]map[string]bool) error {
	glances, err := r.store.Survey(ctx, ids)
	if err != nil {
		return err
	}
	var problems []error
	var open []jobstore.Glance
	for _, glance := range glances {
		if glance.Status == "" || glance.Status.Ended() {
			delete(r.records.suspects, glance.ID)
			problems = append(problems, r.store.MendIndex(ctx, glance.ID))
			continue
		}
		open = append(open, glance)
	}
	missing, err := r.missing(ctx, open, pending)
	if err != nil {
		return errors.Join(append(problems, err)...)
	}
	for i, glance := range open {
		before, suspected := r.records.suspects[glance.ID]
		switch {
		case !missing[i]:
			delete(r.records.suspects, glance.ID)
			r.records.see(envelope.TaskID(glance.ID, glance.Run))
		case !suspected || before.run != glance.Run:
			r.records.suspects[glance.ID] = suspect{
				run: glance.Run, since: time.Now(), hadTask: r.records.hadTask(envelope.TaskID(glance.ID, glance.Run)),
			}
		}
	}
	return errors.Join(problems...)
}

// whereabouts are what asynq says of the task of a job.
type whereabouts struct {
	queue            *queue
	task             string
	hash             *redis.SliceCmd // state, group
	scheduled, retry *redis.FloatCmd
	// inLane and named are asked for a task that is said to be in a lane: whether it is, and whether asynq knows the lane.
	inLane *redis.FloatCmd
	named  *redis.BoolCmd
}

func (w whereabouts) field(at int) string {
	if fields := w.hash.Val(); at < len(fields) {
		text, _ := fields[at].(string)
		return text
	}
	return ""
}

// missing tells which jobs' tasks are not in a place from which they will be delivered.
func (r *Reconciler) missing(ctx context.Context, open []jobstore.Glance, pending map[string]map[string]bool) ([]bool, error) {
	reads, err := r.whereabouts(ctx, open)
	if err != nil {
		return nil, err
	}
	missing := make([]bool, len(open))
	for i, read := range reads {
		if read.queue == nil {
			continue
		}
		switch state := read.field(0); state {
		case "pending":
			there, err := r.isPending(ctx, read.queue, read.task, pending)
			if err != nil {
				return nil, err
			}
			missing[i] = !there
		case "active":
			missing[i] = !read.queue.leases.has(read.task)
		case "scheduled":
			missing[i] = read.scheduled.Err() != nil
		case "retry":
			missing[i] = read.retry.Err() != nil
		case "aggregating":
			missing[i] = read.inLane.Err() != nil || !read.named.Val()
		default:
			missing[i] = true
		}
	}
	return missing, nil
}

// whereabouts asks where the tasks of jobs are: in one round trip, and one more where some are said to be in lanes.
func (r *Reconciler) whereabouts(ctx context.Context, open []jobstore.Glance) ([]whereabouts, error) {
	pipe := r.redis.Pipeline()
	reads := make([]whereabouts, len(open))
	for i, glance := range open {
		q := r.queueOf(glance.Priority, glance.Shard)
		if q == nil {
			continue
		}
		id := envelope.TaskID(glance.ID, glance.Run)
		reads[i] = whereabouts{
			queue: q, task: id, hash: pipe.HMGet(ctx, q.keys.tasks+id, "state", "group"),
			scheduled: pipe.ZScore(ctx, q.keys.scheduled, id), retry: pipe.ZScore(ctx, q.keys.retry, id),
		}
	}
	if err := asked(ctx, pipe); err != nil {
		return nil, err
	}
	pipe = r.redis.Pipeline()
	for i, read := range reads {
		if read.queue != nil && read.field(0) == "aggregating" {
			lanes, name := read.queue.keys.lanes, read.field(1)
			reads[i].inLane = pipe.ZScore(ctx, lanes.Prefix+name, read.task)
			reads[i].named = pipe.SIsMember(ctx, lanes.Groups, name)
		}
	}
	return reads, asked(ctx, pipe)
}

// asked runs a pipeline of questions, if there are any. What is not there is no error.
func asked(ctx context.Context, pipe redis.Pipeliner) error {
	if pipe.Len() == 0 {
		return nil
	}
	if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		return err
	}
	return nil
}

// isPending tells whether a task stands in its queue's pending list. Of a long one it is believed.
func (r *Reconciler) isPending(ctx context.Context, q *queue, id string, pending map[string]map[string]bool) (bool, error) {
	list, read := pending[q.name]
	if !read {
		ids, err := r.redis.LRange(ctx, q.keys.pending, 0, shortQueue).Result()
		if err != nil {
			return false, err
		}
		if len(ids) <= shortQueue {
			list = make(map[string]bool, len(ids))
			for _, id := range ids {
				list[id] = true
			}
		}
		pending[q.name] = list
	}
	return list == nil || list[id], nil
}

// trim takes the next ids out of a set of ended jobs whose records have expired.
func (r *Reconciler) trim(ctx context.Context, w *walk) error {
	_, err := r.each(ctx, w, func(ctx context.Context, ids []string) error {
		glances, err := r.store.Survey(ctx, ids)
		if err != nil {
			return err
		}
		var problems []error
		for _, glance := range glances {
			if glance.Status == "" || !glance.Status.Ended() {
				problems = append(problems, r.store.MendIndex(ctx, glance.ID))
				w.rank = max(w.rank-1, 0) // those behind it have moved up
			}
		}
		return errors.Join(problems...)
	})
	return err
}
