package policy

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// RateLimit is what an answer says of the provider's limits, after this call. OpenAI says it with every answer, also
// a good one; Azure with some; vLLM and most relays never do.
type RateLimit struct {
	Requests, Tokens Limit
}

// Limit is one of them, for the span that the provider counts in: mostly a minute, which no header says.
type Limit struct {
	// Known tells that the provider has said how much remains. The rest is zero without it.
	Known bool
	// Limit is 0 if only what remains was said.
	Limit, Remaining int64
	// Reset is how long it takes until the limit is whole again, at most 24h; 0 if that was not said.
	Reset time.Duration
}

// mostCounted is more than any provider allows for any span.
const mostCounted = 1 << 40

// rateLimit reads the headers of OpenAI, which many others send as well, or those of Anthropic.
//
// https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers
// https://docs.anthropic.com/en/api/rate-limits#response-headers
func rateLimit(header http.Header, now time.Time) RateLimit {
	read := func(family string) Limit {
		openAI := limit(
			header.Get("X-Ratelimit-Limit-"+family), header.Get("X-Ratelimit-Remaining-"+family),
			header.Get("X-Ratelimit-Reset-"+family), now)
		if openAI.Known {
			return openAI
		}
		prefix := "Anthropic-Ratelimit-" + family
		return limit(header.Get(prefix+"-Limit"), header.Get(prefix+"-Remaining"), header.Get(prefix+"-Reset"), now)
	}
	return RateLimit{Requests: read("Requests"), Tokens: read("Tokens")}
}

// limit reads one limit. What cannot be meant is taken for not said: Azure sends -1 for what it does not count, and
// more cannot remain than there is. https://learn.microsoft.com/en-us/answers/questions/5625878
func limit(most, remaining, reset string, now time.Time) Limit {
	left, ok := count(remaining)
	if !ok {
		return Limit{}
	}
	read := Limit{Known: true, Remaining: left, Reset: resetIn(reset, now)}
	if most != "" {
		if read.Limit, ok = count(most); !ok || read.Limit < left {
			return Limit{}
		}
	}
	return read
}

func count(text string) (int64, bool) {
	value, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	return value, err == nil && value >= 0 && value <= mostCounted
}

// resetIn reads a duration such as "6m0s" or "120ms", seconds, or a time as RFC 3339 has it.
func resetIn(text string, now time.Time) time.Duration {
	text = strings.TrimSpace(text)
	wait, ok := number(text, time.Second)
	if !ok {
		if span, err := time.ParseDuration(text); err == nil {
			wait, ok = span, true
		} else if at, err := time.Parse(time.RFC3339, text); err == nil {
			wait, ok = until(at, now)
		}
	}
	if !ok || wait < 0 || wait > maxRetryAfter {
		return 0
	}
	return wait
}
