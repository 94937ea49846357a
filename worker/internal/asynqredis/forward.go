package asynqredis

import (
	"context"
	"sync"

	"github.com/redis/go-redis/v9"
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

// forward runs asynq's script that moves due tasks to pending, only when there are any: asynq runs it every second
// for two sets, which were two of the three commands a second that an idle queue may cost. Here both sets are looked
// at in one command.
func (c *Client) forward(ctx context.Context, cmd *redis.Cmd, keys []string, args []any) {
	switch keys[0] {
	case c.keys.scheduled:
		due, err := dueScript.Run(ctx, c.UniversalClient, []string{c.keys.scheduled, c.keys.retry}, args[0]).Int64Slice()
		if err == nil && len(due) == 2 {
			c.due.set(due[1] > 0)
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
	_ = c.Process(ctx, cmd)
}
