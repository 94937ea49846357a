package policy

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxRetryAfter caps every wait that a provider names.
const maxRetryAfter = 24 * time.Hour

// retryAfter is the wait that an answer asks for: retry-after-ms, Retry-After in seconds or as a date, or the reset
// of the limit that has nothing left (x-ratelimit-reset-requests and -tokens, durations such as "6m0s"). 0 if it
// names none.
func retryAfter(header http.Header, now time.Time) time.Duration {
	if ms, err := strconv.ParseFloat(header.Get("Retry-After-Ms"), 64); err == nil {
		return bounded(time.Duration(ms * float64(time.Millisecond)))
	}
	if value := strings.TrimSpace(header.Get("Retry-After")); value != "" {
		if seconds, err := strconv.ParseFloat(value, 64); err == nil {
			return bounded(time.Duration(seconds * float64(time.Second)))
		}
		if date, err := http.ParseTime(value); err == nil {
			return bounded(date.Sub(now))
		}
	}
	var longest time.Duration
	for _, limit := range []string{"Requests", "Tokens"} {
		if header.Get("X-Ratelimit-Remaining-"+limit) != "0" {
			continue
		}
		if reset, err := time.ParseDuration(header.Get("X-Ratelimit-Reset-" + limit)); err == nil {
			longest = max(longest, bounded(reset))
		}
	}
	return longest
}

func bounded(wait time.Duration) time.Duration {
	return min(max(wait, 0), maxRetryAfter)
}
