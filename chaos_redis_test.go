package main_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks/redistest"
)

// canary writes to Redis all the time, and tells after a kill how far back writes are lost that had been answered:
// the append-only file is one sequence, so that whatever was written before the last write that is still there is
// there, too.
type canary struct {
	client *redis.Client
	caged  bool
	mu     sync.Mutex
	sent   []time.Time // when each number was sent
	acked  int
}

const canaryKey = "chaos:canary"

func newCanary(t *testing.T, server *redistest.Server) *canary {
	t.Helper()
	options := redistest.Options(server.Addr)
	options.MaxRetries = -1 // a write that is repeated would be two
	k := &canary{client: redis.NewClient(options), sent: []time.Time{time.Now()}}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			k.sing(ctx)
			time.Sleep(2 * time.Millisecond)
		}
	}()
	t.Cleanup(func() {
		stop()
		if k.caged { // the test has failed while Redis was away
			k.mu.Unlock()
		}
		<-done
		_ = k.client.Close()
	})
	return k
}

func (k *canary) sing(ctx context.Context) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.sent = append(k.sent, time.Now())
	if k.client.Set(ctx, canaryKey, len(k.sent)-1, 0).Err() == nil {
		k.acked = len(k.sent) - 1
	}
}

// cage stops the writes while Redis is away.
func (k *canary) cage() {
	k.mu.Lock()
	k.caged = true
}

// release looks what is left of them, and goes on.
func (k *canary) release() (lost int, from time.Time) {
	defer k.mu.Unlock()
	k.caged = false
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	survived, err := k.client.Get(ctx, canaryKey).Int()
	for err != nil && !errors.Is(err, redis.Nil) && ctx.Err() == nil {
		survived, err = k.client.Get(ctx, canaryKey).Int()
	}
	return max(0, k.acked-survived), k.sent[survived]
}

// cutFile takes some bytes away from the end of the append-only file, while Redis is away.
func (c *chaos) cutFile(size int64) {
	c.t.Helper()
	if size == 0 {
		return
	}
	files, err := filepath.Glob(filepath.Join(c.redisDir, "appendonlydir", "*.incr.aof"))
	require.NoError(c.t, err)
	require.NotEmpty(c.t, files)
	var newest string
	var written int64
	var at time.Time
	for _, file := range files {
		info, err := os.Stat(file)
		require.NoError(c.t, err)
		if newest == "" || info.ModTime().After(at) {
			newest, written, at = file, info.Size(), info.ModTime()
		}
	}
	require.NoError(c.t, os.Truncate(newest, max(0, written-size)))
}

// pressDisk makes fsync slow, also for Redis: it writes so many megabytes at a time.
func pressDisk(t *testing.T, megabytes int) {
	t.Helper()
	path, data := filepath.Join(t.TempDir(), "pressure"), make([]byte, megabytes<<20)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			file, err := os.Create(path)
			if err != nil {
				return
			}
			_, _ = file.Write(data)
			_ = file.Sync()
			_ = file.Close()
		}
	}()
	t.Cleanup(func() {
		stop()
		<-done
	})
}
