package policy_test

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/deploy/simulator"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/worker/internal/policy"
	"github.com/forebay-queue/forebay/worker/internal/provider"
)

// answered is a 429 with these headers, as they are on the wire.
func answered(headers ...string) provider.Answer {
	header := http.Header{}
	for i := 0; i < len(headers); i += 2 {
		header.Add(headers[i], headers[i+1])
	}
	return provider.Answer{Status: http.StatusTooManyRequests, Header: header, Body: []byte(`{"error":{"message":"slow down"}}`)}
}

func TestRateLimit(t *testing.T) {
	t.Parallel()
	known := func(limit, remaining int64, reset time.Duration) policy.Limit {
		return policy.Limit{Known: true, Limit: limit, Remaining: remaining, Reset: reset}
	}
	type limits = policy.RateLimit
	for name, row := range map[string]struct {
		headers []string
		want    limits
	}{
		"OpenAI": {
			[]string{
				"x-ratelimit-limit-requests", "500", "x-ratelimit-remaining-requests", "499", "x-ratelimit-reset-requests", "120ms",
				"x-ratelimit-limit-tokens", "30000", "x-ratelimit-remaining-tokens", "18000", "x-ratelimit-reset-tokens", "6m0s",
			},
			limits{known(500, 499, 120*time.Millisecond), known(30000, 18000, 6*time.Minute)},
		},
		"seconds": {
			[]string{"x-ratelimit-limit-tokens", "100", "x-ratelimit-remaining-tokens", "0", "x-ratelimit-reset-tokens", "7.5"},
			limits{Tokens: known(100, 0, 7500*time.Millisecond)},
		},
		"Anthropic": {
			[]string{
				"anthropic-ratelimit-requests-limit", "50", "anthropic-ratelimit-requests-remaining", "49",
				"anthropic-ratelimit-requests-reset", "2000-01-01T00:00:30Z", "anthropic-ratelimit-tokens-limit", "4000",
				"anthropic-ratelimit-tokens-remaining", "3000", "anthropic-ratelimit-tokens-reset", "1999-12-31T23:59:00Z",
			},
			limits{known(50, 49, 30*time.Second), known(4000, 3000, 0)},
		},
		"nothing, as of vLLM":  {nil, limits{}},
		"-1, as of Azure":      {[]string{"x-ratelimit-limit-tokens", "-1", "x-ratelimit-remaining-tokens", "-1", "x-ratelimit-reset-tokens", "0"}, limits{}},
		"no limit, as of some": {[]string{"x-ratelimit-remaining-requests", "7"}, limits{Requests: known(0, 7, 0)}},
		"a limit alone":        {[]string{"x-ratelimit-limit-requests", "7"}, limits{}},
		"more than there is":   {[]string{"x-ratelimit-limit-requests", "7", "x-ratelimit-remaining-requests", "8"}, limits{}},
		"no number":            {[]string{"x-ratelimit-limit-requests", "NaN", "x-ratelimit-remaining-requests", "1"}, limits{}},
		"a huge number":        {[]string{"x-ratelimit-remaining-requests", "9223372036854775807"}, limits{}},
		"no integer":           {[]string{"x-ratelimit-remaining-requests", "1e3"}, limits{}},
		"a reset before now":   {[]string{"x-ratelimit-remaining-requests", "1", "x-ratelimit-reset-requests", "-5s"}, limits{Requests: known(0, 1, 0)}},
		"a reset of NaN":       {[]string{"x-ratelimit-remaining-requests", "1", "x-ratelimit-reset-requests", "NaN"}, limits{Requests: known(0, 1, 0)}},
		"a reset of 25 hours":  {[]string{"x-ratelimit-remaining-requests", "1", "x-ratelimit-reset-requests", "25h"}, limits{Requests: known(0, 1, 0)}},
		"a reset of 24 hours":  {[]string{"x-ratelimit-remaining-requests", "1", "x-ratelimit-reset-requests", "24h0m0s"}, limits{Requests: known(0, 1, 24*time.Hour)}},
		"a reset in Unix time": {[]string{"x-ratelimit-remaining-requests", "1", "x-ratelimit-reset-requests", "1764000000"}, limits{Requests: known(0, 1, 0)}},
	} {
		synctest.Test(t, func(t *testing.T) { // whose clock stands at the beginning of 2000
			assert.Equal(t, row.want, policy.Classify(tasks.KindChat, answered(row.headers...)).RateLimit, name)
		})
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	spent := []string{
		"x-ratelimit-remaining-requests", "0", "x-ratelimit-reset-requests", "3s",
		"x-ratelimit-remaining-tokens", "0", "x-ratelimit-reset-tokens", "5s",
	}
	for name, row := range map[string]struct {
		headers []string
		want    time.Duration
	}{
		"milliseconds":               {append([]string{"retry-after-ms", "1500", "retry-after", "9"}, spent...), 1500 * time.Millisecond},
		"seconds":                    {append([]string{"retry-after", "9"}, spent...), 9 * time.Second},
		"a part of a second":         {[]string{"retry-after", "0.5"}, 500 * time.Millisecond},
		"a date":                     {[]string{"retry-after", "Sat, 01 Jan 2000 00:01:00 GMT"}, time.Minute},
		"a date before now":          {append([]string{"retry-after", "Fri, 31 Dec 1999 00:01:00 GMT"}, spent...), 0},
		"the longest of both limits": {spent, 5 * time.Second},
		"a limit with something left": {
			[]string{"x-ratelimit-remaining-requests", "1", "x-ratelimit-reset-requests", "3s"}, 0,
		},
		"nothing":                 {nil, 0},
		"two days":                {[]string{"retry-after", "172800"}, 24 * time.Hour},
		"Unix time":               {[]string{"retry-after", "1764000000"}, 0},
		"a date in another life":  {[]string{"retry-after", "Sat, 01 Jan 2050 00:01:00 GMT"}, 0},
		"NaN":                     {append([]string{"retry-after-ms", "NaN", "retry-after", "NaN"}, spent...), 5 * time.Second},
		"infinity":                {append([]string{"retry-after-ms", "+Inf", "retry-after", "-Inf"}, spent...), 5 * time.Second},
		"less than nothing":       {[]string{"retry-after-ms", "-7", "retry-after", "-7"}, 0},
		"more than a number":      {[]string{"retry-after", "1e400"}, 0},
		"milliseconds are no use": {[]string{"retry-after-ms", "soon", "retry-after", "2"}, 2 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			assert.Equal(t, row.want, policy.Classify(tasks.KindChat, answered(row.headers...)).RetryAfter, name)
		})
	}
}

// The simulator speaks of its limits as OpenAI does, with every answer that they were asked for.
func TestTheSimulatorsLimitsAreUnderstood(t *testing.T) {
	t.Parallel()
	base := serveWith(t, simulator.Limits{RequestsPerMinute: 1, TokensPerMinute: 50_000})
	for _, class := range []tasks.Class{"", tasks.ClassThrottled} {
		outcome := policy.Classify(tasks.KindChat, call(t, base, ""))
		require.Equal(t, class, outcome.Class)
		limits := outcome.RateLimit
		assert.Equal(t, policy.Limit{Known: true, Limit: 1, Reset: limits.Requests.Reset}, limits.Requests)
		assert.InDelta(t, 60, limits.Requests.Reset.Seconds(), 10)
		assert.True(t, limits.Tokens.Known)
		assert.EqualValues(t, 50_000, limits.Tokens.Limit)
		assert.Less(t, limits.Tokens.Remaining, int64(50_000))
		assert.InDelta(t, 60, limits.Tokens.Reset.Seconds(), 10)
		assert.Equal(t, class == tasks.ClassThrottled, outcome.RetryAfter > 0)
	}
}

// Whatever a provider sends, nobody waits longer than a day, or less than nothing.
func FuzzRateLimit(f *testing.F) {
	f.Add("120ms", "60000", "1", "0")
	f.Add("2000-01-01T00:00:30Z", "Sat, 01 Jan 2000 00:01:00 GMT", "NaN", "-1")
	f.Add("1e308", "9223372036854775807", "1e-400", "0x10")
	f.Fuzz(func(t *testing.T, reset, after, most, remaining string) {
		outcome := policy.Classify(tasks.KindChat, answered(
			"retry-after-ms", after, "retry-after", after,
			"x-ratelimit-limit-requests", most, "x-ratelimit-remaining-requests", remaining, "x-ratelimit-reset-requests", reset,
			"anthropic-ratelimit-tokens-limit", most, "anthropic-ratelimit-tokens-remaining", remaining, "anthropic-ratelimit-tokens-reset", reset))
		if outcome.RetryAfter < 0 || outcome.RetryAfter > 24*time.Hour {
			t.Errorf("waits %s", outcome.RetryAfter)
		}
		for _, limit := range []policy.Limit{outcome.RateLimit.Requests, outcome.RateLimit.Tokens} {
			switch {
			case !limit.Known && limit != (policy.Limit{}):
				t.Errorf("not known, and yet %+v", limit)
			case limit.Reset < 0 || limit.Reset > 24*time.Hour, limit.Remaining < 0,
				limit.Limit != 0 && limit.Remaining > limit.Limit:
				t.Errorf("%+v", limit)
			}
		}
	})
}
