package command

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

// Two stand for leader, one leads; the other follows when it leaves. A job whose way in died before it wrote the task
// is not waited for here: that takes a minute.
func TestSchedulersTakeTurns(t *testing.T) {
	t.Parallel()
	d := newSite(t)
	first := d.start(t, "scheduler", "--log-format", "json")
	first.stderr.await(t, `"message":"leads"`)
	second := d.start(t, "scheduler", "--log-format", "json")
	second.stderr.await(t, "scheduler started")
	assert.NotContains(t, second.stderr.text(), `"message":"leads"`)
	first.signal(t)
	assert.Equal(t, exitOK, first.end(t), first.stderr.text())
	second.stderr.await(t, `"message":"leads"`)
	second.signal(t)
	assert.Equal(t, exitOK, second.end(t), second.stderr.text())
}

// A queue that was left half-written is mended at once, by the built program beside a worker.
func TestTheSchedulerMends(t *testing.T) {
	t.Parallel()
	d := newSite(t)
	d.ok(t, "enqueue", "--type", "fast_summary", "--input", document, "--id", "a")
	address, err := url.Parse(strings.TrimPrefix(d.env[0], envRedis+"="))
	require.NoError(t, err)
	client := redis.NewClient(redistest.Options(address.Host))
	t.Cleanup(func() { _ = client.Close() })
	require.NoError(t, client.Del(context.Background(), "asynq:{default}:t:a").Err())
	mender := d.start(t, "scheduler", "--log-format", "json")
	mender.stderr.await(t, `"what":"rewritten"`)
	d.worker(t)
	eventually(t, "the job is done", func() bool { return d.result(t, "a").Status == tasks.StatusSucceeded })
	mender.signal(t)
	begun := time.Now()
	assert.Equal(t, exitOK, mender.end(t), mender.stderr.text())
	assert.Less(t, time.Since(begun), 5*time.Second)
}
