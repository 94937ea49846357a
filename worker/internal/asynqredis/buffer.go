package asynqredis

import (
	"context"
	"sync"
	"time"
)

// buffer holds the tasks of the last claim until asynq takes them, oldest first.
type buffer struct {
	mu    sync.Mutex
	tasks []claimed
	since time.Time
	timer *time.Timer
}

// put fills the empty buffer. The function expire is called when the tasks have waited too long.
func (b *buffer) put(tasks []claimed, expire func()) {
	if len(tasks) == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tasks, b.since = tasks, time.Now()
	if b.timer == nil {
		b.timer = time.AfterFunc(bufferAge, expire)
	} else {
		b.timer.Reset(bufferAge)
	}
}

// take takes the oldest task. When they have waited too long it takes none, and returns all of them as stale.
func (b *buffer) take() (task claimed, ok bool, stale []claimed) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.tasks) == 0 {
		return claimed{}, false, nil
	}
	if time.Since(b.since) >= bufferAge {
		return claimed{}, false, b.empty()
	}
	task, b.tasks = b.tasks[0], b.tasks[1:]
	if len(b.tasks) == 0 {
		b.timer.Stop()
	}
	return task, true, nil
}

// takeAll empties the buffer.
func (b *buffer) takeAll() []claimed {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.empty()
}

// takeStale empties the buffer when its tasks have waited too long.
func (b *buffer) takeStale() []claimed {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.tasks) == 0 || time.Since(b.since) < bufferAge {
		return nil
	}
	return b.empty()
}

func (b *buffer) empty() []claimed {
	tasks := b.tasks
	b.tasks = nil
	if b.timer != nil {
		b.timer.Stop()
	}
	return tasks
}

// next takes the oldest buffered task; stale ones go back to the queue instead.
func (c *Client) next() (claimed, bool) {
	task, ok, stale := c.buffer.take()
	c.putBack(stale)
	return task, ok
}

// expireBuffer puts back what asynq did not take in time.
func (c *Client) expireBuffer() { c.putBack(c.buffer.takeStale()) }

// putBack gives claimed tasks back to the queue, and their slots to the pool. While Redis is away it is repeated
// until Stop or until their leases have expired, when asynq's recoverer or a reconciler delivers them.
func (c *Client) putBack(tasks []claimed) {
	if len(tasks) == 0 {
		return
	}
	c.lane.Release(len(tasks))
	c.returnTasks(tasks)
}

func (c *Client) returnTasks(tasks []claimed) {
	ctx, cancel := context.WithTimeout(context.Background(), scriptTimeout)
	defer cancel()
	expiry := tasks[0].expiry // tasks of one claim
	args := make([]any, 0, 2+len(tasks))
	args = append(args, expiry, c.keys.tasks)
	for _, task := range tasks {
		args = append(args, task.id)
	}
	err := putBackScript.Run(ctx, scripter{c.UniversalClient},
		[]string{c.keys.pending, c.keys.active, c.keys.lease}, args...).Err()
	switch {
	case err == nil:
		c.log.Debug().Int("count", len(tasks)).Msg("gave claimed tasks back to the queue")
	case c.stopping.Err() != nil || time.Now().Unix() >= expiry:
		c.log.Warn().Err(err).Int("count", len(tasks)).
			Msg("claimed tasks could not be given back: they are delivered again when their leases have expired")
	default:
		time.AfterFunc(time.Second, func() { c.returnTasks(tasks) })
	}
}
