package activity_test

import (
	"os"
	"testing"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/activity"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

// docs/events.md has every kind and every field of the stream of jobs.
func TestTheDocumentHasAllFields(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/events.md")
	require.NoError(t, err)
	client, _ := redistest.Embedded(t)
	keys := keyspace.New("")
	r := activity.New(client, keys, nil, zerolog.Nop())
	for _, status := range []tasks.Status{tasks.StatusSucceeded, tasks.StatusFailed, tasks.StatusCancelled, tasks.StatusExpired} {
		r.Ended(nil, tasks.Job{ID: "a"}, status, tasks.Result{})
	}
	r.Retried(nil, tasks.Job{ID: "a"}, 1, nil, 1)
	r.Close(t.Context())
	entries, err := client.XRange(t.Context(), keys.JobEvents(), "-", "+").Result()
	require.NoError(t, err)
	require.Len(t, entries, 5)
	for _, entry := range entries {
		require.Contains(t, string(text), "`"+entry.Values["type"].(string)+"`")
		for field := range entry.Values {
			require.Contains(t, string(text), "`"+field+"`")
		}
	}
}
