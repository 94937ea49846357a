package webhooks

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The header of every script is its contract: each key and argument that the body names stands in it, and is named once,
// behind a local.
func TestScriptsKeepTheirForm(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.lua")
	require.NoError(t, err)
	require.Len(t, files, 9)
	given := regexp.MustCompile(`(?:KEYS|ARGV)\[\d+\]`)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		header, body, found := strings.Cut(string(text), "\n\n")
		require.True(t, found, file)
		assert.True(t, strings.HasPrefix(header, "-- "+strings.TrimSuffix(file, ".lua")+": "), file)
		for _, part := range []string{"KEYS[1]", "ARGV", "RETURNS", "CLOCK", "WRITES"} {
			assert.Contains(t, header, "-- "+part, file)
		}
		seen := map[string]bool{}
		for line := range strings.SplitSeq(body, "\n") {
			for _, name := range given.FindAllString(line, -1) {
				assert.True(t, strings.HasPrefix(line, "local "), "%s: %s stands bare in %q", file, name, line)
				assert.Contains(t, header, "-- "+name, file)
				assert.False(t, seen[name], "%s: %s is named twice", file, name)
				seen[name] = true
			}
		}
		assert.NotContains(t, body, "cjson", file)
	}
}
