package metrics

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
)

func TestEndsOfTheLedgerAreCountedByTheirPrice(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewPedanticRegistry()
	ledger := NewLedger(registry)
	known := &catalog.Catalog{Endpoints: map[string]*catalog.Endpoint{"near": {}}}
	ledger.Ended(tasks.Attempt{Endpoint: "near", Usage: &tasks.Usage{}})
	ledger.Ended(tasks.Attempt{Endpoint: "near", MaybeBilled: true})
	ledger.Ended(tasks.Attempt{Endpoint: "near", Class: tasks.ClassThrottled})
	ledger.Abandoned(known, tasks.Attempt{Endpoint: "near", MaybeBilled: true})
	ledger.Abandoned(known, tasks.Attempt{Endpoint: "gone since", MaybeBilled: true})
	ledger.Abandoned(nil, tasks.Attempt{Endpoint: "near"})
	assert.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP forebay_ledger_attempts_total Attempts that have ended in the ledger: settled, free, maybe_billed, or abandoned by a worker that is gone.
# TYPE forebay_ledger_attempts_total counter
forebay_ledger_attempts_total{endpoint="near",state="abandoned"} 1
forebay_ledger_attempts_total{endpoint="near",state="free"} 1
forebay_ledger_attempts_total{endpoint="near",state="maybe_billed"} 1
forebay_ledger_attempts_total{endpoint="near",state="settled"} 1
forebay_ledger_attempts_total{endpoint="other",state="abandoned"} 2
`)))
}

func TestEndsAreCountedByTheirLastRoute(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewPedanticRegistry()
	ends := NewEnds(registry)
	known := &catalog.Catalog{Endpoints: map[string]*catalog.Endpoint{"near": {}}, Models: map[string]*catalog.Model{"m": {}}}
	ends.Ended(known, tasks.Job{}, tasks.StatusCancelled, tasks.Result{})
	ends.Ended(known, tasks.Job{}, tasks.StatusFailed, tasks.Result{Attempts: []tasks.Attempt{{Model: "m", Endpoint: "far"}, {Model: "m", Endpoint: "near"}}})
	ends.Ended(known, tasks.Job{}, tasks.StatusFailed, tasks.Result{Attempts: []tasks.Attempt{{Model: "made up", Endpoint: "far"}}})
	assert.NoError(t, testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP forebay_jobs_ended_by_route_total Jobs that this process has ended, by the route of their answer, or of their last call; empty for those that were never called for.
# TYPE forebay_jobs_ended_by_route_total counter
forebay_jobs_ended_by_route_total{endpoint="",model="",status="cancelled"} 1
forebay_jobs_ended_by_route_total{endpoint="near",model="m",status="failed"} 1
forebay_jobs_ended_by_route_total{endpoint="other",model="other",status="failed"} 1
`), "forebay_jobs_ended_by_route_total"))
}
