package batches

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/webhooks"
)

func (b bundle) sent() []*webhooks.Record {
	b.t.Helper()
	page, err := b.hooks.List(b.t.Context(), webhooks.Filter{Tenant: "acme", Limit: 100})
	require.NoError(b.t, err)
	return page.Webhooks
}

// A batch tells those of its end who want to know, each end once.
func TestTheEndOfABatchIsTold(t *testing.T) {
	t.Parallel()
	everywhere(t, func(b bundle) {
		id := NewID()
		_, err := b.Create(b.t.Context(), Batch{
			ID: id, Tenant: "acme", Kind: KindRun,
			Webhooks: []tasks.Webhook{
				{URL: "https://one.example.com"},
				{URL: "https://two.example.com", Secret: "other", Events: []string{"batch.completed"}},
				{URL: "https://three.example.com", Events: []string{"batch.failed"}},
			},
		})
		require.NoError(b.t, err)
		require.NoError(b.t, b.Begin(b.t.Context(), id, 1))
		b.report(id, Report{Number: 0, Run: 1, State: Failed})
		require.NoError(b.t, b.Tell(b.t.Context(), id)) // a crash had it told again
		sent := b.sent()
		require.Len(b.t, sent, 2)
		urls := []string{sent[0].To.URL, sent[1].To.URL}
		require.ElementsMatch(b.t, []string{"https://one.example.com", "https://two.example.com"}, urls)
		batch := b.get(id)
		for _, hook := range sent {
			require.Equal(b.t, "batch.completed", hook.Event)
			require.Equal(b.t, id, hook.Batch)
			require.Equal(b.t, batch.EndedAt(), hook.At)
		}

		b.report(id, Report{Number: 0, Run: 2, State: Open})
		b.report(id, Report{Number: 0, Run: 2, State: Succeeded})
		require.Len(b.t, b.sent(), 4, "the second end has its own")
	})
}
