package simulator

import (
	"net/http"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestRateLimitHeaders(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, Config{Regions: []RegionConfig{{Name: "r", Limits: Limits{RequestsPerMinute: 2, TokensPerMinute: 10_000}}}})
		first := b.chat("r")
		require.Equal(t, http.StatusOK, first.StatusCode)
		need := 10_000 - number(t, first, "X-Ratelimit-Remaining-Tokens")
		assert.Greater(t, need, DefaultMaxTokens, "prompt and bound are charged")
		assert.Equal(t, "2", first.Header.Get("X-Ratelimit-Limit-Requests"))
		assert.Equal(t, "1", first.Header.Get("X-Ratelimit-Remaining-Requests"))
		assert.Equal(t, "1m0s", first.Header.Get("X-Ratelimit-Reset-Requests"))
		assert.Equal(t, "10000", first.Header.Get("X-Ratelimit-Limit-Tokens"))
		assert.Equal(t, "1m0s", first.Header.Get("X-Ratelimit-Reset-Tokens"))
		assert.Empty(t, first.Header.Get("Retry-After"))

		time.Sleep(20*time.Second + 500*time.Millisecond)
		require.Equal(t, http.StatusOK, b.chat("r").StatusCode)
		refused := b.chat("r")
		require.Equal(t, http.StatusTooManyRequests, refused.StatusCode)
		assert.Equal(t, "rate_limit_exceeded", refused.code(t))
		assert.Equal(t, "40", refused.Header.Get("Retry-After"), "rounded up")
		assert.Equal(t, "39500", refused.Header.Get("Retry-After-Ms"))
		assert.Equal(t, "0", refused.Header.Get("X-Ratelimit-Remaining-Requests"))
		assert.Equal(t, "1m0s", refused.Header.Get("X-Ratelimit-Reset-Requests"))
		assert.Equal(t, strconv.Itoa(10_000-2*need), refused.Header.Get("X-Ratelimit-Remaining-Tokens"), "a refused call counts nowhere")
		assert.Equal(t, "1m0s", refused.Header.Get("X-Ratelimit-Reset-Tokens"))
		assert.Contains(t, refused.text, "Limit 2, Used 2, Requested 1. Please try again in 39.5s")

		time.Sleep(39*time.Second + 499*time.Millisecond)
		assert.Equal(t, http.StatusTooManyRequests, b.chat("r").StatusCode)
		time.Sleep(time.Millisecond)
		assert.Equal(t, http.StatusOK, b.chat("r").StatusCode, "who waits as long as told is let in")
		assert.Equal(t, int64(2), b.sim.Counters().Total.Kinds[KindRateLimit])
	})
}

func number(t *testing.T, a answered, header string) int {
	t.Helper()
	n, err := strconv.Atoi(a.Header.Get(header))
	require.NoError(t, err)
	return n
}

func TestLimitScopes(t *testing.T) {
	t.Parallel()
	now := time.Now()
	l := newLimiter(Limits{TokensPerMinute: 100}, map[string]Limits{"m": {RequestsPerMinute: 1}})
	assert.True(t, l.admit(now, "k", "m", 60).granted)
	refused := l.admit(now, "k", "m", 60)
	assert.False(t, refused.granted, "both limits refuse")
	assert.Equal(t, limitWindow, refused.wait)
	assert.False(t, l.admit(now, "k", "other", 60).granted, "the key's tokens are used up, whatever the model")
	assert.True(t, l.admit(now, "k", "other", 40).granted, "a refused call counts nowhere")
	assert.True(t, l.admit(now, "k2", "m", 100).granted, "every key has its own")

	never := l.admit(now.Add(2*time.Minute), "k", "m", 101)
	assert.False(t, never.granted)
	assert.Zero(t, never.wait)
	assert.Contains(t, never.problem("m", 101).message, "Request too large")
	assert.Equal(t, 100, never.tokens.remaining)
	assert.True(t, newLimiter(Limits{}, nil).admit(now, "k", "m", 1<<40).granted)
}

// In no sliding window of 60 seconds more is admitted than the limits say, whoever waits as told is admitted at once,
// and no sooner.
func TestNoWindowPassesTheLimits(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		limits := Limits{RequestsPerMinute: rapid.IntRange(0, 8).Draw(rt, "rpm"), TokensPerMinute: rapid.IntRange(0, 400).Draw(rt, "tpm")}
		l := newLimiter(limits, nil)
		type admitted struct {
			at   time.Duration
			need int
		}
		var log []admitted
		begin, at := time.Now(), time.Duration(0)
		for range rapid.IntRange(1, 80).Draw(rt, "calls") {
			at += time.Duration(rapid.Int64Range(0, int64(20*time.Second)).Draw(rt, "pause"))
			need := rapid.IntRange(1, 150).Draw(rt, "need")
			verdict := l.admit(begin.Add(at), "k", "m", need)
			if verdict.wait > 0 {
				if verdict.wait > 1 {
					require.False(rt, l.admit(begin.Add(at+verdict.wait-1), "k", "m", need).granted, "too soon")
				}
				at += verdict.wait
				verdict = l.admit(begin.Add(at), "k", "m", need)
				require.True(rt, verdict.granted, "as told")
			}
			if verdict.granted {
				log = append(log, admitted{at, need})
			}
		}
		for i, last := range log {
			calls, used := 0, 0
			for _, a := range log[:i+1] {
				if last.at-a.at < time.Minute {
					calls++
					used += a.need
				}
			}
			require.True(rt, limits.RequestsPerMinute == 0 || calls <= limits.RequestsPerMinute, "%d calls", calls)
			require.True(rt, limits.TokensPerMinute == 0 || used <= limits.TokensPerMinute, "%d tokens", used)
		}
	})
}

// The same through HTTP, with clients that do not wait.
func TestNoWindowPassesTheLimitOverHTTP(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const rpm = 30
		b := setup(t, Config{Regions: []RegionConfig{{Name: "r", Limits: Limits{RequestsPerMinute: rpm}}}})
		var admitted []time.Time
		for range 900 {
			if b.chat("r").StatusCode == http.StatusOK {
				admitted = append(admitted, time.Now())
			}
			time.Sleep(333 * time.Millisecond)
		}
		assert.Greater(t, len(admitted), 4*rpm, "five minutes")
		for i := rpm; i < len(admitted); i++ {
			assert.GreaterOrEqual(t, admitted[i].Sub(admitted[i-rpm]), time.Minute)
		}
	})
}
