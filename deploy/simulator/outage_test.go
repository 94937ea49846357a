package simulator

import (
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestOutageByJobs(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{Regions: []RegionConfig{
		{Name: "a", Outages: []Outage{{Kinds: []string{"500", "503"}, FromJob: 2, UntilJob: 4}}},
		{Name: "b"},
	}})
	ask := func(region, job string) int { return b.chat(region, HeaderRequestID, job).StatusCode }
	assert.Equal(t, 200, ask("a", "1"))
	assert.Equal(t, 200, ask("a", "1"), "the same job again")
	assert.Equal(t, 1, b.sim.Counters().JobsAnswered)
	assert.Equal(t, 200, ask("b", "2"))
	assert.Equal(t, 500, ask("a", "3"))
	assert.Equal(t, 503, ask("a", "3"), "kinds in turn")
	assert.Equal(t, 500, ask("a", "3"))
	assert.Equal(t, 200, ask("b", "3"), "other regions answer")
	assert.Equal(t, 503, ask("a", "4"))
	assert.Equal(t, 200, ask("b", "4"))
	assert.Equal(t, 200, ask("a", "5"), "over")
	c := b.sim.Counters()
	assert.Equal(t, int64(4), c.Regions["a"].DuringOutage)
	assert.Equal(t, int64(4), c.Regions["a"].Models["m"].DuringOutage)
	assert.Equal(t, JobCount{Asked: 4, Answered: 1}, c.Jobs["3"])
	assert.Equal(t, JobCount{Asked: 2, Answered: 2}, c.Jobs["1"])
	assert.Equal(t, 5, c.JobsAnswered)
}

func TestOutageByTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, Config{Regions: []RegionConfig{{Name: "a", Outages: []Outage{
			{Kinds: []string{"500"}, From: time.Minute, Until: 2 * time.Minute},
			{Kinds: []string{"503"}, From: time.Hour},
		}}}})
		for _, step := range []struct {
			at   time.Duration
			want int
		}{{0, 200}, {time.Minute - 1, 200}, {time.Minute, 500}, {2*time.Minute - 1, 500}, {2 * time.Minute, 200}, {time.Hour, 503}, {24 * time.Hour, 503}} {
			time.Sleep(step.at - time.Since(b.sim.started))
			assert.Equal(t, step.want, b.chat("a").StatusCode, step.at)
		}
	})
}

func TestOutageAtRunTime(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{Regions: regions("a", "b")})
	order := func(body string) answered { return b.do(http.MethodPost, "/_simulator/outage", body) }

	require.NoError(t, b.sim.Region("a").SetOutage("503"))
	assert.Equal(t, 503, b.chat("a").StatusCode)
	assert.Equal(t, 200, b.chat("b").StatusCode)
	b.sim.Region("a").ClearOutage()
	assert.Equal(t, 200, b.chat("a").StatusCode)
	require.ErrorContains(t, b.sim.Region("a").SetOutage(), "names no kinds")
	require.ErrorContains(t, b.sim.Region("a").SetOutage("flood"), `no failure of the kind "flood"`)

	assert.JSONEq(t, `{"region":"b","kinds":["502","html-200"]}`, order(`{"region":"b","kinds":["502","html-200"]}`).text)
	assert.Equal(t, 502, b.chat("b").StatusCode)
	assert.Equal(t, 200, b.chat("b").StatusCode, "html")
	assert.Equal(t, int64(1), b.sim.Counters().Regions["b"].Kinds["html-200"])
	assert.JSONEq(t, `{"region":"b","kinds":[]}`, order(`{"region":"b"}`).text)
	assert.Equal(t, 200, b.chat("b").StatusCode)
	assert.Equal(t, 200, b.do(http.MethodPost, "/b/_simulator/outage", `{"kinds":["500"]}`).StatusCode)
	assert.Equal(t, 500, b.chat("b").StatusCode, "the region of the path is the default")

	for body, want := range map[string]int{
		`{"region":"c","kinds":["500"]}`: 404, `{"kinds":["500"]}`: 404, `{"region":"a","kinds":["flood"]}`: 400,
		`{"region":"a","kind":["500"]}`: 400, `[`: 400,
	} {
		assert.Equal(t, want, order(body).StatusCode, body)
	}
}

// An outage of hangs holds every caller until it goes away.
func TestOutageThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, Config{Regions: regions("a")})
		require.NoError(t, b.sim.Region("a").SetOutage("hang"))
		b.client.Timeout = 30 * time.Second
		took := elapsed(func() {
			_, err := b.try(t.Context(), http.MethodPost, "/a"+chatPath, chatBody(prompt, ""))
			require.Error(t, err)
		})
		assert.Equal(t, 30*time.Second, took)
	})
}

// The same seed and the same order of requests bring the same latencies and failures.
func TestDeterministic(t *testing.T) {
	t.Parallel()
	run := func(seed uint64) (trace []string) {
		synctest.Test(t, func(t *testing.T) {
			b := setup(t, Config{Seed: seed, Regions: []RegionConfig{
				{Name: "a", FailureRate: 0.4, Failure: "503", Latency: Distribution{Min: time.Millisecond, Max: time.Second}},
				{Name: "b", Latency: Distribution{Min: time.Millisecond, Max: time.Second, Shape: ShapeLogNormal}},
			}})
			failed := 0
			for i := range 100 {
				region := []string{"a", "b"}[i%2]
				took := elapsed(func() {
					if b.chat(region).StatusCode == http.StatusServiceUnavailable {
						failed++
					}
				})
				require.GreaterOrEqual(t, took, time.Millisecond)
				require.LessOrEqual(t, took, time.Second)
				trace = append(trace, fmt.Sprint(region, took, failed))
			}
			assert.InDelta(t, 20, failed, 12)
			assert.Equal(t, int64(failed), b.sim.Counters().Regions["a"].Kinds["503"])
		})
		return trace
	}
	first := run(1)
	assert.Equal(t, first, run(1))
	assert.NotEqual(t, first, run(2))
}
