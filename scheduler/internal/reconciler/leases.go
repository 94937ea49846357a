package reconciler

import (
	"context"
	"fmt"
	"time"

	"github.com/forebay-queue/forebay/tasks/jobstore"
)

const (
	// deadAfter is how long a lease must have stood still. asynq moves those of living deliveries every 5 s.
	deadAfter = 15 * time.Second
	// deadAnyway is how long at most a still lease is borne because the job's worker lives. asynq gives a delivery up
	// whose lease it could not prolong for 30 s, while its call goes on.
	deadAnyway = time.Minute
	// blindFor is the longest gap between two looks that is no gap: in a longer one workers could not prolong either.
	blindFor = 3 * time.Second
)

// leases is what was watched of a queue's leases.
type leases struct {
	// asked and answered are the times of the last look; zero when there was none, or it failed.
	asked, answered time.Time
	byID            map[string]still
}

// stillFor is how long a lease has been seen to stand still, at least.
func (l leases) stillFor(id string) time.Duration { return l.asked.Sub(l.byID[id].since) }

// has tells whether a task had a lease at the last look.
func (l leases) has(id string) bool {
	_, found := l.byID[id]
	return found
}

// still is a lease that has the same expiry since a time.
type still struct {
	expiry int64 // Unix seconds, by the worker's clock
	since  time.Time
}

// look reads all leases of a queue. Whatever it cannot see for a while it has not watched: then everything begins anew.
func (r *Reconciler) look(ctx context.Context, q *queue) error {
	asked := time.Now()
	found, err := r.redis.ZRangeWithScores(ctx, q.keys.lease, 0, -1).Result()
	answered := time.Now()
	if err != nil {
		q.leases = leases{}
		return fmt.Errorf("read the leases: %w", err)
	}
	known := q.leases.byID
	if answered.Sub(q.leases.answered) > blindFor {
		known = nil
	}
	q.leases = leases{asked: asked, answered: answered, byID: make(map[string]still, len(found))}
	for _, lease := range found {
		id, _ := lease.Member.(string)
		now := still{expiry: int64(lease.Score), since: answered}
		if before, watched := known[id]; watched && before.expiry == now.expiry {
			now.since = before.since
		}
		q.leases.byID[id] = now
	}
	return nil
}

// deadLease is a delivery that was found dead, by its task and the expiry that its lease stands still at.
type deadLease struct {
	id     string
	expiry int64
}

// dead returns the deliveries of a queue that are dead: their leases stand still, and their workers, where their jobs
// name one, are not heard of.
func (r *Reconciler) dead(ctx context.Context, q *queue) ([]deadLease, error) {
	var suspects []string
	for id := range q.leases.byID {
		if q.leases.stillFor(id) >= deadAfter {
			suspects = append(suspects, id)
		}
	}
	if len(suspects) == 0 {
		return nil, nil
	}
	held, err := r.heldByLiving(ctx, suspects)
	if err != nil {
		return nil, err
	}
	var dead []deadLease
	for _, id := range suspects {
		if !held[id] || q.leases.stillFor(id) >= deadAnyway {
			dead = append(dead, deadLease{id: id, expiry: q.leases.byID[id].expiry})
		}
	}
	return dead, nil
}

// heldByLiving tells which tasks' jobs are running with a worker that lives.
func (r *Reconciler) heldByLiving(ctx context.Context, taskIDs []string) (map[string]bool, error) {
	jobs, runs := make([]string, 0, len(taskIDs)), make([]int, 0, len(taskIDs))
	ours := make([]string, 0, len(taskIDs))
	for _, taskID := range taskIDs {
		if id, run, err := jobOf(taskID); err == nil {
			jobs, runs, ours = append(jobs, id), append(runs, run), append(ours, taskID)
		}
	}
	glances, err := r.store.Survey(ctx, jobs)
	if err != nil {
		return nil, err
	}
	alive, err := r.aliveAmong(ctx, glances)
	if err != nil {
		return nil, err
	}
	held := map[string]bool{}
	for i, glance := range glances {
		held[ours[i]] = glance.Held() && glance.Run == runs[i] && alive[glance.Worker]
	}
	return held, nil
}

// aliveAmong tells which of the workers that hold these jobs live.
func (r *Reconciler) aliveAmong(ctx context.Context, glances []jobstore.Glance) (map[string]bool, error) {
	var workers []string
	for _, glance := range glances {
		if glance.Held() {
			workers = append(workers, glance.Worker)
		}
	}
	return r.store.WorkersAlive(ctx, workers)
}
