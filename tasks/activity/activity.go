// Package activity keeps what a deployment does over time, for the dashboard and the command line: how many jobs came in
// and ended, by which endpoints, how long they took and what they cost; and it tells of the ends of jobs, one by one, in a
// stream.
//
// Each process counts for itself, in a Recorder, and adds what it has counted to counters in Redis about once a second:
// for spans of 10 s, kept for an hour, and of 10 min, kept for a week. Ends are written ten times a second. A job's
// delivery waits for neither, and what cannot be written while Redis is away is dropped: nothing is decided by it, and the
// records of the jobs have all of it.
//
// What is counted is bounded as metrics are (package metrics): by the catalog and by fixed lists.
package activity

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/forebay-queue/forebay/tasks/keyspace"
)

// span is a length of time that is counted in one hash.
type span struct {
	name  string
	width time.Duration
	// keep is how long a hash is kept after its beginning.
	keep time.Duration
}

// fine and coarse are the spans. What is asked of the last hour is read from the fine ones.
var (
	fine   = span{"10s", 10 * time.Second, 70 * time.Minute}
	coarse = span{"10m", 10 * time.Minute, 7*24*time.Hour + time.Hour}
)

func (s span) key(keys keyspace.Keyspace, at time.Time) string {
	return keys.Activity(s.name, at.Truncate(s.width).Unix())
}

// The words that fields of a hash begin with. What follows is divided by bars, which no name has.
const (
	wordAccepted = "accepted" // nothing
	wordEnded    = "ended"    // status, task type, tier
	wordCode     = "code"     // code of a failure
	wordRetried  = "retried"  // class
	wordAttempt  = "attempt"  // endpoint, model, class
	wordTokens   = "tokens"   // prompt or completion, endpoint, model
	wordCost     = "cost"     // task type, tier, model: billionths of a dollar
	wordDearest  = "dearest"  // the same for the dearest model of the kind
	wordCall     = "call"     // endpoint, bucket: how long calls took
	wordJob      = "job"      // bucket: how long jobs took from acceptance to end
)

func field(word string, parts ...string) string {
	return word + "|" + strings.Join(parts, "|")
}

// perDoubling is how many buckets of a histogram a doubling is divided into: a percentile is off by at most 9 %.
const perDoubling = 4

// bucket is the one that a length of time belongs to. Its upper end is that many steps above a millisecond.
func bucket(took time.Duration) string {
	ms := max(1, float64(took)/float64(time.Millisecond))
	return strconv.Itoa(int(math.Ceil(perDoubling * math.Log2(ms))))
}

// Histogram counts lengths of time by bucket.
type Histogram map[int]int64

// Quantile is about the length that a share of all does not pass, in milliseconds; nil where nothing was counted.
func (h Histogram) Quantile(share float64) *float64 {
	var all, highest int64
	lowest := math.MaxInt
	for at, count := range h {
		all += count
		lowest, highest = min(lowest, at), max(highest, int64(at))
	}
	if all == 0 {
		return nil
	}
	left := int64(math.Ceil(share * float64(all)))
	for at := lowest; at <= int(highest); at++ {
		if left -= h[at]; left <= 0 {
			// The middle of the bucket, on its own scale.
			return new(math.Exp2((float64(at) - 0.5) / perDoubling))
		}
	}
	return nil
}

func (h Histogram) add(other Histogram) {
	for at, count := range other {
		h[at] += count
	}
}
