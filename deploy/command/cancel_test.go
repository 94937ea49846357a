package command

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/deploy/config"
	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/redistest"
	"github.com/forebay-queue/forebay/tasks/seal"
)

// A job whose key is lost can be cancelled, and it is said that it is.
func TestCancelWithoutTheKey(t *testing.T) {
	t.Parallel()
	redis, server := redistest.Embedded(t)
	file, err := config.Parse("the example", config.Example())
	require.NoError(t, err)
	secret, err := seal.ParseKey(seal.NewKey())
	require.NoError(t, err)
	sealer, err := seal.New(seal.Key{ID: "k1", Secret: secret})
	require.NoError(t, err)
	client, err := producer.New(producer.Config{Redis: redis, Catalog: &file.Catalog, Sealer: sealer})
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	_, err = client.Enqueue(t.Context(), tasks.Job{ID: "lost", TaskType: "fast_summary", Input: "x"})
	require.NoError(t, err)
	require.Equal(t, outcomeOf{stdout: "job lost is cancelled\n"}, inProcess(t, "", "cancel", "lost", "--redis", "redis://"+server.Addr()))
}
