package asynqredis

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/worker/internal/slots"
)

const (
	// peekTimeout is how long one peek blocks: half a command a second of an idle queue's three.
	peekTimeout = 2 * time.Second
	// callLimit is how long one dequeue may wait for a task and a slot. It bounds how long asynq's Shutdown hangs
	// when nobody called Stop; and asynq counts a task's lease (30 s) from the beginning of the call.
	callLimit = 5 * time.Second
	// pausedWait is how long a paused queue is left alone.
	pausedWait = time.Second
	// stolenWait is how long a dequeue waits when another process was faster, which every process sees at once.
	stolenWait = 20 * time.Millisecond
	// errorWait is how long a dequeue waits after an error: asynq itself asks again at once.
	errorWait = 200 * time.Millisecond
)

// fetcher is the state of the dequeues of asynq's one fetching goroutine.
type fetcher struct {
	mu sync.Mutex
	// more says that the queue had tasks left at the last look, so that the peek is not needed.
	more bool
	// number is that of the last claim.
	number int64
	// unresolved is the number of slots held for a claim whose reply was lost; it is asked for again.
	unresolved int
}

// giveUp frees the slots of a claim that stays unresolved.
func (f *fetcher) giveUp(lane *slots.Lane) {
	lane.Release(f.unresolved)
	f.unresolved = 0
}

// dequeue answers asynq's dequeue: a task's message, or redis.Nil when there is none to be had now. It takes from
// the buffer, and fills it when it is empty: peek, take slots, claim.
func (c *Client) dequeue() (string, error) {
	c.fetch.mu.Lock()
	defer c.fetch.mu.Unlock()
	c.deliveries.sweep()
	if task, ok := c.next(); ok {
		return c.handOut(task), nil
	}
	if c.stopping.Err() != nil {
		return "", redis.Nil
	}
	peeked := false
	if !c.fetch.more && c.fetch.unresolved == 0 {
		waiting, err := c.peek()
		if err != nil || !waiting {
			return "", err
		}
		peeked = true
	}
	if err := c.fill(peeked); err != nil {
		return "", err
	}
	if c.stopping.Err() != nil {
		return "", redis.Nil // Stop waits for this call to end and puts the claimed tasks back
	}
	if task, ok := c.next(); ok {
		return c.handOut(task), nil
	}
	return "", redis.Nil
}

// fill claims as many tasks as the lane gets slots. It returns redis.Nil when there is nothing to claim now.
func (c *Client) fill(peeked bool) error {
	most := c.fetch.unresolved
	if most == 0 {
		waiting, cancel := context.WithTimeout(c.stopping, callLimit-peekTimeout)
		defer cancel()
		var err error
		if most, err = c.lane.Acquire(waiting, claimMost); err != nil {
			c.fetch.more = true // there was work a moment ago: line up again
			return redis.Nil
		}
	}
	found, err := c.claim(most)
	switch {
	case err != nil:
		c.pause(errorWait)
		return err
	case found.verdict == late:
		c.pause(errorWait)
		return fmt.Errorf("asynqredis: the claim on queue %q came with leases that have already expired: "+
			"the clock of this process is behind that of Redis, or Redis was stopped for long", c.queue)
	case found.verdict == paused:
		c.fetch.more = true // look again without a peek, which a paused queue with tasks answers at once
		c.pause(pausedWait)
		return redis.Nil
	case found.tasks == 0 && peeked:
		c.pause(stolenWait)
		return redis.Nil
	}
	return nil
}

// peek waits until the queue has a task. It returns redis.Nil when there is none within peekTimeout or at Stop.
func (c *Client) peek() (bool, error) {
	err := c.peeker.BLMove(c.stopping, c.keys.pending, c.keys.pending, "RIGHT", "RIGHT", peekTimeout).Err()
	switch {
	case err == nil:
		return true, nil
	case c.stopping.Err() != nil || errors.Is(err, redis.Nil):
		return false, redis.Nil
	}
	c.pause(errorWait)
	return false, err
}

// handOut registers a task as handed to asynq and returns its message.
func (c *Client) handOut(task claimed) string {
	c.deliveries.handOut(task.id, task.msg)
	return task.msg
}
