package keyspace

import (
	"fmt"
	"strconv"
	"strings"
)

// MaxShards is the most shards that a queue can have.
const MaxShards = 64

// Shards is into how many shards each queue of a deployment is divided: 1 to MaxShards; 0 is 1. It says where what is
// accepted from now on goes, and nothing about what was accepted before: that stands in its record.
type Shards int

// Shard is one part of a queue, with a name of its own in asynq: "0", "1", ... Unsharded is the queue itself.
type Shard string

// Unsharded is where tasks stand while queues are not divided, and those that need no shard. It is always consumed.
const Unsharded Shard = ""

// Check refuses a number that is none of shards.
func (n Shards) Check() error {
	if n < 0 || n > MaxShards {
		return fmt.Errorf("queues.shards must be 1 to %d, got %d", MaxShards, n)
	}
	return nil
}

// Of is the shard of a job or webhook that is new, by its id.
func (n Shards) Of(id string) Shard {
	if n <= 1 {
		return Unsharded
	}
	// FNV-1a, whose low bits are hardly more than a parity, mixed as MurmurHash3 does.
	hash := uint32(2166136261)
	for i := range len(id) {
		hash = (hash ^ uint32(id[i])) * 16777619
	}
	hash = (hash ^ hash>>16) * 0x85ebca6b
	hash = (hash ^ hash>>13) * 0xc2b2ae35
	hash ^= hash >> 16
	return numbered(int(uint64(hash) * uint64(n) >> 32))
}

// All are the shards that Of chooses from.
func (n Shards) All() []Shard {
	if n <= 1 {
		return []Shard{Unsharded}
	}
	all := make([]Shard, n)
	for i := range all {
		all[i] = numbered(i)
	}
	return all
}

// Has tells whether Of chooses a shard, or anybody may use it: Unsharded.
func (n Shards) Has(shard Shard) bool {
	return shard == Unsharded || n > 1 && shard.Number() < int(n)
}

// Number is that of a shard; -1 for Unsharded.
func (s Shard) Number() int {
	if s == Unsharded {
		return -1
	}
	number, err := strconv.Atoi(string(s))
	if err != nil {
		return -1
	}
	return number
}

func numbered(number int) Shard { return Shard(strconv.Itoa(number)) }

// parseShard reads what numbered writes.
func parseShard(text string) (Shard, bool) {
	number, err := strconv.Atoi(text)
	if err != nil || number < 0 || number >= MaxShards || strconv.Itoa(number) != text {
		return Unsharded, false
	}
	return Shard(text), true
}

// QueueLabel is what users read of a shard of a queue: "bulk", "bulk:3".
func QueueLabel(queue string, shard Shard) string {
	if shard == Unsharded {
		return queue
	}
	return queue + ":" + string(shard)
}

// Queue is the name in asynq of a queue, that of a priority or of the webhooks, or of one of its shards. asynq's own keys
// know no prefix: a deployment that has one of its own has it in the names of its queues, so that deployments which share
// a Redis do not take each other's tasks.
func (k Keyspace) Queue(queue string, shard Shard) string {
	name := QueueLabel(queue, shard)
	if k.prefix == DefaultPrefix {
		return name
	}
	return k.prefix + name
}

// ParseQueue reads a name that Queue has made; every other one is another deployment's.
func (k Keyspace) ParseQueue(name string) (queue string, shard Shard, ours bool) {
	if k.prefix != DefaultPrefix {
		var found bool
		if name, found = strings.CutPrefix(name, k.prefix); !found {
			return "", Unsharded, false
		}
	}
	queue, number, numbered := strings.Cut(name, ":")
	if numbered {
		if shard, ours = parseShard(number); !ours {
			return "", Unsharded, false
		}
	}
	return queue, shard, queue != ""
}

// QueuePaused is asynq's own key: a queue, or a shard of it, stands still while it exists.
func (k Keyspace) QueuePaused(queue string, shard Shard) string {
	return k.asynq(queue, shard, "paused")
}

// QueuePending is asynq's own key: the tasks that wait for a worker, a list.
func (k Keyspace) QueuePending(queue string, shard Shard) string {
	return k.asynq(queue, shard, "pending")
}

// QueueRetry is asynq's own key: the tasks that wait for their time to be delivered again, a sorted set.
func (k Keyspace) QueueRetry(queue string, shard Shard) string { return k.asynq(queue, shard, "retry") }

// QueueTasks are asynq's own keys of which one exists while a queue, or a shard of it, has tasks that are not over. They
// share a hash tag.
func (k Keyspace) QueueTasks(queue string, shard Shard) []string {
	var all []string
	for _, what := range []string{"pending", "active", "scheduled", "retry", "groups"} {
		all = append(all, k.asynq(queue, shard, what))
	}
	return all
}

// QueueEnded are asynq's own keys of which one exists while a queue, or a shard of it, shows tasks that are over.
func (k Keyspace) QueueEnded(queue string, shard Shard) []string {
	return []string{k.asynq(queue, shard, "completed"), k.asynq(queue, shard, "archived")}
}

func (k Keyspace) asynq(queue string, shard Shard, what string) string {
	return "asynq:{" + k.Queue(queue, shard) + "}:" + what
}
