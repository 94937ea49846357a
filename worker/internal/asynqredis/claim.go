package asynqredis

import (
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

const (
	// claimMost bounds one claim, whatever the number of free slots.
	claimMost = 64
	// lease is asynq's LeaseDuration: whoever dies with a task holds it that long.
	lease = 30 * time.Second
	// claimKept is how long Redis remembers a claim, longer than it can take to arrive: by then "late".
	claimKept = 2 * lease
	// bufferAge is how long a claimed task may wait for asynq. Its lease is not extended in that time, and in
	// another process it might run.
	bufferAge = 2 * time.Second
	// scriptTimeout bounds a script of this package.
	scriptTimeout = 3 * time.Second
)

// claimed is a task that was claimed and not yet handed to asynq. It holds a slot.
type claimed struct {
	id, msg string
	expiry  int64 // of its lease in Redis, Unix seconds
}

// The verdicts of claim.lua.
const (
	taken  = "claimed"
	paused = "paused"
	late   = "late"
)

// findings is what a claim found.
type findings struct {
	verdict string
	tasks   int // claimed
}

// claim takes up to most tasks into the buffer, for which the lane holds most slots; those not needed are freed.
// After an error that leaves the outcome open, the slots stay held, and the same claim is asked for again.
func (c *Client) claim(most int) (findings, error) {
	again := c.fetch.unresolved > 0
	if !again {
		c.fetch.number++
	}
	ctx, cancel := context.WithTimeout(context.Background(), scriptTimeout)
	defer cancel()
	expiry := time.Now().Add(lease).Unix()
	reply, err := claimScript.Run(ctx, scripter{c.UniversalClient},
		[]string{
			c.keys.pending, c.keys.paused, c.keys.active, c.keys.lease, c.keys.claim, c.keys.lanes.Groups, c.keys.lanes.Turn,
		},
		c.fetch.number, expiry, most, c.keys.tasks, claimKept.Milliseconds(), again, c.keys.lanes.Prefix).Slice()
	if err != nil {
		c.fetch.unresolved = most
		if answered(err) {
			c.fetch.giveUp(c.lane)
		}
		return findings{}, fmt.Errorf("asynqredis: claim from queue %q: %w", c.queue, err)
	}
	c.fetch.unresolved = 0
	tasks, found, err := c.readClaim(reply, expiry)
	c.lane.Release(most - len(tasks))
	c.buffer.put(tasks, c.expireBuffer)
	return found, err
}

// readClaim checks the shape of claim.lua's reply and leaves out the tasks that asynq could not decode.
func (c *Client) readClaim(reply []any, expiry int64) ([]claimed, findings, error) {
	malformed := fmt.Errorf("asynqredis: malformed reply to the claim from queue %q", c.queue)
	if len(reply) < 3 || len(reply)%2 == 0 {
		return nil, findings{}, malformed
	}
	verdict, ok1 := reply[0].(string)
	left, ok2 := reply[1].(int64)
	dropped, ok3 := reply[2].(int64)
	if !ok1 || !ok2 || !ok3 {
		return nil, findings{}, malformed
	}
	c.fetch.more = left > 0
	if dropped > 0 {
		c.log.Warn().Int64("count", dropped).Msg("dropped ids from the queue whose tasks are gone")
	}
	var tasks []claimed
	for i := 3; i < len(reply); i += 2 {
		id, ok1 := reply[i].(string)
		msg, ok2 := reply[i+1].(string)
		if !ok1 || !ok2 {
			return tasks, findings{}, malformed
		}
		task := claimed{id: id, msg: msg, expiry: expiry}
		if err := decodable(msg); err != nil {
			c.setAside(task, err)
			continue
		}
		tasks = append(tasks, task)
	}
	return tasks, findings{verdict: verdict, tasks: len(reply)/2 - 1}, nil
}

// decodable tells what asynq will say to a message, before it drops the task without a word to anyone.
func decodable(msg string) error {
	kind := taskMessage()
	if kind == nil {
		return nil
	}
	return proto.Unmarshal([]byte(msg), kind.New().Interface())
}

// taskMessage is asynq's own message type. Its package is internal, but registers itself.
var taskMessage = sync.OnceValue(func() protoreflect.MessageType {
	kind, err := protoregistry.GlobalTypes.FindMessageByName("asynq.TaskMessage")
	if err != nil {
		return nil
	}
	return kind
})

// setAside archives a task that cannot be decoded.
func (c *Client) setAside(task claimed, cause error) {
	ctx, cancel := context.WithTimeout(context.Background(), scriptTimeout)
	defer cancel()
	err := setAsideScript.Run(ctx, scripter{c.UniversalClient},
		[]string{c.keys.active, c.keys.lease, c.keys.archived, c.keys.tasks + task.id}, task.id, task.expiry).Err()
	event := c.log.Error().Str("task", task.id).AnErr("cause", cause)
	if err != nil {
		event.AnErr("archive", err).Msg("a task that cannot be decoded could not be archived: " +
			"delete it, it stops the recovery of expired leases in its queue")
		return
	}
	event.Msg("archived a task that cannot be decoded: look who enqueues into this queue")
}
