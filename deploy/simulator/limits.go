package simulator

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// limitWindow is the span in which a limit "per minute" is counted.
const limitWindow = time.Minute

// limiter enforces a region's limits per API key, and per key and model, over a sliding log: an admitted call counts
// for exactly limitWindow, a refused one not at all.
type limiter struct {
	all     Limits
	byModel map[string]Limits

	mu   sync.Mutex
	logs map[limitScope]*callLog
}

// limitScope is what a limit is counted for; model is empty for the limits over all models.
type limitScope struct{ key, model string }

func newLimiter(all Limits, byModel map[string]Limits) *limiter {
	return &limiter{all: all, byModel: byModel, logs: map[limitScope]*callLog{}}
}

// meter is the state of one limit after a call was judged. A limit of 0 means that there is none.
type meter struct {
	limit, remaining int
	reset            time.Duration // until nothing counts any more
}

// ruling is what the limiter says about one call.
type ruling struct {
	granted          bool
	family           string // of the refusing limit: "requests" or "tokens"
	refusing         meter
	wait             time.Duration // until the call could be granted; 0 when it never can
	requests, tokens meter
}

// admit judges a call that needs so many tokens; a granted call is entered in all logs, a refused one in none.
func (l *limiter) admit(now time.Time, key, model string, need int) ruling {
	l.mu.Lock()
	defer l.mu.Unlock()
	var logs []*callLog
	if l.all != (Limits{}) {
		logs = append(logs, l.log(limitScope{key: key}, l.all))
	}
	if limits := l.byModel[model]; limits != (Limits{}) {
		logs = append(logs, l.log(limitScope{key, model}, limits))
	}
	verdict := ruling{granted: true}
	for _, log := range logs {
		log.expire(now)
		log.judge(now, need, &verdict)
	}
	for _, log := range logs {
		if verdict.granted {
			log.enter(now, need)
		}
		log.read(now, &verdict)
	}
	return verdict
}

func (l *limiter) log(scope limitScope, limits Limits) *callLog {
	log := l.logs[scope]
	if log == nil {
		log = &callLog{limits: limits}
		l.logs[scope] = log
	}
	return log
}

// callLog holds the calls admitted in the last limitWindow, the oldest first.
type callLog struct {
	limits  Limits
	entries []logEntry
	tokens  int
}

type logEntry struct {
	at     time.Time
	tokens int
}

func (c *callLog) expire(now time.Time) {
	gone := 0
	for gone < len(c.entries) && now.Sub(c.entries[gone].at) >= limitWindow {
		c.tokens -= c.entries[gone].tokens
		gone++
	}
	c.entries = c.entries[gone:]
}

func (c *callLog) enter(now time.Time, need int) {
	c.entries = append(c.entries, logEntry{now, need})
	c.tokens += need
}

// judge refuses in the ruling what this log has no room for; of several refusals the longest wait stays.
func (c *callLog) judge(now time.Time, need int, verdict *ruling) {
	refuse := func(family string, m meter, wait time.Duration, ever bool) {
		if !ever {
			wait = 0
		}
		if verdict.granted || !ever || verdict.wait > 0 && wait > verdict.wait {
			*verdict = ruling{family: family, refusing: m, wait: wait}
		}
	}
	if limit := c.limits.RequestsPerMinute; limit > 0 && len(c.entries) >= limit {
		refuse("requests", c.requestMeter(now), c.freed(now, len(c.entries)-limit), true)
	}
	if limit := c.limits.TokensPerMinute; limit > 0 && c.tokens+need > limit {
		missing, at := c.tokens+need-limit, 0
		for at < len(c.entries)-1 && missing > c.entries[at].tokens {
			missing -= c.entries[at].tokens
			at++
		}
		refuse("tokens", c.tokenMeter(now), c.freed(now, at), need <= limit)
	}
}

// freed returns how long it takes until the entry counts no more.
func (c *callLog) freed(now time.Time, entry int) time.Duration {
	if entry >= len(c.entries) {
		return 0
	}
	return limitWindow - now.Sub(c.entries[entry].at)
}

// read copies the tighter meters into the ruling.
func (c *callLog) read(now time.Time, verdict *ruling) {
	tighten(&verdict.requests, c.requestMeter(now))
	tighten(&verdict.tokens, c.tokenMeter(now))
}

func tighten(have *meter, other meter) {
	if other.limit > 0 && (have.limit == 0 || other.remaining < have.remaining) {
		*have = other
	}
}

func (c *callLog) requestMeter(now time.Time) meter {
	limit := c.limits.RequestsPerMinute
	return meter{limit, max(0, limit-len(c.entries)), c.freed(now, max(0, len(c.entries)-1))}
}

func (c *callLog) tokenMeter(now time.Time) meter {
	limit := c.limits.TokensPerMinute
	return meter{limit, max(0, limit-c.tokens), c.freed(now, max(0, len(c.entries)-1))}
}

// header writes the headers that OpenAI documents for its limits, and the time to wait on a refusal.
// https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers
func (v ruling) header(h http.Header) {
	for family, m := range map[string]meter{"requests": v.requests, "tokens": v.tokens} {
		if m.limit == 0 {
			continue
		}
		h.Set("X-Ratelimit-Limit-"+family, strconv.Itoa(m.limit))
		h.Set("X-Ratelimit-Remaining-"+family, strconv.Itoa(m.remaining))
		h.Set("X-Ratelimit-Reset-"+family, ceil(m.reset, time.Millisecond).String())
	}
	if !v.granted && v.wait > 0 {
		h.Set("Retry-After", strconv.FormatInt(int64(ceil(v.wait, time.Second)/time.Second), 10))
		h.Set("Retry-After-Ms", strconv.FormatInt(ceil(v.wait, time.Millisecond).Milliseconds(), 10))
	}
}

// problem is the refusal as OpenAI words it.
func (v ruling) problem(model string, need int) *problem {
	requested := need
	unit := "tokens per min (TPM)"
	if v.family == "requests" {
		requested, unit = 1, "requests per min (RPM)"
	}
	message := fmt.Sprintf("Request too large for %s on %s: Limit %d, Requested %d.", model, unit, v.refusing.limit, requested)
	if v.wait > 0 {
		message = fmt.Sprintf("Rate limit reached for %s on %s: Limit %d, Used %d, Requested %d. Please try again in %s.",
			model, unit, v.refusing.limit, v.refusing.limit-v.refusing.remaining, requested, ceil(v.wait, time.Millisecond))
	}
	return &problem{http.StatusTooManyRequests, KindRateLimit, message, v.family, "", "rate_limit_exceeded"}
}

// ceil rounds up to a multiple of unit, so that who waits that long waits long enough.
func ceil(d, unit time.Duration) time.Duration {
	return time.Duration(math.Ceil(float64(d)/float64(unit))) * unit
}
