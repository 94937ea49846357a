package check_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

// TestReleaseConfiguration checks .goreleaser.yaml by goreleaser's own schema, which refuses unknown fields.
func TestReleaseConfiguration(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("testdata/goreleaser.schema.json")
	require.NoError(t, err)
	var schema map[string]any
	require.NoError(t, json.Unmarshal(content, &schema))
	document := read(t, ".goreleaser.yaml")
	validate(t, "goreleaser.schema.json", schema, document)

	var config struct {
		Version int
		Builds  []struct {
			Env          []string
			Goos, Goarch []string
		}
		Archives []struct{ Files []string }
		SBOMs    []map[string]any `json:"sboms"`
		Checksum map[string]any
	}
	require.NoError(t, yaml.Unmarshal(document, &config))
	require.Len(t, config.Builds, 1)
	assert.Equal(t, []string{"linux", "darwin", "windows"}, config.Builds[0].Goos)
	assert.Equal(t, []string{"amd64", "arm64"}, config.Builds[0].Goarch)
	assert.Contains(t, config.Builds[0].Env, "CGO_ENABLED=0")
	assert.Len(t, config.SBOMs, 1)
	assert.Equal(t, "sha256", config.Checksum["algorithm"])

	// What goes into the archives is there: goreleaser notices a missing file only while it releases.
	require.Len(t, config.Archives, 1)
	for _, pattern := range config.Archives[0].Files {
		pattern = strings.ReplaceAll(pattern, "/**", "")
		found, err := filepath.Glob(filepath.Join(root, pattern))
		require.NoError(t, err)
		assert.NotEmpty(t, found, pattern)
	}
}
