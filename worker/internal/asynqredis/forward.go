package asynqredis

import (
	"context"
	"fmt"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks/envelope"
)

// dueAnswer keeps what due.lua said about the retry set until asynq asks for it, which it does right after the
// scheduled set.
type dueAnswer struct {
	mu    sync.Mutex
	known bool
	retry bool
}

func (a *dueAnswer) set(retry bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.known, a.retry = true, retry
}

// take returns the answer once.
func (a *dueAnswer) take() (known, retry bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	known, retry = a.known, a.retry
	a.known = false
	return known, retry
}

// forward moves due tasks to where they are claimed from, only when there are any: asynq asks for it every second for
// two sets, which were two of the three commands a second that an idle queue may cost. Here both sets are looked at in
// one command; and by it, lanes that nobody has nudged are found, whoever has emptied pending or died before a nudge.
func (c *Client) forward(ctx context.Context, cmd *redis.Cmd, keys []string, args []any) {
	switch keys[0] {
	case c.keys.scheduled:
		due, err := dueScript.Run(ctx, c.UniversalClient,
			[]string{c.keys.scheduled, c.keys.retry, c.keys.pending, c.keys.lanes.Groups}, args[0]).Int64Slice()
		if err == nil && len(due) == 3 {
			c.due.set(due[1] > 0)
			if due[2] > 0 {
				c.nudge(ctx)
			}
			if due[0] == 0 {
				cmd.SetVal(int64(0))
				return
			}
		}
	case c.keys.retry:
		if known, due := c.due.take(); known && !due {
			cmd.SetVal(int64(0))
			return
		}
	}
	moved, err := forwardScript.Run(ctx, c.UniversalClient, []string{keys[0], keys[1], c.keys.lanes.Groups}, args...).Int64Slice()
	switch {
	case err != nil:
		cmd.SetErr(err)
	case len(moved) != 2:
		cmd.SetErr(fmt.Errorf("asynqredis: malformed reply of forward.lua for queue %q", c.queue))
	default:
		if moved[1] > 0 {
			c.nudge(ctx)
		}
		cmd.SetVal(moved[0])
	}
}

// nudge has work that is in lanes only begun. What fails is tried again within a second.
func (c *Client) nudge(ctx context.Context) {
	if err := envelope.Nudge(ctx, c.UniversalClient, c.queue); err != nil {
		c.log.Debug().Err(err).Msg("lanes wait for the next look")
	}
}
