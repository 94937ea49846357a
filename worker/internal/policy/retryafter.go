package policy

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	// maxRetryAfter caps every wait that a provider names.
	maxRetryAfter = 24 * time.Hour
	// maxMeant is beyond what anybody can mean by a wait: a point in time where a span belongs, or nonsense.
	maxMeant = 365 * 24 * time.Hour
)

// retryAfter is the wait that an answer asks for: retry-after-ms, Retry-After in seconds or as a date, or the reset
// of the limit that has nothing left. 0 if it names none that can be meant.
func retryAfter(header http.Header, limits RateLimit, now time.Time) time.Duration {
	if wait, named := RetryAfter(header, now); named {
		return wait
	}
	var longest time.Duration
	for _, limit := range []Limit{limits.Requests, limits.Tokens} {
		if limit.Known && limit.Remaining == 0 {
			longest = max(longest, limit.Reset)
		}
	}
	return longest
}

// RetryAfter is the wait that a header names: retry-after-ms, or Retry-After in seconds or as a date; up to 24h. Named
// tells that it names one that can be meant.
func RetryAfter(header http.Header, now time.Time) (wait time.Duration, named bool) {
	if wait, ok := number(header.Get("Retry-After-Ms"), time.Millisecond); ok {
		return min(wait, maxRetryAfter), true
	}
	value := strings.TrimSpace(header.Get("Retry-After"))
	if wait, ok := number(value, time.Second); ok {
		return min(wait, maxRetryAfter), true
	}
	if date, err := http.ParseTime(value); err == nil {
		if wait, ok := until(date, now); ok {
			return min(wait, maxRetryAfter), true
		}
	}
	return 0, false
}

// number reads a decimal number of units.
func number(text string, unit time.Duration) (time.Duration, bool) {
	value, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	if err != nil || !(value >= 0 && value <= float64(maxMeant/unit)) { // which no NaN is
		return 0, false
	}
	return time.Duration(value * float64(unit)), true
}

// until is how long it is to a point in time; 0 for one that has passed.
func until(at, now time.Time) (time.Duration, bool) {
	wait := max(at.Sub(now), 0)
	return wait, wait <= maxMeant
}
