package command

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// shown finds the commands of this program that a page has in its text.
var shown = regexp.MustCompile("`forebay ([a-z][^`]*)`")

// TestRunbooksNameCommandsThatExist: whoever is woken by an alert types what stands there.
func TestRunbooksNameCommandsThatExist(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../docs/runbooks/*.md")
	require.NoError(t, err)
	files = append(files, "../../docs/upgrades.md")
	found := 0
	for _, file := range files {
		page, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, match := range shown.FindAllStringSubmatch(strings.ReplaceAll(string(page), "\n  ", " "), -1) {
			found++
			root, _ := newRoot()
			words := strings.Fields(match[1])
			command, rest, err := root.Find(words)
			require.NoError(t, err, "%s: %s", file, match[0])
			require.NotSame(t, root, command, "%s: %s", file, match[0])
			command.InheritedFlags() // so that the global ones are known
			assert.NoError(t, command.ParseFlags(rest), "%s: %s", file, match[0])
			if args := command.Flags().Args(); command.HasSubCommands() {
				assert.Empty(t, args, "%s: %s", file, match[0])
			}
		}
	}
	assert.Greater(t, found, 50)
}
