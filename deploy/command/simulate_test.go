package command

import (
	"encoding/json"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/deploy/config"
	"github.com/forebay-queue/forebay/deploy/simulator"
)

func TestSimulateFlagsDescribeRegions(t *testing.T) {
	t.Parallel()
	flags := simulateFlags{
		regions: []string{"tokyo:50ms-300ms:rpm=60:tpm=9000:failures=0.5", "paris:80ms", "oslo"},
		outages: []string{"tokyo:500,hang:30s-60s", "paris:reset:100-200", "oslo:403"},
		seed:    7, rpm: 10, failure: "503", failureRate: 0.25, answerBytes: 100,
	}
	got, err := flags.config()
	require.NoError(t, err)
	region := func(r simulator.RegionConfig) simulator.RegionConfig {
		r.Failure, r.Answer, r.AnswerBytes = "503", simulator.AnswerFixed, 100
		return r
	}
	assert.Equal(t, simulator.Config{Seed: 7, Regions: []simulator.RegionConfig{
		region(simulator.RegionConfig{
			Name: "tokyo", Latency: simulator.Distribution{Min: 50 * time.Millisecond, Max: 300 * time.Millisecond},
			Limits: simulator.Limits{RequestsPerMinute: 60, TokensPerMinute: 9000}, FailureRate: 0.5,
			Outages: []simulator.Outage{{Kinds: []string{"500", "hang"}, From: 30 * time.Second, Until: time.Minute}},
		}),
		region(simulator.RegionConfig{
			Name: "paris", Latency: simulator.Distribution{Min: 80 * time.Millisecond, Max: 80 * time.Millisecond},
			Limits: simulator.Limits{RequestsPerMinute: 10}, FailureRate: 0.25,
			Outages: []simulator.Outage{{Kinds: []string{"reset"}, FromJob: 100, UntilJob: 200}},
		}),
		region(simulator.RegionConfig{
			Name: "oslo", Limits: simulator.Limits{RequestsPerMinute: 10}, FailureRate: 0.25,
			Outages: []simulator.Outage{{Kinds: []string{"403"}}},
		}),
	}}, got)
}

func TestSimulatedConfigKeepsTheRestOfTheExample(t *testing.T) {
	t.Parallel()
	text := simulatedConfig([]simulateRegion{{"tokyo", "http://127.0.0.1:1/tokyo/v1"}, {"paris", "http://127.0.0.1:1/paris/v1"}})
	file, err := config.Parse("simulated.yaml", text)
	require.NoError(t, err)
	assert.Empty(t, config.Check(file), "it needs no key")
	example, err := config.Parse("example.yaml", config.Example())
	require.NoError(t, err)
	assert.Equal(t, example.Catalog.Models, file.Catalog.Models)
	assert.Equal(t, example.Catalog.TaskTypes, file.Catalog.TaskTypes)
	assert.Equal(t, example.Catalog.Tiers, file.Catalog.Tiers)
	assert.Len(t, file.Catalog.Endpoints, 2)
	assert.True(t, file.Catalog.Endpoints["simulated-paris"].Simulated)
}

func TestSimulateServesUntilItIsEnded(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	p := s.start(t, "simulate", "--json", "--listen", "127.0.0.1:0", "--write-config", "simulated.yaml")
	p.stdout.await(t, "\n")
	var reply simulateReply
	require.NoError(t, json.Unmarshal([]byte(p.stdout.text()), &reply))
	require.Len(t, reply.Regions, 3)
	for _, url := range []string{reply.Counters, reply.Regions[0].URL + "/models"} {
		answer, err := http.Get(url)
		require.NoError(t, err)
		answer.Body.Close()
		assert.Equal(t, http.StatusOK, answer.StatusCode, url)
	}
	assert.Contains(t, s.ok(t, "config", "check", "simulated.yaml"), "simulated.yaml is in order")
	p.signal(t)
	assert.Equal(t, exitOK, p.end(t))
	_, err := os.Stat(s.dir + "/simulated.yaml")
	assert.NoError(t, err)
}

func TestSimulateRefusesAnAddressInUse(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	got := inProcess(t, "", "simulate", "--listen", taken.Addr().String())
	assert.Equal(t, exitFailed, got.status)
	assert.Equal(t, "forebay: cannot listen on "+taken.Addr().String()+": bind: address already in use; choose another address with --listen\n", got.stderr)
}

func TestSimulateListsItsFailures(t *testing.T) {
	t.Parallel()
	got := inProcess(t, "", "simulate", "--list-failures")
	require.Equal(t, exitOK, got.status, got.stderr)
	for _, failure := range simulator.Failures() {
		assert.Contains(t, got.stdout, failure.Description)
	}
}
