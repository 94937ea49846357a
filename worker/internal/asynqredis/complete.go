package asynqredis

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/redis/go-redis/v9"
)

const (
	// completeMost bounds the tasks that one script completes: everybody else waits for it.
	completeMost = 128
	// completeFlights is how many such scripts are out at a time: while Redis works on one, the next is written.
	completeFlights = 2
)

// completions are the acks of tasks that are done, which is how most tasks end. Those that come at the same time
// travel in one script: of what it does and costs, half is the same for all tasks of a queue.
type completions struct {
	client redis.UniversalClient

	mu      sync.Mutex
	waiting []*completion
	out     int
}

// completion is one ack as asynq asks for it, and what came of it.
type completion struct {
	keys []string
	args []any
	err  error
	done chan struct{}
}

// run completes a task, and returns what asynq's own script would: nil, or an error, which is Redis's reply when it
// is answered(). It takes as long as the client lets a script take.
func (cs *completions) run(keys []string, args []any) error {
	c := &completion{keys: keys, args: args, done: make(chan struct{})}
	cs.mu.Lock()
	cs.waiting = append(cs.waiting, c)
	if cs.out < completeFlights {
		cs.out++
		go cs.serve()
	}
	cs.mu.Unlock()
	<-c.done
	return c.err
}

// serve completes those that wait, until none does.
func (cs *completions) serve() {
	for {
		runtime.Gosched() // whoever is about to ask as well comes along
		together := cs.take()
		if len(together) == 0 {
			return
		}
		cs.send(together)
		for _, c := range together {
			close(c.done)
		}
	}
}

// take takes those that wait and belong to one day's statistics. When there are none, the caller is to leave.
func (cs *completions) take() []*completion {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	count := 0
	for count < min(len(cs.waiting), completeMost) && cs.waiting[count].keys[4] == cs.waiting[0].keys[4] {
		count++
	}
	if count == 0 {
		cs.out--
		return nil
	}
	together := cs.waiting[:count:count]
	if cs.waiting = cs.waiting[count:]; len(cs.waiting) == 0 {
		cs.waiting = nil
	}
	return together
}

// send runs the script. It is not repeated: it may have been executed.
func (cs *completions) send(together []*completion) {
	ctx, cancel := context.WithTimeout(context.Background(), ackTimeout)
	defer cancel()
	// asynq's keys: active, lease, completed, the task's, processed today, processed in all; its arguments: id, expiry
	// of the statistics, expiry of the task, message, largest count.
	first := together[0]
	keys := append(make([]string, 0, 5+len(together)), first.keys[0], first.keys[1], first.keys[2], first.keys[4], first.keys[5])
	args := append(make([]any, 0, 2+3*len(together)), first.args[1], first.args[4])
	for _, c := range together {
		keys = append(keys, c.keys[3])
		args = append(args, c.args[0], c.args[2], c.args[3])
	}
	replies, err := completeScript.Run(ctx, scripter{cs.client}, keys, args...).Slice()
	if err == nil && len(replies) != len(together) {
		err = fmt.Errorf("asynqredis: complete.lua answered for %d tasks of %d", len(replies), len(together))
	}
	for i, c := range together {
		if c.err = err; err == nil {
			c.err = completed(replies[i])
		}
	}
}

// completed reads complete.lua's reply for one task.
func completed(reply any) error {
	switch reply := reply.(type) {
	case int64:
		return nil
	case error:
		return reply
	}
	return errors.New("asynqredis: malformed reply of complete.lua")
}
