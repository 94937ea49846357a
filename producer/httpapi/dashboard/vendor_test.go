package dashboard_test

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// What is not ours is what was taken over: each file stands in the README with its checksum, and there is no other.
func TestVendorIsUnchanged(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("vendor/README.md")
	require.NoError(t, err)
	said := map[string]string{}
	for _, line := range regexp.MustCompile(`(?m)^([0-9a-f]{64})  (\S+)$`).FindAllStringSubmatch(string(text), -1) {
		said[filepath.Join("vendor", line[2])] = line[1]
	}
	found, err := filepath.Glob("vendor/*/*")
	require.NoError(t, err)
	require.Len(t, found, len(said))
	for _, name := range found {
		content, err := os.ReadFile(name)
		require.NoError(t, err)
		digest := sha256.Sum256(content)
		require.Equal(t, said[name], hex.EncodeToString(digest[:]), name)
	}
}
