package check_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// project is the compose file as `docker compose` reads it: schema, interpolation, extension fields, profiles.
func project(t *testing.T, env ...string) *types.Project {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{filepath.Join(root, "deploy/compose.yaml")},
		cli.WithEnv(env), cli.WithProfiles([]string{"simulated", "cli"}))
	require.NoError(t, err)
	loaded, err := options.LoadProject(t.Context())
	require.NoError(t, err)
	return loaded
}

func TestComposeFile(t *testing.T) {
	t.Parallel()
	p := project(t)
	for _, name := range []string{"redis", "producer", "worker", "scheduler", "prometheus", "grafana", "simulator", "cli"} {
		assert.Contains(t, p.Services, name)
	}
	worker := p.Services["worker"]
	assert.Equal(t, 2, worker.GetScale())
	for name, service := range p.Services {
		for _, port := range service.Ports {
			assert.Equal(t, "127.0.0.1", port.HostIP, "%s would be open to the network", name)
		}
		assert.False(t, service.Privileged, name)
		if service.Build == nil {
			require.Contains(t, service.Image, ":", "%s: an image without a tag is another one each day", name)
			continue
		}
		assert.Equal(t, "deploy/docker/Dockerfile", service.Build.Dockerfile)
		absolute, err := filepath.Abs(root)
		require.NoError(t, err)
		assert.Equal(t, absolute, service.Build.Context)
		assert.True(t, service.ReadOnly && len(service.CapDrop) == 1, name)
	}
	assert.Empty(t, p.Services["redis"].Ports, "Redis has no password here")
}

// TestComposeMountsWhatIsThere also looks at other places than the working directory's.
func TestComposeMountsWhatIsThere(t *testing.T) {
	t.Parallel()
	p := project(t)
	for name, service := range p.Services {
		for _, volume := range service.Volumes {
			if volume.Type == types.VolumeTypeBind {
				_, err := os.Stat(volume.Source)
				assert.NoError(t, err, name)
			}
		}
		for _, mounted := range service.Configs {
			_, err := os.Stat(p.Configs[mounted.Source].File)
			assert.NoError(t, err, name)
		}
	}
	own := project(t, "FOREBAY_CONFIG_FILE=/somewhere/forebay.yaml")
	assert.Equal(t, "/somewhere/forebay.yaml", own.Configs["forebay"].File)
}

// TestComposeLetsWorkersDrain holds the time to stop against the drain timeout of the configuration beside it.
func TestComposeLetsWorkersDrain(t *testing.T) {
	t.Parallel()
	grace := time.Duration(*project(t).Services["worker"].StopGracePeriod)
	_, rest, found := strings.Cut(string(read(t, "deploy/docker/simulated.yaml")), "drain_timeout: ")
	require.True(t, found)
	drain, err := time.ParseDuration(strings.Fields(rest)[0])
	require.NoError(t, err)
	assert.Greater(t, grace, drain+10*time.Second)
}
