package httpapi_test

import (
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/producer/httpapi"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

func onBoth(t *testing.T, test func(t *testing.T, client *redis.Client)) {
	t.Helper()
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		client, _ := redistest.Embedded(t)
		test(t, client)
	})
	t.Run("real", func(t *testing.T) {
		t.Parallel()
		client, _ := redistest.Real(t)
		test(t, client)
	})
}

func jobsOf(n int) string { return "[" + strings.TrimSuffix(strings.Repeat(someJob+",", n), ",") + "]" }

func TestTenantLimits(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, client *redis.Client) {
		d := newDoor(t, client, map[string]httpapi.TenantLimits{
			"acme": {RequestsPerMinute: 6, JobsPerMinute: 10}, "other": {JobsPerMinute: 1},
		})
		headers := func(answer *httptest.ResponseRecorder, of string) string {
			h := answer.Header()
			return h.Get("x-ratelimit-limit-"+of) + " " + h.Get("x-ratelimit-remaining-"+of)
		}
		answer := d.ask("POST", "/v1/jobs", "acme", jobsOf(7))
		require.Equal(t, 200, answer.Code, answer.Body)
		require.Equal(t, "6 5", headers(answer, "requests"))
		require.Equal(t, "10 3", headers(answer, "jobs"))

		answer = d.ask("POST", "/v1/jobs", "acme", jobsOf(4))
		require.Equal(t, 429, answer.Code)
		assertKind(t, "jobs", answer, "rate_limit_error", "rate_limit_exceeded")
		require.Contains(t, answer.Body.String(), "the tenant acme may send 10 jobs a minute, and 3 of these 4 would pass now; no job was accepted")
		after, err := strconv.Atoi(answer.Header().Get("Retry-After"))
		require.NoError(t, err)
		require.InDelta(t, 60, after, 2)
		reset, err := time.ParseDuration(answer.Header().Get("x-ratelimit-reset-jobs"))
		require.NoError(t, err)
		require.InDelta(t, 60, reset.Seconds(), 2)

		answer = d.ask("POST", "/v1/jobs", "acme", jobsOf(11))
		require.Equal(t, 400, answer.Code, "that would never pass, and is not to be tried again")
		require.Contains(t, answer.Body.String(), "send at most 10")
		require.Equal(t, 200, d.ask("POST", "/v1/jobs", "acme", jobsOf(3)).Code, "what is refused takes nothing")
		require.Equal(t, 429, d.ask("POST", "/v1/jobs", "acme", someJob).Code)
		require.Equal(t, 404, d.ask("GET", "/v1/jobs/x", "acme reads", "").Code, "all keys of a tenant take from the same")
		answer = d.ask("GET", "/v1/jobs/x", "acme reads", "")
		require.Equal(t, 429, answer.Code)
		require.Contains(t, answer.Body.String(), "the tenant acme may make 6 requests a minute")

		// It is nobody else's.
		require.Equal(t, 201, d.ask("POST", "/v1/jobs", "other", someJob).Code)
		answer = d.ask("POST", "/v1/jobs", "other", jobsOf(2))
		require.Equal(t, 400, answer.Code)
		require.Equal(t, 429, d.ask("POST", "/v1/jobs", "other", someJob).Code)
		require.Equal(t, 200, d.ask("POST", "/v1/jobs", "operator", jobsOf(20)).Code)
		require.Equal(t, 200, d.ask("POST", "/v1/jobs", "default", jobsOf(20)).Code)
		require.Equal(t, 200, d.ask("GET", "/healthz", "acme", "").Code)

		// Other limits hold at once, of what was taken before, too.
		require.Equal(t, 429, d.ask("GET", "/v1/jobs/x", "acme", "").Code)
		d.auth.SetTenants(map[string]httpapi.TenantLimits{"acme": {RequestsPerMinute: 20}, "other": {JobsPerMinute: 1}})
		answer = d.ask("GET", "/v1/jobs/x", "acme", "")
		require.Equal(t, 404, answer.Code)
		require.Equal(t, "20", answer.Header().Get("x-ratelimit-limit-requests"))
		keys := client.Keys(t.Context(), "forebay:{tenant:*").Val()
		slices.Sort(keys)
		require.Equal(t, []string{"forebay:{tenant:acme}:jobs", "forebay:{tenant:acme}:requests", "forebay:{tenant:other}:jobs"}, keys,
			"without a limit Redis is not asked")
	})
}

// Two producers, asked by many at once, let no more through than one would.
func TestTenantLimitsOfAllProducers(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, client *redis.Client) {
		limits := map[string]httpapi.TenantLimits{"acme": {RequestsPerMinute: 100}}
		doors := []*door{newDoor(t, client, limits), newDoor(t, client, limits)}
		var mu sync.Mutex
		counts := map[int]int{}
		var group sync.WaitGroup
		for i := range 16 {
			group.Go(func() {
				for range 15 {
					code := doors[i%2].ask("GET", "/v1/jobs/x", "acme", "").Code
					mu.Lock()
					counts[code]++
					mu.Unlock()
				}
			})
		}
		group.Wait()
		require.Equal(t, map[int]int{404: 100, 429: 140}, counts)
	})
}

// The header of the script is its contract.
func TestScriptKeepsItsForm(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("tenants_take.lua")
	require.NoError(t, err)
	header, body, _ := strings.Cut(string(text), "\n\n")
	for _, part := range []string{"tenants_take: ", "KEYS[1]", "ARGV[1]", "ARGV[2]", "RETURNS", "CLOCK", "WRITES"} {
		assert.Contains(t, header, part)
	}
	for line := range strings.SplitSeq(body, "\n") {
		if regexp.MustCompile(`(KEYS|ARGV)\[\d`).MatchString(line) {
			assert.True(t, strings.HasPrefix(line, "local "), line)
		}
	}
	assert.NotContains(t, body, "cjson")
}
