package simulator

import (
	"hash/fnv"
	"math"
	"math/rand/v2"
	"sync"
	"time"
)

// luck draws what chance decides about each call of a region. Every call draws the same number of values, so that
// one call's fate does not change another's.
type luck struct {
	mu  sync.Mutex
	rng *rand.Rand
}

func newLuck(seed uint64, region string) *luck {
	h := fnv.New64a()
	_, _ = h.Write([]byte(region))
	return &luck{rng: rand.New(rand.NewPCG(seed, h.Sum64()))}
}

// draw returns the call's latency and a value from [0, 1) to hold against the failure rate.
func (l *luck) draw(d Distribution) (latency time.Duration, roll float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return d.sample(l.rng), l.rng.Float64()
}

func (d Distribution) sample(rng *rand.Rand) time.Duration {
	uniform, normal := rng.Float64(), rng.NormFloat64()
	if d.Shape != ShapeLogNormal || d.Min <= 0 {
		return d.Min + time.Duration(uniform*float64(d.Max-d.Min))
	}
	low, high := math.Log(float64(d.Min)), math.Log(float64(d.Max))
	drawn := time.Duration(math.Exp((low+high)/2 + normal*(high-low)/4))
	return min(max(drawn, d.Min), d.Max)
}
