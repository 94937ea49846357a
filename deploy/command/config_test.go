package command

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/deploy/config"
)

func TestConfigInitWritesTheExampleOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "my.yaml")
	got := inProcess(t, "", "config", "init", path)
	require.Equal(t, exitOK, got.status, got.stderr)
	assert.Contains(t, got.stdout, "Wrote "+path+". Next:\n")
	assert.Contains(t, got.stdout, "forebay worker --config "+path)
	written, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, string(config.Example()), string(written))

	got = inProcess(t, "", "config", "init", path)
	require.Equal(t, exitOK, got.status, got.stderr)
	assert.Contains(t, got.stdout, path+" is there already, unchanged. Next:\n")

	lost := filepath.Join(filepath.Dir(path), "sub", "my.yaml")
	got = inProcess(t, "", "config", "init", lost)
	assert.Equal(t, exitFailed, got.status)
	assert.Equal(t, "forebay: "+lost+" cannot be written: no such file or directory; make its folder first (mkdir -p "+
		filepath.Dir(lost)+"), or name another file\n", got.stderr)

	require.NoError(t, os.WriteFile(path, []byte("mine"), 0o600))
	got = inProcess(t, "", "config", "init", path)
	assert.Equal(t, exitFailed, got.status)
	assert.Equal(t, "forebay: "+path+" exists already and is not overwritten; name another file, or overwrite it with --force\n", got.stderr)
	got = inProcess(t, "", "config", "init", path, "--force")
	assert.Equal(t, exitOK, got.status)

	got = inProcess(t, "", "config", "init", "-")
	assert.Equal(t, string(config.Example()), got.stdout)
}

func TestConfigCheckNamesEveryPlace(t *testing.T) {
	t.Parallel()
	text := strings.Replace(string(config.Example()), "    timeout: 30s", "    timout: 30s", 1)
	text = strings.Replace(text, "  gpt-4.1-mini: {output: 2.50, context_window", "  gpt-4.1-mini: {context_window", 1)
	path := writeFile(t, "bad.yaml", text)
	before, _, _ := strings.Cut(text, "    timout")
	line := strings.Count(before, "\n") + 1

	got := inProcess(t, "", "config", "check", path)
	assert.Equal(t, exitFailed, got.status)
	assert.Empty(t, got.stdout)
	assert.Regexp(t, `^`+path+`:\d+:5: endpoints\.holysheep-apac\.timout: unknown field`, got.stderr)
	assert.Contains(t, got.stderr, path+":"+strconv.Itoa(line)+":5: ")

	got = inProcess(t, "", "config", "check", path, "--json")
	assert.Equal(t, exitFailed, got.status)
	var reply configReply
	require.NoError(t, json.Unmarshal([]byte(got.stdout), &reply))
	assert.False(t, reply.OK)
	require.NotEmpty(t, reply.Problems)
	assert.Equal(t, line, reply.Problems[0].Line)

	// Every other command says the same, on lines of its own.
	got = inProcess(t, "", "status", "--config", path)
	assert.Equal(t, exitFailed, got.status)
	for line := range strings.Lines(got.stderr) {
		assert.True(t, strings.HasPrefix(line, "forebay: "+path+":"), line)
	}
}

func TestConfigCheckOfWhatIsNotThere(t *testing.T) {
	t.Parallel()
	got := inProcess(t, "", "config", "check", "nowhere.yaml")
	assert.Equal(t, exitFailed, got.status)
	assert.Equal(t, "forebay: nowhere.yaml cannot be read: no such file or directory; name another file with --config, or write one with `forebay config init`\n", got.stderr)
}

func TestConfigCheckSumsUp(t *testing.T) {
	t.Parallel()
	got := inProcess(t, "", "config", "check", simulatedFile(t))
	assert.Equal(t, exitOK, got.status, got.stderr)
	assert.Contains(t, got.stdout, "is in order.\n")
	assert.Contains(t, got.stdout, "endpoints   1  simulated-apac\n")
}
