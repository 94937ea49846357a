package config_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/deploy/config"
	"github.com/forebay-queue/forebay/tasks/envelope"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

// TestConfigurationOfCompose is what every process of deploy/compose.yaml does with the configuration beside it.
func TestConfigurationOfCompose(t *testing.T) {
	t.Parallel()
	file, err := config.Load("../docker/simulated.yaml")
	require.NoError(t, err)
	require.Empty(t, config.Check(file), "no key is needed")
}

// TestListsOfTheChart are those by which deploy/helm scales workers, as deploy/check reads them there.
func TestListsOfTheChart(t *testing.T) {
	t.Parallel()
	require.Equal(t, "asynq:{bulk}:pending", keyspace.New("").QueuePending("bulk", ""))
	require.Equal(t, "asynq:{mine:bulk}:pending", keyspace.New("mine:").QueuePending("bulk", ""))
	require.Equal(t, "asynq:{bulk}:g:default", envelope.Lanes(keyspace.New("").Queue("bulk", "")).Prefix+envelope.DefaultLane)
}
