package envelope

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks/internal/gather"
)

// MostTogether bounds the tasks that Together enqueues in one round trip: everybody else waits for it.
const MostTogether = 256

// together is the client behind asynq's: the scripts that concurrent callers run travel in one pipeline. asynq has one
// round trip for each task, which is what enqueueing takes longest for; its own code still makes every message and
// reads every reply.
type together struct {
	redis.UniversalClient
	scripts *gather.Group[struct{}, *redis.Cmd, struct{}]
}

// Together returns the client to give to asynq.NewClientFromRedisClient, so that concurrent callers enqueue their tasks
// together. It says false, and returns the client itself, where the slots of keys matter, as for one of Redis Cluster.
func Together(client redis.UniversalClient) (redis.UniversalClient, bool) {
	single, ok := client.(*redis.Client)
	if !ok {
		return client, false
	}
	return &together{client, gather.New(MostTogether, func(_ struct{}, scripts []*redis.Cmd) ([]struct{}, error) {
		// Each script has its own reply and its own error. The client's timeouts bound it.
		_, err := single.Pipelined(context.Background(), func(pipe redis.Pipeliner) error {
			for _, script := range scripts {
				_ = pipe.Process(context.Background(), script) // the pipeline's answer says it
			}
			return nil
		})
		if err != nil && !errors.As(err, new(redis.Error)) {
			return nil, fmt.Errorf("enqueue %d tasks: %w", len(scripts), err)
		}
		return make([]struct{}, len(scripts)), nil
	})}, true
}

// EvalSha implements redis.Scripter.
func (t *together) EvalSha(ctx context.Context, sha1 string, keys []string, args ...any) *redis.Cmd {
	words := make([]any, 0, 3+len(keys)+len(args))
	words = append(words, "evalsha", sha1, len(keys))
	for _, key := range keys {
		words = append(words, key)
	}
	words = append(words, args...)
	script := redis.NewCmd(ctx, words...)
	if err := ctx.Err(); err != nil {
		script.SetErr(err)
		return script
	}
	if _, err := t.scripts.Ask(struct{}{}, script); err != nil && script.Err() == nil {
		script.SetErr(err)
	}
	return script
}
