package command

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks/redistest"
	"github.com/forebay-queue/forebay/tasks/seal"
)

func TestConfigNewKey(t *testing.T) {
	t.Parallel()
	got := inProcess(t, "", "config", "new-key")
	require.Equal(t, exitOK, got.status, got.stderr)
	_, err := seal.ParseKey(got.stdout)
	require.NoError(t, err, "the key alone is on standard output")
	assert.NotContains(t, got.stderr, strings.TrimSpace(got.stdout))
	assert.Contains(t, got.stderr, "- {id: k1, env: FOREBAY_KEY_1}")
	var made newEncryptionKeyReply
	require.NoError(t, json.Unmarshal([]byte(inProcess(t, "", "config", "new-key", "--json").stdout), &made))
	_, err = seal.ParseKey(made.Key)
	require.NoError(t, err)
}

// Whoever works with a configuration that has keys needs them, and is told which is missing; nothing is written plain.
func TestCommandsNeedTheKeys(t *testing.T) {
	t.Parallel()
	client, server := redistest.Embedded(t)
	key := filepath.Join(t.TempDir(), "key")
	path := filepath.Join(t.TempDir(), "forebay.yaml")
	text, err := os.ReadFile(simulatedFile(t))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, append(text, "\nencryption: {keys: [{id: k1, file: "+key+"}]}\n"...), 0o600))
	run := func(line string) outcomeOf {
		return inProcess(t, "", append(strings.Fields(line), "--config", path, "--redis", "redis://"+server.Addr())...)
	}
	for _, line := range []string{"enqueue --type fast_summary --id sealed-1 --input a-prompt", "jobs list", "get sealed-1", "worker", "scheduler", "producer"} {
		got := run(line)
		require.Equal(t, exitFailed, got.status, line)
		assert.Contains(t, got.stderr, "encryption.keys[0].file: the file "+key+" cannot be read: no such file or directory; put a key there that `forebay config new-key` has made", line)
	}
	require.NoError(t, os.WriteFile(key, []byte(seal.NewKey()), 0o600))
	got := run("enqueue --type fast_summary --id sealed-1 --input a-prompt")
	require.Equal(t, exitOK, got.status, got.stderr)
	assert.True(t, seal.Sealed(client.HGet(t.Context(), "forebay:{job:sealed-1}", "job").Val()))
	got = run("jobs show sealed-1")
	require.Equal(t, exitOK, got.status, got.stderr)

	require.NoError(t, os.WriteFile(key, []byte(seal.NewKey()), 0o600))
	got = run("jobs show sealed-1")
	assert.Equal(t, exitFailed, got.status)
	assert.Contains(t, got.stderr, "job sealed-1: field job: sealed under the key k1, and does not open with it")
	assert.Equal(t, exitOK, run("jobs list").status, "lists are shown in any case")
}
