package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/deploy/config"
	"github.com/forebay-queue/forebay/tasks/seal"
)

const relayKey = "sk-0123456789abcdefghij"

// encrypted is the good file with a section encryption, and an environment.
func encrypted(t *testing.T, section string, env map[string]string) (*config.File, error) {
	t.Helper()
	file, err := config.Parse("forebay.yaml", []byte("encryption: "+section+"\n"+good))
	if err == nil {
		file.Catalog.LookupEnv = func(name string) (string, bool) {
			if name == "RELAY_API_KEY" {
				return relayKey, true
			}
			value, found := env[name]
			return value, found
		}
	}
	return file, err
}

func TestSealer(t *testing.T) {
	t.Parallel()
	old := filepath.Join(t.TempDir(), "old")
	require.NoError(t, os.WriteFile(old, []byte(seal.NewKey()+"\n"), 0o600))
	file, err := encrypted(t, "{keys: [{id: k2, env: KEY_2}, {id: k1, file: "+old+"}]}", map[string]string{"KEY_2": seal.NewKey()})
	require.NoError(t, err)
	assert.Empty(t, config.Check(file))
	sealer, err := file.Sealer()
	require.NoError(t, err)
	assert.Equal(t, []string{"k2", "k1"}, sealer.IDs(), "the first one seals")

	file, err = encrypted(t, "{}", nil)
	require.NoError(t, err)
	sealer, err = file.Sealer()
	require.NoError(t, err)
	assert.Nil(t, sealer)
}

func TestEncryptionIsChecked(t *testing.T) {
	t.Parallel()
	key := seal.NewKey()
	const remedy = "; put a key there that `forebay config new-key` has made: 32 random bytes in base64"
	for section, row := range map[string]struct{ value, want string }{
		"{keys: [{id: 'a b', env: K}]}":                {key, `encryption.keys[0].id: must be 1 to 64 characters of A-Z a-z 0-9 _ . -, the first a letter or a digit, got "a b"`},
		"{keys: [{env: K}]}":                           {key, "encryption.keys[0].id: must be 1 to 64 characters"},
		"{keys: [{id: k1, env: K}, {id: k1, env: L}]}": {key, "encryption.keys[1].id: is that of a key before; every key needs a name of its own"},
		"{keys: [{id: k1}]}":                           {key, "encryption.keys[0].env: is missing: name the environment variable that holds the key, or its file in file"},
		"{keys: [{id: k1, env: K, file: /k}]}":         {key, "encryption.keys[0].file: stands beside env; give one of them"},
		"{keys: [{id: k1, env: '" + key + "'}]}":       {key, "encryption.keys[0].env: must be the name of an environment variable, such as FOREBAY_KEY_1; the key itself never stands in the file"},
		"{keys: [{id: k1, key: abc}]}":                 {key, "encryption.keys[0].key: unknown field"},
		"{keys: [{id: k1, env: K}, {id: k2, env: K}]}": {key, "encryption.keys: seal: the keys k1 and k2 are the same"},
		"{keys: [{id: k1, file: /nowhere/key}]}":       {key, "encryption.keys[0].file: the file /nowhere/key cannot be read: no such file or directory" + remedy},
		"{keys: [{id: k1, env: L}]}":                   {key, "encryption.keys[0].env: the environment variable L is not set or empty" + remedy},
		"{keys: [{id: k3, env: K}]}":                   {"<your key>", "encryption.keys[0].env: the environment variable K holds what is no base64" + remedy},
		"{keys: [{id: k4, env: K}]}":                   {key[:40], "encryption.keys[0].env: the environment variable K holds 30 bytes in base64, and a key has 32" + remedy},
		"{keys: [{id: k5, env: K}]}":                   {strings.Repeat("A", 43), "encryption.keys[0].env: the environment variable K holds a placeholder, or a key that is not random" + remedy},
	} {
		t.Run(section, func(t *testing.T) {
			t.Parallel()
			file, err := encrypted(t, section, map[string]string{"K": row.value})
			text := ""
			if err != nil {
				text = err.Error()
			} else {
				for _, problem := range config.Check(file) {
					text += problem.String() + "\n"
				}
				_, err = file.Sealer()
				require.Error(t, err)
			}
			assert.Contains(t, text, row.want)
			assert.NotContains(t, text, row.value, "nothing of a key is repeated")
		})
	}
}
