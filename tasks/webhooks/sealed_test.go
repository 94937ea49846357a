package webhooks

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/redistest"
	"github.com/forebay-queue/forebay/tasks/seal"
)

// Neither where a webhook goes, nor its headers, nor what was answered stands anywhere; whoever has the key reads all.
func TestNothingPlainStandsOfASealedWebhook(t *testing.T) {
	t.Parallel()
	client, _ := redistest.Real(t)
	require.NoError(t, client.ConfigSet(t.Context(), "rdbcompression", "no").Err()) // so that a dump shows what it holds
	b := newBundle(t, client, testKey("k1"))
	w := Webhook{
		ID: ID("job", "7"), Event: "job.succeeded", Tenant: "acme", Job: "7", Run: 1, At: time.Now(), Keep: time.Hour,
		To: tasks.Webhook{URL: "https://example.com/PLANTED", Secret: "main", Headers: map[string]string{"x-team": "PLANTED"}},
	}
	require.NoError(t, b.Create(t.Context(), w))
	r := b.get(w.ID)
	assert.Equal(t, w.To, r.To)
	admission, err := b.Admit(t.Context(), r, "t1", false, limits)
	require.NoError(t, err)
	_, err = b.Begin(t.Context(), r, limits)
	require.NoError(t, err)
	_, err = b.Settle(t.Context(), r, admission, Attempt{Number: 1, At: time.Now(), Status: 500, Answer: "PLANTED"},
		Next{State: Pending, Wait: time.Second, Effect: TargetIll}, limits)
	require.NoError(t, err)
	assert.Equal(t, "PLANTED", b.get(w.ID).History[0].Answer)
	targets, err := b.Targets(t.Context(), "acme")
	require.NoError(t, err)
	assert.Empty(t, targets[0].Recent[0].Answer)

	keys, err := client.Keys(t.Context(), "*").Result()
	require.NoError(t, err)
	for _, key := range keys {
		dump, err := client.Dump(t.Context(), key).Result()
		require.NoError(t, err)
		assert.NotContains(t, dump, "PLANTED", key)
	}

	// One that cannot be opened stops no list.
	other := newBundle(t, client, testKey("k2"))
	record, err := other.Get(t.Context(), w.ID, "")
	require.ErrorIs(t, err, seal.ErrUnreadable)
	require.ErrorContains(t, err, "read webhook "+w.ID+": url: sealed under the key k1, ")
	assert.Equal(t, Pending, record.State)
	page, err := other.List(t.Context(), Filter{})
	require.NoError(t, err)
	require.Len(t, page.Webhooks, 1)
	assert.Empty(t, page.Webhooks[0].To.URL)
	require.NoError(t, other.Discard(t.Context(), w.ID, "acme"), "for that it need not be read")
	assert.Equal(t, Discarded, b.get(w.ID).State)
}
