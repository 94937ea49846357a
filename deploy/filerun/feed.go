package filerun

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/forebay-queue/forebay/deploy/batchio"
	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/batches"
)

const (
	// A portion is handed over together.
	portionJobs  = 1024
	portionBytes = 8 << 20
	// againAfter is how long it is waited before Redis is asked again that did not answer.
	againAfter = time.Second
)

// member is a line that is to be handed over.
type member struct {
	at  int
	job tasks.Job
}

// feed hands over what has no answer yet, in the order of the input.
func (r *run) feed(ctx context.Context) error {
	defer r.poke()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.fed = true
	}()
	source := r.source()
	defer source.stop()
	for {
		portion, done, err := r.portion(ctx, source)
		if err != nil {
			return err
		}
		if err := r.hand(ctx, portion); err != nil {
			return err
		}
		for err := r.recall(ctx, portion); err != nil; err = r.recall(ctx, portion) {
			r.away(err)
			select {
			case <-time.After(againAfter):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if done {
			return nil
		}
	}
}

// source is the input, read a second time beside what was planned at the first.
type source struct {
	next func() (batchio.Item, error, bool)
	stop func()
	plan []int // what is left of it
	back *member
}

func (r *run) source() *source {
	next, stop := iter.Pull2(r.items())
	return &source{next: next, stop: stop, plan: r.plan.entries}
}

// member is the next line that can be a job; nil at the end.
func (s *source) member(j *Journal) (*member, error) {
	if back := s.back; back != nil {
		s.back = nil
		return back, nil
	}
	for {
		item, err, more := s.next()
		switch {
		case err != nil:
			return nil, err
		case !more && len(s.plan) > 0:
			return nil, errInputChanged
		case !more:
			return nil, nil
		case item.Problem != nil:
			continue
		case len(s.plan) == 0:
			return nil, errInputChanged
		}
		at := s.plan[0]
		s.plan = s.plan[1:]
		p, err := markOf(item.Job)
		if err != nil {
			return nil, err
		}
		if j.entry(at).mark != p {
			return nil, errInputChanged
		}
		return &member{at, item.Job}, nil
	}
}

// portion gathers what may be handed over now.
func (r *run) portion(ctx context.Context, s *source) (list []member, done bool, err error) {
	limits, size := map[int]float64{}, 0
	for len(list) < portionJobs && size < portionBytes && ctx.Err() == nil {
		m, err := s.member(r.config.Journal)
		if err != nil {
			return nil, false, err
		}
		if m == nil {
			done = true
			break
		}
		if !r.awaits(m.at) {
			continue
		}
		r.asMember(m)
		verdict, limit := r.afford(*m)
		if verdict == holds {
			s.back = m
			if len(list) > 0 {
				break // hand over what there is, and ask again
			}
			if stopped, err := r.awaitRoom(ctx); stopped || err != nil {
				return nil, true, err
			}
			continue
		}
		if limit > 0 {
			m.job.MaxCostUSD, limits[m.at] = &limit, limit
		}
		list, size = append(list, *m), size+len(m.job.Input)+len(m.job.Request)
	}
	if len(limits) > 0 {
		err = r.config.Journal.limit(limits)
	}
	return list, done, errors.Join(err, ctx.Err())
}

// awaits tells whether a member has no answer yet.
func (r *run) awaits(at int) bool {
	e := r.config.Journal.entry(at)
	r.mu.Lock()
	defer r.mu.Unlock()
	_, found := r.pending[e.batch][e.number]
	return found && !r.closed[at]
}

// asMember makes the job a member of its batch.
func (r *run) asMember(m *member) {
	e := r.config.Journal.entry(m.at)
	batch := r.stands[e.batch]
	m.job.ID, m.job.Member = r.config.Journal.id(m.at), &tasks.Member{Batch: batch.ID, Number: int(e.number)}
	if m.job.Deadline == nil || m.job.Deadline.After(batch.Deadline) {
		deadline := batch.Deadline
		m.job.Deadline = &deadline
	}
	if m.job.Priority == "" {
		m.job.Priority = tasks.PriorityBulk
	}
}

// hand enqueues members, for as long as it takes until Redis has all of them.
func (r *run) hand(ctx context.Context, portion []member) error {
	for len(portion) > 0 {
		jobs := func(yield func(tasks.Job) bool) {
			for _, m := range portion {
				if !yield(m.job) {
					return
				}
			}
		}
		var again []member
		given := 0
		for receipt, err := range r.config.Client.EnqueueMany(ctx, jobs) {
			given++
			m := portion[receipt.Index]
			if errors.Is(err, tasks.ErrInvalidJob) {
				err = r.config.Client.RefuseMember(ctx, fmt.Sprintf("member %d", m.at), m.job, tasks.Failure{
					Class: tasks.ClassInvalid, Code: "invalid_job", Message: oneLine(err), Hint: "mend the line and start the run again",
				})
			}
			switch {
			case errors.Is(err, producer.ErrIDConflict):
				return err
			case err != nil:
				r.away(err)
				again = append(again, m)
			default:
				r.handed(m)
			}
		}
		again = append(again, portion[given:]...)
		if portion = slices.Clip(again); len(portion) == 0 {
			break
		}
		select {
		case <-time.After(againAfter):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// recall cancels members that were handed over while their batch was being cancelled: it had counted them as cancelled
// before they were there.
func (r *run) recall(ctx context.Context, portion []member) error {
	going := map[string]bool{}
	for _, m := range portion {
		id := m.job.Member.Batch
		if _, asked := going[id]; !asked {
			batch, err := r.config.Client.Batches().Get(ctx, id, r.config.Tenant)
			if err != nil {
				return err
			}
			going[id] = batch.Status != batches.StatusCancelling && batch.Status != batches.StatusCancelled
		}
		if going[id] {
			continue
		}
		if _, err := r.config.Client.Cancel(ctx, m.job.ID); err != nil && !errors.Is(err, producer.ErrNotFound) {
			return err
		}
	}
	return nil
}

// handed notes that a member is in the deployment's hands.
func (r *run) handed(m member) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now.Enqueued++
	if _, known := r.enqueued[m.at]; !known {
		r.enqueued[m.at] = 0
	}
}

func (r *run) away(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now.Away = err
}

// poke wakes whoever waits for members to end.
func (r *run) poke() {
	select {
	case r.ended <- struct{}{}:
	default:
	}
}
