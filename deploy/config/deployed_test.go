package config_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/deploy/config"
)

// TestConfigurationOfCompose is what every process of deploy/compose.yaml does with the configuration beside it.
func TestConfigurationOfCompose(t *testing.T) {
	t.Parallel()
	file, err := config.Load("../docker/simulated.yaml")
	require.NoError(t, err)
	require.Empty(t, config.Check(file), "no key is needed")
}
