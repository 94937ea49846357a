// Package slots shares a process's slots among its queues. A slot is the right to run one delivery. The pool is
// work-conserving: a queue alone may use every slot, and only when several queues wait are freed slots handed out
// by weight. Without it each queue would need slots of its own, which stand empty while another queue has work.
package slots

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

// round is the virtual time of one slot for a lane of weight 1. It divides by every small weight, so that the
// shares are exact.
const round = 2 * 3 * 4 * 5 * 6 * 7 * 8 * 9 * 10

// catchUp bounds the turns that a lane makes up after it did not wait for a while: enough for those that it misses
// while it fetches its tasks, too little for a queue that was empty for an hour to come back with an hour's credit.
const catchUp = 4 * round

// Pool is the slots of one process. Its methods may be called from any goroutine.
type Pool struct {
	mu    sync.Mutex
	size  int
	busy  int
	now   int64 // virtual time: the turn of the lane that was served last
	lanes []*Lane
}

// Lane is a queue's way to the slots of a Pool. Shards of one queue share a lane, so that they share its weight.
type Lane struct {
	pool   *Pool
	name   string
	weight int
	busy   int
	turn   int64 // virtual time at which the lane is served next; grows by round/weight with each slot it waited for
	queue  []*waiter
}

// waiter is one blocked Acquire. It collects slots until its goroutine has woken up and fetched them.
type waiter struct {
	want, got int
	ready     chan struct{} // closed with the first slot
}

// New returns a pool of size slots. It panics when size is below 1.
func New(size int) *Pool {
	if size < 1 {
		panic(fmt.Sprintf("slots: a pool needs at least 1 slot, got %d", size))
	}
	return &Pool{size: size}
}

// Queue returns the lane of that name, made at the first call; the weight of the first call counts. A lane of
// weight 6 is handed six freed slots for every one of a lane of weight 1, while both wait. It panics when weight is
// below 1.
func (p *Pool) Queue(name string, weight int) *Lane {
	if weight < 1 {
		panic(fmt.Sprintf("slots: queue %q needs a weight of at least 1, got %d", name, weight))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, lane := range p.lanes {
		if lane.name == name {
			return lane
		}
	}
	lane := &Lane{pool: p, name: name, weight: weight, turn: p.now}
	p.lanes = append(p.lanes, lane)
	return lane
}

// Acquire waits until the lane may have at least one slot, and takes up to most. Give them back with Release. It
// returns 0 and the context's error when that ends first.
func (l *Lane) Acquire(ctx context.Context, most int) (int, error) {
	if most < 1 {
		panic(fmt.Sprintf("slots: queue %q asks for %d slots", l.name, most))
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	p := l.pool
	p.mu.Lock()
	if n := l.take(most); n > 0 {
		p.mu.Unlock()
		return n, nil
	}
	l.turn = max(l.turn, p.now-catchUp)
	w := &waiter{want: most, ready: make(chan struct{})}
	l.queue = append(l.queue, w)
	p.mu.Unlock()

	var err error
	select {
	case <-w.ready:
	case <-ctx.Done():
		err = ctx.Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	l.leave(w)
	if w.got > 0 {
		return w.got, nil // a slot that came together with the context's end is the caller's
	}
	return 0, err
}

// TryAcquire takes up to most slots, as many as are free now, possibly none.
func (l *Lane) TryAcquire(most int) int {
	l.pool.mu.Lock()
	defer l.pool.mu.Unlock()
	return l.take(most)
}

// Release gives n slots back. It panics when the lane does not hold that many: a slot given back twice would let
// more deliveries run than the process has slots.
func (l *Lane) Release(n int) {
	if n == 0 {
		return
	}
	p := l.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	if n < 0 || n > l.busy {
		panic(fmt.Sprintf("slots: queue %q gives back %d slots and holds %d", l.name, n, l.busy))
	}
	l.busy -= n
	p.busy -= n
	p.handOut()
}

// take takes free slots at once. Slots are free only while nobody waits.
func (l *Lane) take(most int) int {
	n := max(0, min(most, l.pool.size-l.pool.busy))
	l.busy += n
	l.pool.busy += n
	return n
}

// handOut gives the free slots, one by one, to the waiting lane whose turn comes first.
func (p *Pool) handOut() {
	for p.busy < p.size {
		var next *Lane
		for _, lane := range p.lanes {
			if len(lane.queue) > 0 && (next == nil || lane.turn < next.turn) {
				next = lane
			}
		}
		if next == nil {
			return
		}
		p.now = next.turn
		next.turn += round / int64(next.weight)
		next.busy++
		p.busy++
		w := next.queue[0]
		w.got++
		if w.got == 1 {
			close(w.ready)
		}
		if w.got == w.want {
			next.leave(w)
		}
	}
}

func (l *Lane) leave(w *waiter) {
	if i := slices.Index(l.queue, w); i >= 0 {
		l.queue = slices.Delete(l.queue, i, i+1)
	}
}

// Stats is what a pool does at a moment.
type Stats struct {
	// Size and Busy count slots.
	Size, Busy int
	// Lanes are in the order in which they were made.
	Lanes []LaneStats
}

// LaneStats is what a lane does at a moment.
type LaneStats struct {
	// Name is the queue's.
	Name string
	// Weight is its share of freed slots while several lanes wait.
	Weight int
	// Busy counts the slots it holds.
	Busy int
	// Waiting counts the calls of Acquire that wait for their first slot.
	Waiting int
}

// Stats returns what the pool does now.
func (p *Pool) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	stats := Stats{Size: p.size, Busy: p.busy}
	for _, lane := range p.lanes {
		entry := LaneStats{Name: lane.name, Weight: lane.weight, Busy: lane.busy}
		for _, w := range lane.queue {
			if w.got == 0 {
				entry.Waiting++
			}
		}
		stats.Lanes = append(stats.Lanes, entry)
	}
	return stats
}
