package main_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/forebay-queue/forebay/deploy/sandbox/corpus"
	"github.com/forebay-queue/forebay/deploy/simulator"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/gate"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

const (
	threshold   = 5
	workers     = 2
	slots       = 16
	recovery    = time.Second
	callTimeout = 3 * time.Second
)

// document is one text of the corpus; the abstract is there where the corpus has one.
type document struct {
	ID       string `json:"id"`
	Text     string `json:"text"`
	Abstract string `json:"abstract"`
}

// TestCorpusOverThreeRegions is the product's promise from the outside: a corpus, three regions of 50-300 ms, two worker
// processes, the first region answering 500s, hanging and resetting from a third to two thirds of the jobs.
func TestCorpusOverThreeRegions(t *testing.T) {
	t.Parallel()
	corpusOverThreeRegions(t, site{})
}

// TestCorpusOnReplicatedRedis is the same on a cluster of three masters with their replicas, and by Sentinels.
func TestCorpusOnReplicatedRedis(t *testing.T) {
	t.Parallel()
	for name, servers := range replicated {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			corpusOverThreeRegions(t, site{servers: servers})
		})
	}
}

func corpusOverThreeRegions(t *testing.T, s site) {
	t.Helper()
	documents := loadCorpus(t)
	latency := simulator.Distribution{Min: 50 * time.Millisecond, Max: 300 * time.Millisecond}
	s.regions = []simulator.RegionConfig{
		{Name: "first", Latency: latency, Outages: []simulator.Outage{
			{Kinds: []string{"500", "hang", "reset"}, FromJob: len(documents) / 3, UntilJob: len(documents) * 2 / 3},
		}},
		{Name: "second", Latency: latency},
		{Name: "third", Latency: latency},
	}
	d := deploy(t, s)
	d.startWorkers(workers)
	d.enqueue(documents)
	results := d.results(documents)
	results = append(results, d.untilRecovered(documents[0])...)

	for _, result := range results {
		require.Equal(t, tasks.StatusSucceeded, result.Status, "job %s: %v", result.ID, result.Error)
		assert.Equal(t, 1, result.Run)
		assert.NotEmpty(t, result.Text)
		assert.Positive(t, result.CostUSD)
	}
	d.stopWorkers(syscall.SIGTERM)
	d.checkCounters(results)
	d.checkDeadEndpoint(results)
	checkSummaries(t, documents, results[:len(documents)])
}

// untilRecovered hands in one job after the other until one of them has found that the first region is up again: the
// corpus may be done before its last probe, which may hang, has ended.
func (d *deployment) untilRecovered(text document) []tasks.Result {
	d.t.Helper()
	var results []tasks.Result
	for d.breaker().Recoveries == 0 {
		require.Less(d.t, len(results), 40, "the breaker does not close although the first region answers again")
		late := document{ID: fmt.Sprintf("late-%d", len(results)), Text: text.Text}
		d.enqueue([]document{late})
		results = append(results, d.results([]document{late})...)
		time.Sleep(recovery / 4)
	}
	return results
}

// breaker is that of the first region.
func (d *deployment) breaker() gate.EndpointState {
	d.t.Helper()
	states, err := gate.New(d.redis, keyspace.New(""), &catalog.Catalog{}).
		Endpoints(d.t.Context(), []gate.Endpoint{{Account: "sim", Name: "first"}})
	require.NoError(d.t, err)
	return states[0]
}

func (d *deployment) enqueue(documents []document) {
	d.t.Helper()
	var group errgroup.Group
	group.SetLimit(4)
	for _, document := range documents {
		path := filepath.Join(d.dir, document.ID+".txt")
		require.NoError(d.t, os.WriteFile(path, []byte(document.Text), 0o600))
		group.Go(func() error {
			output, err := d.command("enqueue", "--type", "fast_summary", "--id", document.ID, "--file", path).CombinedOutput()
			if err != nil {
				return fmt.Errorf("enqueue %s: %w: %s", document.ID, err, output)
			}
			return nil
		})
	}
	require.NoError(d.t, group.Wait())
}

// results waits for every job, and reads one of them as a user does.
func (d *deployment) results(documents []document) []tasks.Result {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), 3*time.Minute)
	defer cancel()
	var results []tasks.Result
	for _, document := range documents {
		record, err := d.store.Wait(ctx, document.ID)
		require.NoError(d.t, err)
		results = append(results, record.Result())
	}
	output, err := d.command("get", documents[0].ID, "--json").Output()
	require.NoError(d.t, err)
	var read tasks.Result
	require.NoError(d.t, json.Unmarshal(output, &read))
	assert.Equal(d.t, results[0].Text, read.Text)
	assert.Equal(d.t, results[0].CostUSD, read.CostUSD)
	return results
}

// checkCounters holds the providers' counters against the ledgers: every call is known, and every job was answered
// once.
func (d *deployment) checkCounters(results []tasks.Result) {
	d.t.Helper()
	calls := map[string]int64{}
	answers := map[string]int{}
	for _, result := range results {
		for _, attempt := range result.Attempts {
			assert.True(d.t, attempt.Ended, "job %s", result.ID)
			calls[attempt.Endpoint]++
			if attempt.Class == "" {
				answers[result.ID]++
			}
		}
	}
	counters := d.sim.Counters()
	for region, counted := range counters.Regions {
		assert.Equal(d.t, counted.Asked, calls[region], "calls to %s: provider and ledgers", region)
	}
	for _, result := range results {
		assert.Equal(d.t, 1, answers[result.ID], "answers in the ledger of job %s", result.ID)
		// An answer that came after its call had been given up is the provider's to count, and maybe billed to us.
		answered, lost := counters.Jobs[result.ID].Answered, int64(0)
		for _, attempt := range result.Attempts {
			if attempt.MaybeBilled {
				lost++
			}
		}
		assert.GreaterOrEqual(d.t, answered, int64(1), "answers counted by the provider for job %s", result.ID)
		assert.LessOrEqual(d.t, answered, 1+lost, "answers counted by the provider for job %s", result.ID)
	}
	assert.Positive(d.t, counters.Regions["first"].DuringOutage)
}

// checkDeadEndpoint checks that after the breaker had opened, the dead endpoint was asked by probes only.
func (d *deployment) checkDeadEndpoint(results []tasks.Result) {
	d.t.Helper()
	state := d.breaker()
	assert.GreaterOrEqual(d.t, state.Trips, int64(1))
	assert.GreaterOrEqual(d.t, state.Probes, int64(1))
	assert.GreaterOrEqual(d.t, state.Recoveries, int64(1))

	var failed []tasks.Attempt
	var probes int
	for _, result := range results {
		for _, attempt := range result.Attempts {
			if attempt.Endpoint == "first" && attempt.Class != "" {
				failed = append(failed, attempt)
				if attempt.Probe {
					probes++
				}
			}
		}
	}
	end := func(a tasks.Attempt) time.Time {
		return a.StartedAt.Add(time.Duration(a.LatencyMS) * time.Millisecond)
	}
	slices.SortFunc(failed, func(a, b tasks.Attempt) int { return end(a).Compare(end(b)) })
	require.GreaterOrEqual(d.t, len(failed), threshold)
	assert.LessOrEqual(d.t, len(failed)-probes, int(state.Trips)*(threshold+workers*slots),
		"calls wasted: at most the threshold and those in flight, each time that it opened")

	// Between its opening, which is after the fifth failure in a row, and its recovery only probes went out.
	late := 0
	opened := end(failed[threshold-1]).Add(500 * time.Millisecond) // to report it, and the clocks' rounding
	for _, attempt := range failed {
		if !attempt.Probe && attempt.StartedAt.After(opened) {
			late++
		}
	}
	assert.LessOrEqual(d.t, late, int(state.Trips-1)*(threshold+workers*slots), "calls after the breaker had opened")
}

func loadCorpus(t *testing.T) []document {
	t.Helper()
	path := os.Getenv("FOREBAY_CORPUS")
	if path == "" {
		return defaultCorpus(t)
	}
	file, err := os.Open(path)
	require.NoError(t, err, "FOREBAY_CORPUS")
	defer func() { _ = file.Close() }()
	var documents []document
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var one document
		require.NoError(t, json.Unmarshal(lines.Bytes(), &one), "line %d of FOREBAY_CORPUS", len(documents)+1)
		documents = append(documents, one)
	}
	require.NoError(t, lines.Err())
	return documents
}

// defaultCorpus is the demo's.
func defaultCorpus(t *testing.T) []document {
	t.Helper()
	t.Log("FOREBAY_CORPUS is not set: the demo's corpus is used, which has no abstracts to hold the summaries against")
	texts, err := corpus.Default(t.Context(), os.DirFS("."))
	require.NoError(t, err)
	var documents []document
	for i, text := range texts.Documents {
		documents = append(documents, document{ID: fmt.Sprintf("doc-%03d", i), Text: text.Text})
	}
	return documents
}
