package catalog_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks/catalog"
)

func TestKeyFromTheEnvironment(t *testing.T) {
	t.Parallel()
	const expected = `; put the API key there (expected: begins with "sk-" or "hs-", at least 20 characters)`
	rows := map[string]struct{ value, problem string }{
		"good":          {relayKey, ""},
		"newline":       {relayKey + "\r\n", ""},
		"missing":       {"", "is not set or empty"},
		"upper case":    {"YOUR_RELAY_API_KEY", "holds a placeholder"},
		"lower case":    {"sk-your-key-goes-here-0000", "holds a placeholder"},
		"angles":        {"<put your key here>", "holds a placeholder"},
		"change me":     {"sk-ChangeMe-0000000000000", "holds a placeholder"},
		"crosses":       {"sk-xxxxxxxxxxxxxxxxxxxxxxxx", "holds a placeholder"},
		"dots":          {"sk-...", "holds a placeholder"},
		"not expanded":  {"${RELAY_API_KEY}", "holds a placeholder"},
		"other prefix":  {"pk-0123456789abcdefghij", "holds a key of another shape: it begins differently"},
		"too short":     {"sk-0123456789", "holds a key of another shape: it has only 13 characters"},
		"space":         {"sk-0123456789 abcdefghij", "holds spaces, line breaks or other characters that no key has"},
		"second line":   {relayKey + "\nx", "holds spaces, line breaks or other characters that no key has"},
		"not ASCII":     {"sk-0123456789abcdefghé", "holds spaces, line breaks or other characters that no key has"},
		"leading space": {" " + relayKey, "holds spaces, line breaks or other characters that no key has"},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := small()
			c.LookupEnv = func(string) (string, bool) { return row.value, row.value != "" }
			require.NoError(t, c.Validate())
			key, err := c.Key("relay")
			if row.problem == "" {
				require.NoError(t, err)
				assert.Equal(t, relayKey, key)
				return
			}
			require.EqualError(t, err, "account relay: the environment variable RELAY_API_KEY "+row.problem+expected)
			assert.Empty(t, key)
		})
	}
}

func TestKeyFromAFile(t *testing.T) {
	t.Parallel()
	c := small()
	file := filepath.Join(t.TempDir(), "key")
	c.Accounts["relay"].KeyEnv, c.Accounts["relay"].KeyFile = "", file
	require.NoError(t, c.Validate())

	_, err := c.Key("relay")
	require.EqualError(t, err, "account relay: its API key cannot be read from the file "+file+": no such file or directory")

	require.NoError(t, os.WriteFile(file, []byte(relayKey+"\n"), 0o600))
	key, err := c.Key("relay")
	require.NoError(t, err)
	assert.Equal(t, relayKey, key)

	require.NoError(t, os.WriteFile(file, []byte("sk-replaced-0123456789\n"), 0o600))
	key, err = c.Key("relay")
	require.NoError(t, err)
	assert.Equal(t, "sk-replaced-0123456789", key, "a file may be replaced while workers run")
}

func TestKeyOfNobody(t *testing.T) {
	t.Parallel()
	_, err := valid(t).Key("rely")
	require.EqualError(t, err, `no account "rely", did you mean "relay"?`)
}

func TestKeyShapeWithoutDemands(t *testing.T) {
	t.Parallel()
	c := small()
	c.Accounts["relay"].KeyShape = catalog.KeyShape{}
	c.LookupEnv = func(string) (string, bool) { return "EMPTY", true }
	require.NoError(t, c.Validate())
	key, err := c.Key("relay")
	require.NoError(t, err, "local servers take any key")
	assert.Equal(t, "EMPTY", key)
}
