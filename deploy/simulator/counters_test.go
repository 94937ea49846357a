package simulator

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Whatever happens at once, the counters add up at every moment, and with what the clients saw in the end.
func TestCountersAddUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, Config{Seed: 7, Regions: []RegionConfig{
			{Name: "a", FailureRate: 0.3, Failure: "reset", Latency: Distribution{Max: 3 * time.Second}, Limits: Limits{RequestsPerMinute: 60}},
			{Name: "b", FailureRate: 0.1, Failure: "drip-body", Latency: Distribution{Max: 3 * time.Second}},
		}})
		var mu sync.Mutex
		seen := Tally{Kinds: map[string]int64{}}
		var clients sync.WaitGroup
		for client := range 8 {
			clients.Go(func() {
				dice := rand.New(rand.NewPCG(1, uint64(client)))
				for i := range 25 {
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(dice.IntN(5000))*time.Millisecond+1)
					a, err := b.try(ctx, http.MethodPost, fmt.Sprintf("/%c%s", "ab"[dice.IntN(2)], chatPath), chatBody(prompt, ""),
						HeaderRequestID, fmt.Sprint(client*100+i/2))
					cancel()
					mu.Lock()
					if err == nil && a.StatusCode == http.StatusOK {
						c := content(t, a)
						seen.Answered++
						seen.TokensIn += int64(c.Usage.Prompt)
						seen.TokensOut += int64(*c.Usage.Completion)
					}
					mu.Unlock()
					assertBalanced(t, b.sim.Counters())
				}
			})
		}
		clients.Wait()
		synctest.Wait()
		c := b.sim.Counters()
		assertBalanced(t, c)
		assert.Zero(t, c.Total.InFlight)
		assert.Positive(t, c.Total.Abandoned)
		assert.Positive(t, c.Total.Kinds["reset"])
		assert.Positive(t, c.Total.Kinds[KindRateLimit])
		assert.Equal(t, seen.Answered, c.Total.Answered)
		assert.Equal(t, seen.TokensIn, c.Total.TokensIn)
		assert.Equal(t, seen.TokensOut, c.Total.TokensOut)
	})
}

func assertBalanced(t *testing.T, c Counters) {
	t.Helper()
	balanced := func(tally Tally) {
		t.Helper()
		var kinds int64
		for _, n := range tally.Kinds {
			kinds += n
		}
		assert.Equal(t, tally.Asked, tally.Answered+tally.Failed+tally.Abandoned+tally.InFlight)
		assert.Equal(t, tally.Answered+tally.Failed, kinds)
	}
	balanced(c.Total)
	for _, region := range c.Regions {
		balanced(region.Tally)
		for _, model := range region.Models {
			balanced(model)
		}
	}
	jobs, answered := JobCount{}, 0
	for _, job := range c.Jobs {
		jobs.Asked += job.Asked
		jobs.Answered += job.Answered
		answered += int(min(1, job.Answered))
	}
	assert.Equal(t, c.Total.Asked, jobs.Asked+c.Untracked.Asked)
	assert.Equal(t, c.Total.Answered, jobs.Answered+c.Untracked.Answered)
	assert.Equal(t, c.JobsAnswered, answered+int(c.Untracked.Answered))
}

func TestAbandoned(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, Config{Regions: []RegionConfig{{Name: "a", Latency: Distribution{Min: time.Minute}}, {Name: "b"}}})
		b.client.Timeout = time.Second
		for _, call := range [][]string{
			{"a"}, {"a", HeaderFailure, "500"}, {"b", HeaderFailure, "slow-headers"}, {"b", HeaderFailure, "drip-body"},
		} {
			_, err := b.try(t.Context(), http.MethodPost, "/"+call[0]+chatPath, chatBody(prompt, ""), call[1:]...)
			require.Error(t, err)
		}
		synctest.Wait()
		total := b.sim.Counters().Total
		assert.Equal(t, Tally{Asked: 4, Abandoned: 4, Kinds: map[string]int64{}}, total)
	})
}

func TestJobsAreBounded(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{MaxJobs: 2})
	for _, job := range []string{"1", "2", "3", "3", "", "1"} {
		b.chat("simulated", HeaderRequestID, job)
	}
	c := b.sim.Counters()
	assert.Equal(t, map[string]JobCount{"1": {2, 2}, "2": {1, 1}}, c.Jobs)
	assert.Equal(t, JobCount{3, 3}, c.Untracked)
	assert.Equal(t, 5, c.JobsAnswered)

	var served Counters
	b.do(http.MethodGet, "/_simulator/counters", "").decode(t, &served)
	assert.Equal(t, c, served, "JSON carries everything")
	assert.NotContains(t, b.do(http.MethodGet, "/_simulator/counters?jobs=false", "").text, `"jobs":`)
}

func TestModelsAreBounded(t *testing.T) {
	t.Parallel()
	b := newBook(NoJobs, regions("a"))
	for i := range maxModels + 5 {
		e := b.ask("a", "")
		e.name(fmt.Sprint(i))
		e.settle(outcome{kind: KindOK, ok: true})
	}
	c := b.snapshot(true)
	assert.Len(t, c.Regions["a"].Models, maxModels)
	assert.Equal(t, int64(maxModels+5), c.Total.Answered)
}
