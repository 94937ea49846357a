package reconciler

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/envelope"
	"github.com/forebay-queue/forebay/tasks/webhooks"
)

// webhook makes a webhook with its task, and returns its record.
func (b *bench) webhook(name string) *webhooks.Record {
	b.t.Helper()
	w := webhooks.Webhook{
		ID: webhooks.ID(name), Event: tasks.EventTest, Tenant: "default", At: time.Now().Add(-time.Hour),
		To: tasks.Webhook{URL: "https://example.com/hook"},
	}
	require.NoError(b.t, b.store.Webhooks().Create(b.t.Context(), w))
	return b.readWebhook(w.ID)
}

func (b *bench) readWebhook(id string) *webhooks.Record {
	b.t.Helper()
	record, err := b.store.Webhooks().Get(b.t.Context(), id, "")
	require.NoError(b.t, err)
	return record
}

// onWebhooks has places, claim and the like look at the queue of the webhooks.
func (b *bench) onWebhooks() {
	b.bulk = b.queueOf(tasks.Priority(envelope.WebhookQueueName), "")
}

func TestAWebhookWithoutATaskIsEnqueued(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b *bench) {
		b.onWebhooks()
		ctx := b.t.Context()
		now, later, archived := b.webhook("now"), b.webhook("later"), b.webhook("archived")
		require.NoError(b.t, b.store.Webhooks().Postpone(ctx, later, "backoff", time.Hour))
		require.NoError(b.t, b.inspector.DeleteTask("webhooks", now.ID))
		require.NoError(b.t, b.inspector.DeleteTask("webhooks", later.ID))
		require.NoError(b.t, b.inspector.ArchiveTask("webhooks", archived.ID))
		b.full()
		b.later(missingFor - time.Second)
		b.full()
		require.Equal(b.t, "()", b.places(now.ID), "whoever makes it may still be at it")
		b.later(2 * time.Second)
		b.full()
		require.Equal(b.t, "pending(pending)", b.places(now.ID))
		require.Equal(b.t, "scheduled(scheduled)", b.places(later.ID))
		info, err := b.inspector.GetTaskInfo("webhooks", now.ID)
		require.NoError(b.t, err)
		require.Equal(b.t, "webhook:webhook.test", info.Type)
		require.Equal(b.t, now.ID, string(info.Payload))
		require.Equal(b.t, webhooks.Dead, b.readWebhook(archived.ID).State)
		require.Equal(b.t, "task_archived", b.readWebhook(archived.ID).Reason)
		require.Equal(b.t, 1, b.said("enqueued", now.ID))
		b.full()
		require.Equal(b.t, 1, b.said("enqueued", now.ID))
	})
}

func TestADeadDeliveryOfAWebhookIsRequeued(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b *bench) {
		b.onWebhooks()
		record := b.webhook("dead")
		b.claim(record.ID)
		b.full()
		require.Equal(b.t, "active+leased(active)", b.places(record.ID))
		b.later(deadAfter)
		b.full()
		require.Equal(b.t, "pending(pending)", b.places(record.ID))
		require.Equal(b.t, 1, b.said("requeued", record.ID))

		require.NoError(b.t, b.redis.HDel(b.t.Context(), b.bulk.keys.tasks+record.ID, "msg").Err())
		b.full()
		info, err := b.inspector.GetTaskInfo("webhooks", record.ID)
		require.NoError(b.t, err)
		require.Equal(b.t, record.ID, string(info.Payload), "its message is made from its record")
	})
}

// A webhook has ended, and who ended it died before the lists knew; and what has expired goes out of them.
func TestTheListsOfWebhooksAreMended(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b *bench) {
		ctx, keys := b.t.Context(), b.store.Keys()
		ended, gone := b.webhook("ended"), b.webhook("gone")
		require.NoError(b.t, b.redis.HSet(ctx, keys.Webhook(ended.ID), "state", "dead", "reason", "refused").Err())
		require.NoError(b.t, b.store.Webhooks().Discard(ctx, gone.ID, ""))
		require.NoError(b.t, b.redis.Del(ctx, keys.Webhook(gone.ID)).Err())
		require.NoError(b.t, b.redis.ZAdd(ctx, keys.WebhooksExpiring(), redis.Z{Score: 1, Member: "default/" + gone.ID}).Err())
		b.full()
		require.Equal(b.t, []string{ended.ID}, b.redis.ZRange(ctx, keys.Webhooks("dead", "default"), 0, -1).Val())
		require.Empty(b.t, b.redis.ZRange(ctx, keys.Webhooks("pending", "default"), 0, -1).Val())
		require.Equal(b.t, []string{ended.ID}, b.redis.ZRange(ctx, keys.Webhooks("", "default"), 0, -1).Val())
	})
}
