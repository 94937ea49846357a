package gate

import (
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Whatever the limit, a burst and then a window's worth of the rate stay within it; so do a minute's calls.
func FuzzClocksKeepTheirLimit(f *testing.F) {
	for _, limit := range []uint32{1, 2, 59, 60, 119, 120, 121, 239, 240, 500, 10_000, 81_920, 500_000, 10_000_000, 1_000_000_000} {
		f.Add(limit)
	}
	f.Fuzz(func(t *testing.T, limit uint32) {
		perMinute := int(limit%1_000_000_000) + 1
		requests, tokens := requestClock(perMinute), tokenClock(perMinute)
		require.GreaterOrEqual(t, requests.burst, requests.unit, "one call may begin at once")
		require.Positive(t, tokens.unit)
		// The last of so many calls, the first of which finds the clock at rest, begins a window later or after it.
		burst := math.Round(requests.burst / requests.unit)
		require.GreaterOrEqual(t, (float64(perMinute)+1-burst)*requests.unit, float64(window.Microseconds())*(1-1e-9))
		// Tokens are no calls: what is within a minute is the burst and the rate.
		within := (tokens.burst + 60e6) / tokens.unit
		require.Less(t, within, float64(perMinute)+1, "of %d", perMinute)
		if perMinute > 100 {
			require.Greater(t, within, 0.94*float64(perMinute), "that would waste too much of %d", perMinute)
			require.Greater(t, 60e6/requests.unit, 0.98*float64(perMinute)-2, "that would waste too much of %d", perMinute)
		}
	})
}

// Whatever Redis answers, it is read or refused: a script of another build is no reason to fall over.
func FuzzRepliesAreReadOrRefused(f *testing.F) {
	f.Add("i3|s|[i1|s|i0|i0|i0|i0|i0]", 1, 0)
	f.Add("i3|sunavailable|[i0|sbreaker_open|i1000|i0|i1000|i0|i0]", 1, 4)
	f.Add("i0|s|[i0|srequests|i1000|i2|i1000|i50|i0]|[i1|s|i0|i0|i0|i0|i1]", 2, 2)
	f.Add("scounted|sopened|i7|i1", 1, 1)
	f.Add("n|[]|[n]", 1, 0)
	f.Fuzz(func(t *testing.T, text string, asks, scopes int) {
		asks, scopes = max(0, asks%8), max(0, scopes%5)
		reply := fuzzedReply(text)
		if admissions, err := parseAdmissions(reply, asks, scopes); err != nil {
			require.ErrorIs(t, err, errReply)
		} else {
			require.Len(t, admissions, asks)
			for _, admission := range admissions {
				require.Equal(t, admission.Granted, admission.Reason == "")
				require.True(t, admission.scope >= 0 && admission.scope <= scopes)
			}
		}
		if _, err := parseTransition(reply, make([]string, scopes)); err != nil {
			require.ErrorIs(t, err, errReply)
		}
		if _, err := parseForced(reply); err != nil {
			require.ErrorIs(t, err, errReply)
		}
	})
}

// fuzzedReply makes a reply of a text: i a number, s a text, n nothing, and lists in brackets.
func fuzzedReply(text string) []any {
	var reply []any
	var inner []any
	nested := false
	for part := range strings.SplitSeq(text, "|") {
		opens, closes := strings.HasPrefix(part, "["), strings.HasSuffix(part, "]")
		part = strings.Trim(part, "[]")
		if opens {
			nested, inner = true, []any{}
		}
		var value any
		switch {
		case strings.HasPrefix(part, "i"):
			number := int64(0)
			for _, digit := range part[1:] {
				number = number*10 + int64(digit-'0')
			}
			value = number
		case strings.HasPrefix(part, "s"):
			value = part[1:]
		}
		if nested {
			inner = append(inner, value)
		} else {
			reply = append(reply, value)
		}
		if closes && nested {
			reply, nested = append(reply, inner), false
		}
	}
	return reply
}
