package inbox

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks/envelope"
)

// reading is where the loop stands. Only the loop touches it.
type reading struct {
	// sweepAt is when the entries of dead consumers are looked for, from the entry sweepFrom on.
	sweepAt   time.Time
	sweepFrom string
	// retryAt is when what could not be accepted is tried again, from the entry after retryFrom on; the zero time is never.
	// retryWait is the last wait before it, and left what has stayed of this round.
	retryAt   time.Time
	retryFrom string
	retryWait time.Duration
	left      int
	// full tells that the queues were full when last looked at, away that Redis did not answer.
	full, away bool
	// noRoom tells that Redis had no room for new jobs when last looked at.
	noRoom bool
	size   sizes
}

// work reads until the Inbox stops.
func (n *Inbox) work() {
	at := reading{sweepFrom: firstEntry, retryFrom: firstEntry}
	wait := firstWait
	for n.stopping.Err() == nil {
		err := n.turn(&at)
		if err == nil {
			if at.away {
				at.away = false
				n.log.Info().Msg("the inbox reaches Redis again")
			}
			wait = firstWait
			continue
		}
		if redis.HasErrorPrefix(err, "NOGROUP") {
			err = n.makeGroup(n.alive) // Redis has lost it, or somebody has deleted the stream
		}
		if err != nil && !at.away {
			at.away = true
			n.log.Warn().Err(err).Msg("the inbox cannot be read; its jobs wait")
		}
		// A reply that was lost may have handed out entries.
		at.retry(wait)
		n.pause(wait)
		wait = min(2*wait, longestWait)
	}
}

// turn reads once and brings what it has read to its end.
func (n *Inbox) turn(at *reading) error {
	if n.noRoom(at) {
		return nil
	}
	if full, err := n.queuesFull(at); err != nil || full {
		return err
	}
	ctx, now := n.alive, time.Now()
	count := at.size.count()
	var entries []entry
	var err error
	switch {
	case !now.Before(at.sweepAt):
		if entries, at.sweepFrom, err = n.claimAbandoned(ctx, at.sweepFrom, count); err != nil {
			return err
		}
		if at.sweepFrom == firstEntry {
			at.sweepAt = now.Add(n.config.ClaimAfter / 3)
			n.forgetConsumers(ctx)
		}
	case !at.retryAt.IsZero() && !now.Before(at.retryAt):
		if entries, err = n.readPending(ctx, at.retryFrom, count); err != nil {
			return err
		}
		if len(entries) == 0 {
			at.endRound()
			return nil
		}
		at.retryFrom = entries[len(entries)-1].id
	default:
		wait := block
		if !at.retryAt.IsZero() {
			wait = min(wait, max(time.Until(at.retryAt), time.Millisecond))
		}
		if entries, err = n.readNew(ctx, count, wait); err != nil {
			return err
		}
	}
	at.size.see(entries)
	if left := n.handle(ctx, entries); left > 0 {
		at.left += left
		at.retry(firstWait)
	}
	return nil
}

// retry has what is pending tried again, unless it is about to be.
func (r *reading) retry(wait time.Duration) {
	if r.retryAt.IsZero() {
		r.retryWait = wait
		r.retryAt, r.retryFrom = time.Now().Add(wait), firstEntry
	}
}

// endRound ends a round of trying again. What has stayed is tried in another one, later.
func (r *reading) endRound() {
	left := r.left
	r.retryAt, r.left = time.Time{}, 0
	if left > 0 {
		r.retry(min(2*r.retryWait, longestWait))
	}
}

// noRoom tells whether Redis has no room for new jobs. What is in the stream has its room already.
func (n *Inbox) noRoom(at *reading) bool {
	err := n.client.Room(n.alive)
	if none := err != nil; none != at.noRoom {
		at.noRoom = none
		if none {
			n.log.Warn().Err(err).Msg("the inbox waits")
		} else {
			n.log.Info().Msg("Redis has room; the inbox is read again")
		}
	}
	if err != nil {
		n.pause(fullPause)
	}
	return err != nil
}

// queuesFull tells whether so many tasks wait that nothing more is to be read.
func (n *Inbox) queuesFull(at *reading) (bool, error) {
	waiting, err := n.waiting(n.alive)
	if err != nil {
		return false, err
	}
	full := waiting >= int64(n.config.MaxQueued)
	if full != at.full {
		at.full = full
		event := n.log.Info().Int64("waiting", waiting).Int("max_queued", n.config.MaxQueued)
		if full {
			event.Msg("the queues are full; the inbox waits")
		} else {
			event.Msg("the queues have room; the inbox is read again")
		}
	}
	if full {
		n.pause(fullPause)
	}
	return full, nil
}

// waiting counts the tasks that wait for a worker or for their next delivery. Those that their senders have scheduled
// for later do not count: they would keep out what is urgent. Nor do those in lanes: nothing of the inbox waits behind a
// batch.
func (n *Inbox) waiting(ctx context.Context) (int64, error) {
	shards, err := envelope.FindShards(ctx, n.redis, n.keys, n.config.Client.Shards())
	if err != nil {
		return 0, err
	}
	pipe := n.redis.Pipeline()
	var counts []*redis.IntCmd
	for _, s := range shards {
		if s.Queue != envelope.WebhookQueueName && s.Listed {
			counts = append(counts, pipe.LLen(ctx, n.keys.QueuePending(s.Queue, s.Shard)), pipe.ZCard(ctx, n.keys.QueueRetry(s.Queue, s.Shard)))
		}
	}
	if len(counts) == 0 {
		return 0, nil
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return 0, fmt.Errorf("count the waiting tasks: %w", err)
	}
	var sum int64
	for _, count := range counts {
		sum += count.Val()
	}
	return sum, nil
}

const (
	// maxCount is how many entries are read at once, and maxBytes how large they are together, as far as can be told
	// before they are read.
	maxCount = 256
	maxBytes = 16 << 20
)

// sizes remembers how large entries were, so that a hundred of the largest are not read at once.
type sizes struct{ last []int }

func (s *sizes) see(entries []entry) {
	for _, e := range entries {
		s.last = append(s.last, len(e.job))
	}
	s.last = s.last[max(0, len(s.last)-maxCount):]
}

// count is how many entries to read at once: few before anything is known, and as many as the largest of the last leaves
// room for.
func (s *sizes) count() int {
	if len(s.last) == 0 {
		return 16
	}
	return max(1, min(maxCount, 2*len(s.last), maxBytes/(1+slices.Max(s.last))))
}
