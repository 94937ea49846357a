// Package calls remembers which job a call of OpenAI's API waits for, so that a repetition of the call, by a client that
// was cut off, finds that job instead of making another.
//
// Two equal calls are two jobs. A repetition is what says so itself: OpenAI's clients number their tries in a header. It
// takes the place of an earlier try of an equal call, by the same tenant, for whose job nobody waits any more. Those who
// wait for a job are subscribed to its end, and Redis knows as soon as a process is gone: what it held is found at once.
package calls

import (
	"context"
	"crypto/sha256"
	_ "embed" // for the script
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks/keyspace"
)

const (
	// Grace is for how long after its connection is gone a call's job is found by the next try.
	Grace = time.Minute
	// mostLooked is among how many earlier tries one is looked for.
	mostLooked = 100
)

//go:embed keep.lua
var keepSource string

var keepScript = redis.NewScript(keepSource)

// Book is what is remembered. It may be used by any number of goroutines.
type Book struct {
	redis redis.UniversalClient
	keys  keyspace.Keyspace
}

// NewBook returns the book of a deployment.
func NewBook(client redis.UniversalClient, keys keyspace.Keyspace) *Book {
	return &Book{redis: client, keys: keys}
}

// Asked is what a call asks: equal ones may be tries of one call.
type Asked struct {
	Tenant, Endpoint string
	Body             []byte
	// Try numbers the tries of a call from 0.
	Try int
}

func (a Asked) digest() string {
	hash := sha256.New()
	fmt.Fprintf(hash, "%q %q ", a.Tenant, a.Endpoint)
	hash.Write(a.Body)
	return hex.EncodeToString(hash.Sum(nil)[:16])
}

// Call is a call that waits for a job.
type Call struct {
	// Job is the id of its job. It may not have been made yet.
	Job string
	// Joined tells that it is an earlier try's.
	Joined bool

	key, entry string
}

// Begin finds the job of an earlier try, or names a new one. What is not forgotten or left is remembered for so long.
func (b *Book) Begin(ctx context.Context, asked Asked, lasts time.Duration) (Call, error) {
	call := Call{key: b.keys.Calls(asked.digest())}
	if asked.Try > 0 {
		entries, err := b.abandoned(ctx, call.key, asked.Try)
		if err != nil {
			return Call{}, fmt.Errorf("look for an earlier try of a call: %w", err)
		}
		for _, entry := range entries {
			job, _, _ := strings.Cut(entry, " ")
			next := Call{Job: job, Joined: true, key: call.key, entry: entryOf(job, asked.Try)}
			if taken, err := b.keep(ctx, call.key, entry, next.entry, lasts); err != nil || taken {
				return next, err
			}
		}
	}
	id, err := uuid.NewV7()
	if err != nil {
		return Call{}, fmt.Errorf("make an id for the job of a call: %w", err)
	}
	call.Job, call.entry = id.String(), entryOf(id.String(), asked.Try)
	_, err = b.keep(ctx, call.key, "", call.entry, lasts)
	return call, err
}

func entryOf(job string, try int) string { return job + " " + strconv.Itoa(try) }

// abandoned are the entries of earlier tries for whose jobs nobody waits, those first that are forgotten first.
func (b *Book) abandoned(ctx context.Context, key string, try int) ([]string, error) {
	entries, err := b.redis.ZRange(ctx, key, 0, mostLooked-1).Result()
	if err != nil {
		return nil, err
	}
	var earlier, channels []string
	for _, entry := range entries {
		job, number, _ := strings.Cut(entry, " ")
		if n, err := strconv.Atoi(number); err == nil && n < try {
			earlier, channels = append(earlier, entry), append(channels, b.keys.JobDone(job))
		}
	}
	if len(earlier) == 0 {
		return nil, nil
	}
	waiting, err := b.subscribed(ctx, channels)
	if err != nil {
		return nil, err
	}
	var abandoned []string
	for i, entry := range earlier {
		if waiting[channels[i]] == 0 {
			abandoned = append(abandoned, entry)
		}
	}
	return abandoned, nil
}

// subscribed counts who is told of each channel. On a cluster every node knows its own only.
func (b *Book) subscribed(ctx context.Context, channels []string) (map[string]int64, error) {
	cluster, isCluster := b.redis.(*redis.ClusterClient)
	if !isCluster {
		return b.redis.PubSubNumSub(ctx, channels...).Result()
	}
	var mu sync.Mutex
	sum := map[string]int64{}
	err := cluster.ForEachShard(ctx, func(ctx context.Context, node *redis.Client) error {
		counts, err := node.PubSubNumSub(ctx, channels...).Result()
		mu.Lock()
		defer mu.Unlock()
		for channel, count := range counts {
			sum[channel] += count
		}
		return err
	})
	return sum, err
}

func (b *Book) keep(ctx context.Context, key, before, entry string, lasts time.Duration) (bool, error) {
	reply, err := keepScript.Run(ctx, b.redis, []string{key}, before, entry, lasts.Milliseconds()).Int64Slice()
	if err == nil && len(reply) != 1 {
		err = errors.New("the script did not answer one number")
	}
	if err != nil {
		return false, fmt.Errorf("remember the job of a call: %w", err)
	}
	return reply[0] == 1, nil
}

// Leave says that nobody waits any more: the call's job is found for Grace. False says that a later try has taken it, or
// that it was forgotten.
func (b *Book) Leave(ctx context.Context, call Call) (bool, error) {
	if call.entry == "" {
		return true, nil
	}
	return b.keep(ctx, call.key, call.entry, call.entry, Grace)
}

// Forget says that the call was answered.
func (b *Book) Forget(ctx context.Context, call Call) error {
	if call.entry == "" {
		return nil
	}
	if err := b.redis.ZRem(ctx, call.key, call.entry).Err(); err != nil {
		return fmt.Errorf("forget the job of a call: %w", err)
	}
	return nil
}
