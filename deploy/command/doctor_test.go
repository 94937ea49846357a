package command

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/deploy/simulator"
	"github.com/forebay-queue/forebay/tasks/fleet"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

// The key is what no output may hold any part of.
const (
	secretKey    = "sk-right-0123456789abcdefghij"
	refusedKey   = "sk-wrong-0123456789abcdefghij"
	shapelessKey = "tk-other-0123456789abcdefghij"
)

// patient is a deployment to be examined. A zero field means a sound one.
type patient struct {
	key      string
	models   []string // that the provider serves
	url      string   // of the endpoint
	redis    string   // URL
	redisArg []string
	endpoint string // more of the endpoint's settings
}

// examined runs `forebay doctor --json` on a deployment in every sense real, but for its provider.
func (p patient) examined(t *testing.T) (outcomeOf, doctorReply) {
	t.Helper()
	if p.redis == "" {
		client, server := redistest.Real(t, append([]string{"--appendonly", "yes", "--maxmemory", "1gb"}, p.redisArg...)...)
		p.redis = server.URL()
		lead(t, client)
	}
	if p.url == "" {
		if p.models == nil {
			p.models = []string{"small", "large"}
		}
		sim, err := simulator.New(simulator.Config{Keys: []string{secretKey}, Models: p.models})
		require.NoError(t, err)
		provider := httptest.NewServer(sim)
		t.Cleanup(func() {
			_ = sim.Close()
			provider.Close()
		})
		p.url = provider.URL + "/simulated/v1"
	}
	if p.key == "" {
		p.key = secretKey
	}
	keyFile := writeFile(t, "key", p.key)
	file := writeFile(t, "forebay.yaml", fmt.Sprintf(`
redis: {url: %q}
accounts: {acme: {key_file: %q, key_shape: {prefixes: [sk-]}}}
endpoints:
  near: {account: acme, url: %q, priority: 1%s}
models: {small: {output: 1}, large: {output: 2}}
tiers: [{name: low, models: [small, large]}]
fallback_tier: low
task_types: {summary: {model: small}}
`, p.redis, keyFile, p.url, p.endpoint))
	got := inProcess(t, "", "doctor", "--json", "--config", file)
	var reply doctorReply
	require.NoError(t, json.Unmarshal([]byte(got.stdout), &reply), got.stderr)
	human := inProcess(t, "", "doctor", "--config", file)
	assert.Equal(t, got.status, human.status)
	for _, text := range []string{got.stdout, got.stderr, human.stdout, human.stderr} {
		for _, secret := range []string{"0123456789", "hunter2"} {
			assert.NotContains(t, text, secret)
		}
	}
	for _, f := range reply.Findings {
		assert.NotEmpty(t, f.Message, f.Code)
		assert.NotEmpty(t, f.Subject, f.Code)
		assert.Equal(t, f.Level != levelOK, f.Hint != "", "%s: what is not in order has a remedy", f.Code)
		assert.Contains(t, human.stdout, f.Code)
	}
	return got, reply
}

// lead makes it look as if a scheduler led the deployment.
func lead(t *testing.T, client redis.UniversalClient) {
	t.Helper()
	until := time.Now().Add(time.Hour).UnixMilli()
	// A Redis that is full is one of the patients.
	_ = client.HSet(t.Context(), "forebay:leader", "holder", "test", "until", until, "term", 1).Err()
}

// codes are those of the findings that are not in order: "error redis_policy".
func (r doctorReply) codes() []string {
	var codes []string
	for _, f := range r.Findings {
		if f.Level != levelOK {
			codes = append(codes, string(f.Level)+" "+f.Code)
		}
	}
	return codes
}

func (r doctorReply) find(t *testing.T, code string) finding {
	t.Helper()
	for _, f := range r.Findings {
		if f.Code == code {
			return f
		}
	}
	require.Fail(t, "no finding "+code)
	return finding{}
}

func TestDoctorFindsWhatIsBroken(t *testing.T) {
	t.Parallel()
	const noWorkers = "warning no_workers"
	page := func(status int, kind, body string) string {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if status == http.StatusFound {
				http.Redirect(w, r, "/login?key="+secretKey, status)
				return
			}
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		}))
		t.Cleanup(server.Close)
		return server.URL + "/v1"
	}
	_, guarded := redistest.Embedded(t)
	guarded.RequireAuth("hunter2")
	const apiJSON = "application/json"
	for _, test := range []struct {
		name    string
		patient patient
		codes   []string
		text    string
	}{
		{"nothing", patient{}, []string{noWorkers}, "no worker is alive"},
		{"wrong port", patient{url: "http://127.0.0.1:1/v1"}, []string{noWorkers, "error endpoint_away"}, "cannot be reached: connect: connection refused"},
		{"refused key", patient{key: refusedKey}, []string{noWorkers, "error key_refused"}, "HTTP 401: the key is refused"},
		{"eviction", patient{redisArg: []string{"--maxmemory-policy", "allkeys-lru"}}, []string{"error redis_policy", noWorkers}, "allkeys-lru"},
		{"no append-only file", patient{redisArg: []string{"--appendonly", "no"}}, []string{"warning redis_aof", noWorkers}, "lost when it restarts"},
		{"full memory", patient{redisArg: []string{"--maxmemory", "1mb"}}, []string{"error redis_memory", noWorkers}, "of maxmemory (1 MiB)"},
		{"key of another shape", patient{key: shapelessKey}, []string{"error key_unusable", noWorkers, "warning not_tested"}, "begins differently"},
		{"key never filled in", patient{key: "sk-your-key"}, []string{"error key_unusable", noWorkers, "warning not_tested"}, "placeholder"},
		{"model that is not served", patient{models: []string{"small"}}, []string{noWorkers, "warning models_missing"}, "does not list large"},
		{"model that is not expected there", patient{models: []string{"tiny"}, endpoint: ", models: {small: tiny, large: tiny}"}, []string{noWorkers}, "alive"},
		{"redirect", patient{url: page(http.StatusFound, "", "")}, []string{noWorkers, "error misconfigured"}, "a redirect"},
		{"page", patient{url: page(http.StatusOK, "text/html", "<html>Welcome</html>")}, []string{noWorkers, "error misconfigured"}, "no JSON"},
		{"foreign 404", patient{url: page(http.StatusNotFound, "text/html", "<html>")}, []string{noWorkers, "error misconfigured"}, "HTTP 404"},
		{"no list", patient{url: page(http.StatusNotFound, apiJSON, `{"error":{"message":"x"}}`)}, []string{noWorkers, "warning no_model_list"}, "HTTP 404"},
		{"empty account", patient{url: page(http.StatusForbidden, apiJSON, `{"error":{"code":"insufficient_user_quota"}}`)}, []string{noWorkers, "error quota"}, "no money"},
		{"limit", patient{url: page(http.StatusTooManyRequests, apiJSON, `{"error":{"code":429}}`)}, []string{noWorkers, "warning throttled"}, "rate limit"},
		{"sick provider", patient{url: page(http.StatusBadGateway, "text/html", "<html>")}, []string{noWorkers, "error endpoint_away"}, "HTTP 502"},
		{"slow provider", patient{endpoint: ", latency_threshold: 1ns"}, []string{noWorkers, "warning endpoint_slow"}, "latency_threshold"},
		{"Redis away", patient{redis: "redis://127.0.0.1:1/0"}, []string{"error redis_away"}, "cannot reach Redis at 127.0.0.1:1/0"},
		{"Redis without its password", patient{redis: "redis://" + guarded.Addr()}, []string{"error redis_login"}, "NOAUTH"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, reply := test.patient.examined(t)
			assert.Equal(t, test.codes, reply.codes(), got.stdout)
			assert.Contains(t, got.stdout, test.text)
			failed := strings.Contains(strings.Join(test.codes, " "), "error ")
			assert.Equal(t, !failed, reply.OK)
			if failed {
				assert.Equal(t, exitFailed, got.status)
				assert.Positive(t, reply.Errors)
			} else {
				assert.Equal(t, exitOK, got.status)
			}
		})
	}
}

func TestDoctorShowsTheStateOfTheWork(t *testing.T) {
	t.Parallel()
	client, server := redistest.Embedded(t)
	ctx := t.Context()
	lead(t, client)
	p := patient{redis: "redis://" + server.Addr()}
	one := fleet.Join(client, keyspace.New(""), fleet.Process{ID: "one", Kind: fleet.Worker})
	require.NoError(t, one.Beat(ctx))
	_, reply := p.examined(t)
	assert.Equal(t, []string{"warning redis_embedded"}, reply.codes())
	assert.Equal(t, "1 alive", reply.find(t, codeWorkers).Message)

	server.Del("forebay:workers:one")
	require.NoError(t, client.SAdd(ctx, "forebay:paused", "summary").Err())
	require.NoError(t, client.Set(ctx, "asynq:{bulk}:paused", 1, 0).Err())
	require.NoError(t, client.ZAdd(ctx, "forebay:{idx:3}:dead", redis.Z{Score: 1, Member: "a"}, redis.Z{Score: 2, Member: "b"}).Err())
	require.NoError(t, client.HSet(ctx, "forebay:{acct:acme}:ep:near", "state", "open", "until_ms", time.Now().Add(time.Hour).UnixMilli(),
		"generation", 7, "forced_generation", 7).Err())
	server.SetTime(time.Now().Add(20 * time.Second))
	got, reply := p.examined(t)
	assert.Equal(t, []string{
		"error clock", "warning redis_embedded", "warning no_workers", "warning queue_paused", "warning task_type_paused",
		"warning breaker_open", "warning dead_jobs",
	}, reply.codes())
	assert.Equal(t, exitFailed, got.status)
	assert.Equal(t, "bulk", reply.find(t, codeQueuePaused).Subject)
	assert.Contains(t, reply.find(t, codeBreakerOpen).Message, "(by hand)")
	assert.Contains(t, reply.find(t, codeBreakerOpen).Hint, "`forebay breaker close near`")
	assert.Contains(t, reply.find(t, codeDeadJobs).Message, "2 jobs")
}

func TestDoctorOnBrokenConfigurations(t *testing.T) {
	t.Parallel()
	file := writeFile(t, "forebay.yaml", "redis: {url: 'redis://127.0.0.1:1/0'}\nworkers:\n  slots: 3\nendpoint: {}\n")
	got := inProcess(t, "", "doctor", "--json", "--config", file)
	assert.Equal(t, exitFailed, got.status)
	assert.Empty(t, got.stderr)
	var reply doctorReply
	require.NoError(t, json.Unmarshal([]byte(got.stdout), &reply))
	assert.Equal(t, []string{"error config_invalid", "error config_invalid"}, reply.codes())
	assert.Equal(t, file+":2:1", reply.Findings[0].Subject)
	assert.Equal(t, file+":4:1", reply.Findings[1].Subject)

	client, server := redistest.Embedded(t)
	lead(t, client)
	got = inProcess(t, "", "doctor", "--config", filepath.Join(t.TempDir(), "nowhere.yaml"), "--redis", "redis://"+server.Addr())
	assert.Equal(t, exitFailed, got.status)
	assert.Contains(t, got.stdout, "nowhere.yaml cannot be read: no such file or directory")
	assert.Contains(t, got.stdout, codeRedisEmbedded, "Redis is examined all the same")

	got = inProcess(t, "", "doctor", "--redis", "http://user:hunter2@127.0.0.1")
	assert.Equal(t, exitFailed, got.status)
	assert.Contains(t, got.stdout, "the URL of Redis in --redis must be redis://")
	assert.NotContains(t, got.stdout+got.stderr, "hunter2")
	got = inProcess(t, "", "doctor", "--redis", "redis://"+server.Addr())
	assert.Equal(t, exitOK, got.status, got.stdout)
	assert.Contains(t, got.stdout, codeConfigMissing)
}

func TestDoctorNeedsNoEnvironmentToFindAMissingKey(t *testing.T) {
	t.Parallel()
	client, server := redistest.Embedded(t)
	lead(t, client)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "forebay.yaml"), []byte(`
accounts: {acme: {key_env: FOREBAY_TEST_NO_SUCH_KEY}}
endpoints: {near: {account: acme, url: "http://127.0.0.1:1/v1", priority: 2}}
models: {small: {output: 1}}
tiers: [{name: low, models: [small]}]
fallback_tier: low
`), 0o600))
	got := inProcess(t, "", "doctor", "--config", filepath.Join(dir, "forebay.yaml"), "--redis", "redis://"+server.Addr())
	assert.Equal(t, exitFailed, got.status)
	assert.Contains(t, got.stdout, "the environment variable FOREBAY_TEST_NO_SUCH_KEY is not set or empty")
	assert.Contains(t, got.stdout, "1 error, ")
}
