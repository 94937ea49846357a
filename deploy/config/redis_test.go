package config_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/deploy/config"
)

func TestParseRedisURL(t *testing.T) {
	t.Parallel()
	type read struct {
		Addrs                  []string
		User, Password, Master string
		DB                     int
		Cluster, TLS           bool
	}
	for raw, want := range map[string]read{
		"redis://h:1/3":                               {Addrs: []string{"h:1"}, DB: 3},
		"redis://u:p%40@h":                            {Addrs: []string{"h:6379"}, User: "u", Password: "p@"},
		"rediss://h:1":                                {Addrs: []string{"h:1"}, TLS: true},
		"unix:///run/redis.sock?db=2":                 {Addrs: []string{"/run/redis.sock"}, DB: 2},
		"redis-sentinel://a:1,b/2?master=m":           {Addrs: []string{"a:1", "b:26379"}, Master: "m", DB: 2},
		"rediss-sentinel://u:p%2Fq@a:1,b:2?master=m":  {Addrs: []string{"a:1", "b:2"}, Master: "m", User: "u", Password: "p/q", TLS: true},
		"redis-cluster://a:1,[::1]:2,c":               {Addrs: []string{"a:1", "[::1]:2", "c:6379"}, Cluster: true},
		"rediss-cluster://:p@a:1":                     {Addrs: []string{"a:1"}, Password: "p", Cluster: true, TLS: true},
		"redis-sentinel://a@b,c?master=my-primary.eu": {Addrs: []string{"b:26379", "c:26379"}, Master: "my-primary.eu", User: "a"},
	} {
		o, err := config.ParseRedisURL(raw)
		require.NoError(t, err, raw)
		assert.Equal(t, want, read{o.Addrs, o.Username, o.Password, o.MasterName, o.DB, o.IsClusterMode, o.TLSConfig != nil}, raw)
	}
}

func TestURLsOfRedisThatAreRefused(t *testing.T) {
	t.Parallel()
	for raw, reason := range map[string]string{
		"":                                  "must be redis://",
		"h:6379":                            "must be redis://",
		"http://h":                          "must be redis://",
		"redis-sentinel://":                 "must be redis://",
		"redis-other://h":                   "must be redis://",
		"redisscluster://h":                 "must be redis://",
		"redis-sentinel://s3cr3t@a:1":       "add ?master=name",
		"redis-sentinel://a:1?master=m&x=1": "an option that is not known",
		"redis-sentinel://a:1/x?master=m":   "a database that is no number",
		"redis-sentinel://a:1?master=m/0":   "names a master with a character that no name has",
		"redis-cluster://a:1/0":             "a cluster has only the one",
		"redis-cluster://a:1?master=m":      "for redis-sentinel://",
		"redis-cluster://a:1,,b:2":          "not host:port",
		"redis-cluster://a:99999":           "not host:port",
		"redis-cluster://s3cr3t%zz:x@a:1":   "percent-encoded",
	} {
		_, err := config.ParseRedisURL(raw)
		require.ErrorContains(t, err, reason, raw)
		assert.NotContains(t, err.Error(), "s3cr3t")
	}
}

// FuzzParseRedisURL: nothing makes it panic, and what it takes has an address.
func FuzzParseRedisURL(f *testing.F) {
	for _, seed := range []string{"redis://h", "redis-sentinel://u:p@a:1,b:2/3?master=m", "rediss-cluster://[::1]:1", "unix:///x", "redis-cluster://%:%@,"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		if options, err := config.ParseRedisURL(raw); err == nil {
			require.NotEmpty(t, options.Addrs)
		}
	})
}

func TestRedisOptionsOfManyServers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certificate, key := selfSigned(t, dir)
	env := map[string]string{"P": "s3cr3t", "S": "s3cr3t-2"}
	options, err := parsed(t, "{url: 'rediss-sentinel://a,b?master=m', username: u, password_env: P, sentinel: {username: s, password_env: S}, "+
		"tls: {ca_file: "+certificate+", cert_file: "+certificate+", key_file: "+key+", server_name: redis.internal}}", env).RedisOptions()
	require.NoError(t, err)
	assert.Equal(t, []string{"u", "s3cr3t", "s", "s3cr3t-2"},
		[]string{options.Username, options.Password, options.SentinelUsername, options.SentinelPassword})
	assert.Equal(t, "redis.internal", options.TLSConfig.ServerName)
	assert.Len(t, options.TLSConfig.Certificates, 1)
	assert.NotNil(t, options.TLSConfig.RootCAs)

	empty := filepath.Join(dir, "empty")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	for redis, reason := range map[string]string{
		"{url: 'redis://u@h', username: v}":                                        "redis.username: redis.url names a user already; remove one of them",
		"{url: 'redis://h', sentinel: {username: s}}":                              "redis.sentinel: stands beside a redis.url that names no Sentinels",
		"{url: 'redis://h', tls: {server_name: h}}":                                "redis.tls: stands beside a URL without TLS: write rediss",
		"{url: 'rediss://h', tls: {ca_file: " + empty + "}}":                       "redis.tls.ca_file: " + empty + " holds no certificate in PEM",
		"{url: 'rediss://h', tls: {ca_file: /nowhere}}":                            "redis.tls.ca_file: /nowhere cannot be read: no such file or directory",
		"{url: 'rediss://h', tls: {cert_file: /nowhere, key_file: " + key + "}}":   "redis.tls.cert_file: /nowhere and " + key + " are no certificate with its private key",
		"{url: 'redis-sentinel://a?master=m', sentinel: {password_env: NOWHERE}}":  "redis.sentinel.password_env: the environment variable NOWHERE is not set or empty; put the Sentinels' password there",
		"{url: 'redis-sentinel://a?master=m', sentinel: {password_file: /nowher}}": "redis.sentinel.password_file: /nowher cannot be read",
	} {
		var lines []string
		for _, problem := range config.Check(parsed(t, redis, map[string]string{"RELAY_API_KEY": "sk-0123456789abcdefghij"})) {
			lines = append(lines, problem.String())
		}
		assert.Contains(t, strings.Join(lines, "\n"), reason, redis)
	}
}

func TestRedisSettingsThatAreRefused(t *testing.T) {
	t.Parallel()
	for redis, reason := range map[string]string{
		"{url: 'redis-cluster://u:s3cr3t@h'}":                     "redis.url: holds a password",
		"{wait_replicas: 17}":                                     "redis.wait_replicas: must be 0 to 16, got 17",
		"{wait_replicas: -1}":                                     "redis.wait_replicas: must be 0 to 16, got -1",
		"{wait_timeout: 2m}":                                      "redis.wait_timeout: must be 10ms to 1m, got 2m",
		"{wait_timeout: 0s}":                                      "redis.wait_timeout: must be 10ms to 1m",
		"{memory_limit: 1.5}":                                     "redis.memory_limit: must be more than 0 and at most 1, a share of Redis' maxmemory, got 1.5",
		"{memory_limit: 0}":                                       "redis.memory_limit: must be more than 0 and at most 1",
		"{tls: {cert_file: /x}}":                                  "redis.tls: needs both",
		"{sentinel: {password_env: S, password_file: /x}}":        "redis.sentinel.password_file: stands beside password_env",
		"{sentinel: {password_env: 'not a name'}}":                "redis.sentinel.password_env: must be the name of an environment variable",
		"{url: 'redis-sentinel://h:26379'}":                       "redis.url: does not say what the Sentinels call the master",
		"{url: 'redis://127.0.0.1:6379/0', prefix: 'x', tlss: 1}": "redis.tlss: unknown field, did you mean tls?",
	} {
		_, err := config.Parse("forebay.yaml", []byte("redis: "+redis+"\n"+good))
		require.ErrorContains(t, err, reason, redis)
		assert.NotContains(t, err.Error(), "s3cr3t")
	}
}

// selfSigned writes a certificate and its key, and returns their files.
func selfSigned(t *testing.T, dir string) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	require.NoError(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	certificate, key = filepath.Join(dir, "client.crt"), filepath.Join(dir, "client.key")
	require.NoError(t, os.WriteFile(certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	require.NoError(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600))
	return certificate, key
}
