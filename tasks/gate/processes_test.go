package gate

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

// Two processes of 64 goroutines each report to one endpoint. sizes_test.go says how many; fewer under the race
// detector.
const (
	reportingProcesses  = 2
	reportingGoroutines = 64
)

// reportRedis and reportNumber make a process of this test one of those that report.
const reportRedis, reportNumber = "FOREBAY_TEST_REPORT_REDIS", "FOREBAY_TEST_REPORT_NUMBER"

// reportedEffects are those of the outcomes, by their number.
var reportedEffects = []Effect{Success, Failure, Success, Ignore}

func reportingSettings() catalog.Breaker {
	settings := testSettings
	settings.Failures = 1 << 30 // every report is of generation 0
	return settings
}

func TestOutcomesOfTwoProcessesAreAllCounted(t *testing.T) {
	t.Parallel()
	client, server := redistest.Real(t)
	began := time.Now()
	var processes sync.WaitGroup
	for number := range reportingProcesses {
		processes.Go(func() {
			process := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestReportingProcess$", "-test.count=1")
			process.Env = append(os.Environ(), reportRedis+"="+server.Addr, reportNumber+"="+strconv.Itoa(number))
			var output bytes.Buffer
			process.Stdout, process.Stderr = &output, &output
			assert.NoError(t, process.Run(), "%s", &output)
		})
	}
	processes.Wait()
	b := New(client, keyspace.New("reports:"), &catalog.Catalog{Breaker: reportingSettings()})
	states, err := b.Endpoints(t.Context(), []Endpoint{{Account: routeA.Account, Name: routeA.Endpoint}})
	require.NoError(t, err)
	require.EqualValues(t, reports, states[0].Calls)
	require.EqualValues(t, reports/2, states[0].Successes)
	require.EqualValues(t, reports/4, states[0].Failures)
	t.Logf("%d outcomes of %d goroutines in %d processes in %s", reports, reportingProcesses*reportingGoroutines, reportingProcesses, time.Since(began))
}

// TestReportingProcess is the process that the test above starts.
func TestReportingProcess(t *testing.T) {
	addr := os.Getenv(reportRedis)
	if addr == "" {
		return
	}
	number, err := strconv.Atoi(os.Getenv(reportNumber))
	require.NoError(t, err)
	client := redis.NewClient(redistest.Options(addr))
	defer client.Close()
	g := New(client, keyspace.New("reports:"), &catalog.Catalog{Breaker: reportingSettings()})
	var goroutines sync.WaitGroup
	for first := range reportingGoroutines {
		goroutines.Go(func() {
			for i := number*reportingGoroutines + first; i < reports; i += reportingProcesses * reportingGoroutines {
				transition, err := g.Settle(context.Background(), Outcome{
					Route: routeA, Token: fmt.Sprintf("attempt-%d", i), Effect: reportedEffects[i%len(reportedEffects)], Latency: time.Second,
				})
				if !assert.NoError(t, err) || !assert.False(t, transition.Duplicate || transition.Late) {
					return
				}
			}
		})
	}
	goroutines.Wait()
}
