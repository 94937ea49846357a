package command

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks/apikeys"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

func TestKeys(t *testing.T) {
	t.Parallel()
	client, server := redistest.Embedded(t)
	run := func(line string) outcomeOf {
		return inProcess(t, "", append(strings.Fields(line), "--redis", "redis://"+server.Addr(), "--log-level", "debug")...)
	}
	require.Equal(t, "no API keys: the HTTP interface serves this machine only\n", run("keys list").stdout)

	// The key alone is on standard output, and it works.
	got := run("keys create --tenant acme --name crawler --read-only --expires 90d")
	require.Equal(t, exitOK, got.status, got.stderr)
	require.Regexp(t, `^fbk_[a-z2-7]{16}_[a-z2-7]{59}\n$`, got.stdout)
	text := strings.TrimSpace(got.stdout)
	id := strings.Split(text, "_")[1]
	assert.Regexp(t, `^API key `+id+`, tenant acme, read, holds until .*\. It is shown this once:\n$`, got.stderr)
	assert.NotContains(t, got.stderr, text)
	book, err := apikeys.OpenBook(t.Context(), client, keyspace.New(""))
	require.NoError(t, err)
	t.Cleanup(book.Close)
	key, err := book.Verify(text)
	require.NoError(t, err)
	assert.WithinDuration(t, time.Now().Add(90*24*time.Hour), *key.ExpiresAt, time.Minute)

	var made struct {
		ID, Secret      string
		Operator, Write bool
	}
	require.NoError(t, json.Unmarshal([]byte(run("keys create --operator --json").stdout), &made))
	assert.True(t, made.Operator && made.Write)

	// Afterwards no secret can be had any more.
	for _, line := range []string{"keys list", "keys list --json"} {
		got = run(line)
		require.Equal(t, exitOK, got.status, got.stderr)
		for _, shown := range []string{id, made.ID, "acme", "crawler"} {
			assert.Contains(t, got.stdout, shown)
		}
		for _, secret := range []string{text, made.Secret} {
			assert.NotContains(t, got.stdout+got.stderr, strings.Split(secret, "_")[2])
		}
		assert.NotContains(t, got.stdout, "hash")
	}

	assert.Equal(t, outcomeOf{stdout: "the API key " + id + " is revoked\n"}, run("keys revoke "+id))
	got = run("keys revoke " + id)
	assert.Equal(t, exitFailed, got.status)
	assert.Contains(t, got.stderr, "there is no API key "+id)
	assert.JSONEq(t, `{"id":"`+made.ID+`","revoked":true}`, run("keys revoke --json "+made.ID).stdout)
}

func TestKeysThatAreNotUnderstood(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"create":                            "give --tenant NAME or --operator, one of them",
		"create --tenant a --operator":      "give --tenant NAME or --operator, one of them",
		"create --tenant a/b":               "--tenant must be 1 to 64 characters",
		"create --tenant a --expires soon":  "--expires must be a duration such as 90d or 12h",
		"create --tenant a --expires 0d":    "--expires must be",
		"create --tenant a --expires -3d":   "--expires must be",
		"create --tenant a --expires 9999d": "from 1m to 3660d",
		"revoke":                            "takes the id of one key, got 0 arguments",
		"revoke fbk_secret_text":            "takes the id of a key",
		"revoek":                            "did you mean revoke?",
	} {
		got := inProcess(t, "", strings.Fields("keys "+line)...)
		assert.Equal(t, exitUsage, got.status, line)
		assert.Contains(t, got.stderr, want, line)
		assert.NotContains(t, got.stderr, "secret_text")
	}
}
