package filerun

import (
	"context"
	"time"
)

// triesAfforded is how many calls at their worst a line may cost: some may fail that have to be paid all the same.
const triesAfforded = 3

// verdict says whether a line may be handed over.
type verdict int

const (
	goes verdict = iota
	holds
)

// afford asks whether MaxCostUSD has room for a line beside all that was spent and all that is out, each at its worst: the
// limit that its job has of its own. So nothing can pass it, whatever fails, dies or is called again. A line is given three
// calls' worth where there is room, and one at least.
func (r *run) afford(m member) (verdict, float64) {
	if r.config.MaxCostUSD == 0 {
		return goes, 0
	}
	r.mu.Lock()
	_, out := r.enqueued[m.at]
	limit := r.config.Journal.entry(m.at).limitUSD
	r.mu.Unlock()
	if out && limit > 0 {
		return goes, limit // it has its room
	}
	worst := r.worst(m)
	r.mu.Lock()
	defer r.mu.Unlock()
	room := r.config.MaxCostUSD - r.now.SpentUSD - r.outUSD
	if worst > room {
		r.now.Held = true
		return holds, 0
	}
	r.now.Held = false
	limit = min(triesAfforded*worst, room)
	if m.job.MaxCostUSD != nil {
		limit = min(limit, *m.job.MaxCostUSD)
	}
	r.enqueued[m.at] = limit
	r.outUSD += limit
	return goes, limit
}

// worst is what the dearest call of a line costs at its worst; 0 for one that the catalog refuses.
func (r *run) worst(m member) float64 {
	c := r.config.Catalog
	prepared, err := c.Prepare(m.job, time.Now())
	if err != nil {
		return 0
	}
	worst := 0.0
	for _, model := range c.ModelsFor(prepared.Job) {
		worst = max(worst, c.Cost(model, c.Estimate(model, prepared.Job, prepared.PromptTokens).Usage()))
	}
	return worst
}

// awaitRoom waits until something has ended, and says so when nothing is out any more that could make room.
func (r *run) awaitRoom(ctx context.Context) (stopped bool, err error) {
	r.mu.Lock()
	if len(r.enqueued) == 0 {
		r.stopped = true
	}
	stopped = r.stopped
	r.mu.Unlock()
	if stopped {
		return true, nil
	}
	select {
	case <-r.ended:
	case <-time.After(lookEvery):
	case <-ctx.Done():
		err = ctx.Err()
	}
	return false, err
}
