package command

import (
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/deploy/config"
	"github.com/forebay-queue/forebay/tasks/servers"
)

// What a server says of itself decides what is found of it.
func TestWhatAServerSays(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	for name, test := range map[string]struct {
		server   servers.Server
		settings map[string]string
		limit    float64
		look     func(*redisNode) *finding
		want     string // level and code
		says     string
	}{
		"far from the limit":   {servers.Server{UsedBytes: 50 * mib, MaxBytes: 100 * mib}, nil, 0.7, (*redisNode).memory, "", ""},
		"near the limit":       {servers.Server{UsedBytes: 60 * mib, MaxBytes: 100 * mib}, nil, 0.7, (*redisNode).memory, "warning redis_memory", "60 % of maxmemory (100 MiB), and from 70 % on"},
		"at the limit":         {servers.Server{UsedBytes: 70 * mib, MaxBytes: 100 * mib}, nil, 0.7, (*redisNode).memory, "error redis_memory", "no job is accepted"},
		"no limit, near":       {servers.Server{UsedBytes: 80 * mib, MaxBytes: 100 * mib}, nil, 1, (*redisNode).memory, "warning redis_memory", "lose their leases"},
		"no limit, full":       {servers.Server{UsedBytes: 90 * mib, MaxBytes: 100 * mib}, nil, 1, (*redisNode).memory, "error redis_memory", "lose their leases"},
		"machine nearly full":  {servers.Server{UsedBytes: 75 * mib, SystemBytes: 100 * mib}, nil, 0.7, (*redisNode).memory, "warning redis_memory", "its machine's memory"},
		"no maxmemory":         {servers.Server{UsedBytes: mib}, nil, 0.7, (*redisNode).noLimit, "warning redis_no_limit", "no maxmemory"},
		"old":                  {servers.Server{Version: "6.2.14"}, nil, 0.7, (*redisNode).version, "error redis_version", "6.2.14"},
		"new":                  {servers.Server{Version: "8.2.0"}, nil, 0.7, (*redisNode).version, "", ""},
		"evicted":              {servers.Server{Policy: "allkeys-lru", Evicted: 7}, nil, 0.7, (*redisNode).policy, "error redis_policy", "has deleted 7 keys"},
		"no append-only file":  {servers.Server{}, nil, 0.7, (*redisNode).appendOnly, "warning redis_aof", "lost when it restarts"},
		"no rewrite":           {servers.Server{AOF: true, RewriteError: true}, nil, 0.7, (*redisNode).appendOnly, "warning redis_aof", "could not rewrite"},
		"persistence hidden":   {servers.Server{HidesAOF: true}, nil, 0.7, (*redisNode).appendOnly, "", ""},
		"a failed snapshot":    {servers.Server{SaveError: true}, nil, 0.7, (*redisNode).snapshot, "warning redis_snapshot", "failed"},
		"many clients":         {servers.Server{Clients: 810, MaxClients: 1000}, nil, 0.7, (*redisNode).clients, "warning redis_clients", "810 of its 1000 connections"},
		"too few clients":      {servers.Server{MaxClients: 100}, nil, 0.7, (*redisNode).clients, "warning redis_clients", "100 connections"},
		"the system's fsync":   {servers.Server{AOF: true}, map[string]string{"appendfsync": "no"}, 0.7, (*redisNode).appendOnly, "warning redis_aof", "appendfsync no"},
		"a fsync a second":     {servers.Server{AOF: true}, map[string]string{"appendfsync": "everysec"}, 0.7, (*redisNode).appendOnly, "", ""},
		"cuts connections":     {servers.Server{}, map[string]string{"timeout": "60"}, 0.7, (*redisNode).timeout, "warning redis_timeout", "idle for 1m"},
		"cuts old connections": {servers.Server{}, map[string]string{"timeout": "300"}, 0.7, (*redisNode).timeout, "", ""},
		"settings are hidden":  {servers.Server{}, nil, 0.7, (*redisNode).timeout, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			node := &redisNode{server: test.server, settings: test.settings, memoryLimit: test.limit, connections: 120, options: &redis.UniversalOptions{}}
			found := test.look(node)
			if test.want == "" {
				assert.Nil(t, found)
				return
			}
			require.NotNil(t, found)
			assert.Equal(t, test.want, string(found.Level)+" "+found.Code)
			assert.Contains(t, found.Message, test.says)
			assert.NotEmpty(t, found.Hint)
		})
	}
	lonely := &redisNode{server: servers.Server{Role: "master"}, options: &redis.UniversalOptions{IsClusterMode: true}}
	assert.Equal(t, levelWarning, lonely.replicas().Level, "nobody would take over")
	assert.Nil(t, (&redisNode{options: &redis.UniversalOptions{}}).replicas(), "a single server has none")
	stopped := writesStopped(errors.New("MISCONF Errors writing to the AOF file: No space left on device"))
	assert.Equal(t, codeRedisAOF, stopped.Code)
	assert.Nil(t, writesStopped(errors.New("LOADING")))
}

func TestWhatTheConfigurationSays(t *testing.T) {
	t.Parallel()
	file, err := config.Parse("forebay.yaml", []byte(`
accounts: {acme: {key_env: KEY}, own: {}}
endpoints:
  near: {account: acme, url: "http://127.0.0.1:1/v1", priority: 1, models: [dear, gift, vector, cheap]}
  here: {account: own, url: "http://127.0.0.1:2/v1", priority: 2, auth: none, models: [local]}
models: {dear: {output: 9}, cheap: {output: 1}, gift: {output: 0}, local: {output: 0}, vector: {kind: embedding, input: 0.1}}
tiers: [{name: low, models: [dear, vector]}, {name: middle, models: [vector]}, {name: high, models: [cheap, dear]}]
`))
	require.NoError(t, err)
	free := examinePrices(&file.Catalog)
	require.Len(t, free, 1)
	assert.Equal(t, "models.gift", free[0].Subject)
	assert.Contains(t, free[0].Message, "near wants a key")
	order := examineTiers(&file.Catalog)
	require.Len(t, order, 1)
	assert.Equal(t, "tiers.low", order[0].Subject)
	assert.Contains(t, order[0].Message, "dear, costs $9 per million tokens, more than cheap with $1 of the tier high")

	certificates := newPKI(t)
	now := time.Now()
	for at, want := range map[time.Time]string{
		now:                    "",
		now.AddDate(0, 6, -20): "warning certificate",
		now.AddDate(0, 6, 1):   "error certificate",
		now.AddDate(-1, 0, 0):  "error certificate",
	} {
		assert.Equal(t, want, worst(examineCertificate("http.tls.cert_file", certificates.server, at)), at)
	}
	assert.Equal(t, "error certificate", worst(examineCertificate("http.tls.cert_file", certificates.key, now)), "no certificate")
	assert.Empty(t, judgeSpace("/files", 2<<30, 200<<20))
	assert.Equal(t, "warning files_space", worst(judgeSpace("/files", 900<<20, 200<<20)))
	assert.Equal(t, "error files_space", worst(judgeSpace("/files", 100<<20, 200<<20)))
}

func worst(findings []finding) string {
	if len(findings) == 0 {
		return ""
	}
	return string(findings[0].Level) + " " + findings[0].Code
}
