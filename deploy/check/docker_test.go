package check_test

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// instructions are the Dockerfile's as docker's own parser reads them: keyword and words.
func instructions(t *testing.T) (lines [][]string) {
	t.Helper()
	parsed, err := parser.Parse(bytes.NewReader(read(t, "deploy/docker/Dockerfile")))
	require.NoError(t, err)
	require.Empty(t, parsed.Warnings)
	for _, node := range parsed.AST.Children {
		line := []string{strings.ToUpper(node.Value)}
		line = append(line, node.Flags...)
		for word := node.Next; word != nil; word = word.Next {
			line = append(line, word.Value)
		}
		lines = append(lines, line)
	}
	return lines
}

func TestImageIsSmallAndNobodys(t *testing.T) {
	t.Parallel()
	last := map[string][]string{}
	for _, line := range instructions(t) {
		if line[0] == "FROM" {
			last = map[string][]string{} // only the last stage is kept
		}
		last[line[0]] = line[1:]
	}
	require.Equal(t, []string{"gcr.io/distroless/static-debian12:nonroot"}, last["FROM"])
	assert.Equal(t, []string{"65532:65532"}, last["USER"], "a number, so that Kubernetes can tell that it is not root")
	assert.Equal(t, []string{"/usr/local/bin/forebay"}, last["ENTRYPOINT"])
	assert.NotContains(t, last, "RUN", "there is no shell in it")
}

func TestImageSetsTheVersion(t *testing.T) {
	t.Parallel()
	text := string(read(t, "deploy/docker/Dockerfile"))
	assert.Contains(t, text, "CGO_ENABLED=0", "distroless/static has no libc")
	source := string(read(t, "deploy/command/version.go"))
	require.Contains(t, source, "var version, commit, date string")
	for _, name := range []string{"version", "commit", "date"} {
		flag := "-X github.com/forebay-queue/forebay/deploy/command." + name + "="
		assert.Contains(t, text, flag)
		assert.Contains(t, string(read(t, ".goreleaser.yaml")), flag)
	}
}

// TestImageContextIsEnough copies what the dockerignore file lets through and has Go find every package and every embedded
// file of the program in it: what is missing would only be noticed by a build.
func TestImageContextIsEnough(t *testing.T) {
	t.Parallel()
	patterns, err := ignorefile.ReadAll(bytes.NewReader(read(t, "deploy/docker/Dockerfile.dockerignore")))
	require.NoError(t, err)
	ignored, err := patternmatcher.New(patterns)
	require.NoError(t, err)
	context := t.TempDir()
	copied := map[string]bool{}
	require.NoError(t, filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil || name == "." {
			return err
		}
		if entry.IsDir() && (name == ".git" || name == "bin" || entry.Name() == "node_modules") {
			return filepath.SkipDir
		}
		skip, err := ignored.MatchesOrParentMatches(name)
		if err != nil || skip || !entry.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		copied[name] = true
		target := filepath.Join(context, name)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		return os.WriteFile(target, content, 0o644)
	}))

	list := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".")
	list.Dir = context
	list.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false", "GOWORK=off")
	packages, err := list.CombinedOutput()
	require.NoError(t, err, "%s", packages)
	assert.Contains(t, string(packages), "forebay/deploy/command\n")

	for name := range copied {
		assert.False(t, strings.HasSuffix(name, "_test.go") || strings.Contains(name, ".env") || strings.HasPrefix(name, ".ci"), name)
	}
	assert.NotContains(t, copied, "deploy/compose.yaml")
	assert.Contains(t, copied, "go.sum")
}
