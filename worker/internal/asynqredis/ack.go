package asynqredis

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// ackTimeout bounds the wait for one ack, in the place of asynq's context. Socket timeouts end a call that hangs.
const ackTimeout = 3 * time.Second

// ack runs one of the scripts with which asynq ends a delivery.
//
// asynq cancels the context of an ack before its syncer repeats a failed one, so that without this the repeat never
// reaches Redis, and a task that was done runs again. Here the context only names the ack: all tries of one carry
// the same. A repeat is guarded when an earlier try may have worked. An ack that finds its task gone is over: the
// delivery lost its lease, and repeating it could end a delivery of someone else.
func (c *Client) ack(ctx context.Context, s script, cmd *redis.Cmd, keys []string, args []any) error {
	id, _ := args[0].(string)
	run, cancel := context.WithTimeout(context.WithoutCancel(ctx), ackTimeout)
	defer cancel()

	d := c.unsure.get(ctx)
	if d == nil {
		d = c.deliveries.find(ctx, id)
		err := c.firstAck(run, s, cmd, keys, args)
		switch {
		case err == nil:
			c.deliveries.acked(d)
			return nil
		case lost(err):
			c.deliveries.acked(d)
			c.log.Warn().Str("task", id).Msg("a delivery ended after its lease was lost: the task is delivered again")
			return nil
		case answered(err) || d == nil || !s.repeats:
			return err
		}
		c.unsure.put(ctx, d)
		if run.Err() != nil {
			return err
		}
	}
	if err := c.repeatAck(run, d.mark, keys[s.task], cmd); err != nil {
		return err
	}
	c.unsure.drop(ctx)
	c.deliveries.acked(d)
	return nil
}

// firstAck sends an ack for the first time.
func (c *Client) firstAck(ctx context.Context, s script, cmd *redis.Cmd, keys []string, args []any) error {
	if s.role == complete {
		return c.completed.run(keys, args)
	}
	return c.pipe.Process(ctx, once{cmd})
}

// errDone is the good news that an earlier try of an ack has worked, or that the task went on without it.
var errDone = errors.New("asynqredis: nothing left to acknowledge")

// repeatAck sends an ack again, provided that the task's message is still the delivery's. Redis checks both as one
// (WATCH), because between them another worker may have taken the task.
func (c *Client) repeatAck(ctx context.Context, known uint64, taskKey string, cmd *redis.Cmd) error {
	err := c.Watch(ctx, func(tx *redis.Tx) error {
		msg, err := tx.HGet(ctx, taskKey, "msg").Result()
		if errors.Is(err, redis.Nil) || err == nil && fingerprint(msg) != known {
			return errDone
		}
		if err != nil {
			return err
		}
		repeat := redis.NewCmd(ctx, cmd.Args()...)
		_, err = tx.TxPipelined(ctx, func(pipe redis.Pipeliner) error { return pipe.Process(ctx, once{repeat}) })
		return err
	}, taskKey)
	if errors.Is(err, errDone) || lost(err) {
		return nil
	}
	return err
}

// unsureAcks are the acks that may have been executed, with their deliveries, by the context that all tries of one
// ack share.
type unsureAcks struct {
	mu         sync.Mutex
	deliveries map[context.Context]*delivery
}

func (u *unsureAcks) get(ctx context.Context) *delivery {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.deliveries[ctx]
}

// put remembers an ack, and forgets those that asynq's syncer has given up: it does at the context's deadline.
func (u *unsureAcks) put(ctx context.Context, d *delivery) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.deliveries == nil {
		u.deliveries = make(map[context.Context]*delivery)
	}
	for old := range u.deliveries {
		if deadline, _ := old.Deadline(); time.Since(deadline) > time.Minute {
			delete(u.deliveries, old)
		}
	}
	u.deliveries[ctx] = d
}

func (u *unsureAcks) drop(ctx context.Context) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.deliveries, ctx)
}
