package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/deploy/config"
)

// parsed is the good file with a section for Redis, and an environment.
func parsed(t *testing.T, redis string, env map[string]string) *config.File {
	t.Helper()
	file, err := config.Parse("forebay.yaml", []byte("redis: "+redis+"\n"+good))
	require.NoError(t, err)
	file.Catalog.LookupEnv = func(name string) (string, bool) {
		value, found := env[name]
		return value, found
	}
	return file
}

func TestRedisOptions(t *testing.T) {
	t.Parallel()
	options, err := parsed(t, "{url: 'redis://user@redis.internal:6380/3', password_env: P}", map[string]string{"P": "s3cr3t"}).RedisOptions()
	require.NoError(t, err)
	assert.Equal(t, []string{"redis.internal:6380"}, options.Addrs)
	assert.Equal(t, 3, options.DB)
	assert.Equal(t, "user", options.Username)
	assert.Equal(t, "s3cr3t", options.Password)

	options, err = parsed(t, "{url_env: U}", map[string]string{"U": "rediss://:s3cr3t@redis.internal:6379"}).RedisOptions()
	require.NoError(t, err)
	assert.Equal(t, "s3cr3t", options.Password)
	assert.NotNil(t, options.TLSConfig)

	path := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(path, []byte("s3cr3t\n"), 0o600))
	options, err = parsed(t, "{password_file: "+path+"}", nil).RedisOptions()
	require.NoError(t, err)
	assert.Equal(t, []string{"127.0.0.1:6379"}, options.Addrs)
	assert.Equal(t, "s3cr3t", options.Password)
}

func TestCheckFindsMissingSecrets(t *testing.T) {
	t.Parallel()
	const key = "sk-0123456789abcdefghij"
	rows := map[string]struct {
		redis string
		env   map[string]string
		want  string
	}{
		"nothing missing": {"{password_env: P}", map[string]string{"RELAY_API_KEY": key, "P": "s3cr3t"}, ""},
		"the key and the password": {
			"{password_env: P}", nil,
			"forebay.yaml:1:23: redis.password_env: the environment variable P is not set or empty; put Redis' password there\n" +
				"forebay.yaml:4:14: accounts.relay.key_env: the environment variable RELAY_API_KEY is not set or empty; put the API key there (expected: one line)",
		},
		"the URL": {
			"{url_env: U}",
			map[string]string{"RELAY_API_KEY": key},
			"forebay.yaml:1:18: redis.url_env: the environment variable U is not set or empty; put Redis' URL there",
		},
		"a URL that is none": {
			"{url_env: U}",
			map[string]string{"RELAY_API_KEY": key, "U": "http://:s3cr3t@%zz"},
			"forebay.yaml:1:18: redis.url_env: the environment variable U holds no URL of Redis: it must be " + config.RedisURLForms,
		},
		"two passwords": {
			"{url_env: U, password_env: P}",
			map[string]string{"RELAY_API_KEY": key, "U": "redis://:s3cr3t@r:6379", "P": "s3cr3t-2"},
			"forebay.yaml:1:35: redis.password_env: the URL in U has a password already; remove one of them",
		},
		"the password's file": {
			"{password_file: /nowhere/password}",
			map[string]string{"RELAY_API_KEY": key},
			"forebay.yaml:1:24: redis.password_file: /nowhere/password cannot be read: no such file or directory",
		},
		"a placeholder": {
			"{}",
			map[string]string{"RELAY_API_KEY": "YOUR_API_KEY"},
			"forebay.yaml:4:14: accounts.relay.key_env: the environment variable RELAY_API_KEY holds a placeholder; put the API key there (expected: one line)",
		},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var lines []string
			for _, problem := range config.Check(parsed(t, row.redis, row.env)) {
				lines = append(lines, problem.String())
			}
			assert.Equal(t, row.want, strings.Join(lines, "\n"))
			assert.NotContains(t, strings.Join(lines, "\n"), "s3cr3t")
		})
	}
}
