package alerts

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks/alerts"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/gate"
	"github.com/forebay-queue/forebay/tasks/jobstore"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

// scene is a deployment of two endpoints, of which a test writes into Redis how they stand.
type scene struct {
	t       *testing.T
	look    *conditions
	keys    keyspace.Keyspace
	workers int
	failed  error
}

func newScene(t *testing.T) *scene {
	t.Helper()
	client, _ := redistest.Embedded(t)
	store, err := jobstore.New(jobstore.Config{Redis: client})
	require.NoError(t, err)
	t.Cleanup(func() { _ = store.Close() })
	known := &catalog.Catalog{
		Accounts: map[string]*catalog.Account{"a": {}, "b": {}},
		Endpoints: map[string]*catalog.Endpoint{
			"first":  {Account: "a", URL: "http://127.0.0.1:1/v1", Priority: 1, Auth: catalog.AuthNone},
			"second": {Account: "b", URL: "http://127.0.0.1:2/v1", Priority: 2, Auth: catalog.AuthNone},
		},
		Models: map[string]*catalog.Model{"m": {Output: new(1.0)}},
		Tiers:  []catalog.Tier{{Name: "low", Models: []string{"m"}}},
		Budget: catalog.Budget{Tenants: map[string]float64{"research": 10, "none": 0}},
	}
	require.NoError(t, known.Validate())
	s := &scene{t: t, keys: store.Keys(), workers: 1}
	s.look = &conditions{
		redis: client, store: store, catalog: known, settings: alerts.DefaultSettings(), gate: gate.New(client, store.Keys(), known),
		budget:  gate.NewBudget(client, store.Keys(), known.Budget),
		workers: func(context.Context) (int, error) { return s.workers, s.failed },
	}
	return s
}

func (s *scene) set(key string, pairs ...any) {
	s.t.Helper()
	require.NoError(s.t, s.look.redis.HSet(s.t.Context(), key, pairs...).Err())
}

// finds are the keys of what is found.
func (s *scene) finds() []string {
	s.t.Helper()
	seen, _, err := s.look.look(s.t.Context(), nil)
	require.NoError(s.t, err)
	require.Empty(s.t, seen.Unknown)
	found := []string{}
	for _, finding := range seen.Holding {
		require.NotEmpty(s.t, finding.Summary)
		found = append(found, alerts.Alert{Name: finding.Name, Subject: finding.Subject}.Key())
	}
	return found
}

func TestEndpointsTiersAndAccounts(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	require.Empty(t, s.finds())
	s.set(s.keys.Endpoint("a", "first"), "state", "open", "cause", "unavailable", "until_ms", time.Now().Add(time.Minute).UnixMilli())
	require.Equal(t, []string{"breaker_open/first"}, s.finds())
	s.set(s.keys.Endpoint("a", "first"), "until_ms", time.Now().Add(-time.Minute).UnixMilli())
	require.Equal(t, []string{"breaker_open/first"}, s.finds(), "a probe closes nothing yet")
	for _, cause := range []string{"auth", "quota"} {
		s.set(s.keys.Endpoint("b", "second"), "state", "open", "cause", cause)
		require.Equal(t, []string{"breaker_open/first", "account_refused/b", "tier_down/low"}, s.finds())
	}
	s.set(s.keys.Endpoint("a", "first"), "state", "closed")
	require.Equal(t, []string{"account_refused/b"}, s.finds())
}

func TestBudgets(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	day := s.keys.BudgetDay(s.look.budget.Today().Name)
	s.set(day, "spent:all", gate.Nanos(79.9), "spent:tenant:research", gate.Nanos(8))
	require.Equal(t, []string{"budget_near/tenant:research"}, s.finds())
	s.set(day, "spent:all", gate.Nanos(80), "told:100:tenant:research", "yes")
	require.Equal(t, []string{"budget_near/all", "budget_near/tenant:research", "budget_spent/tenant:research"}, s.finds())
	s.set(day, "spent:all", gate.Nanos(99), "spent:tenant:research", gate.Nanos(1))
	require.Equal(t, []string{"budget_near/all", "budget_spent/all"}, s.finds(), "one large call that had no room is not the end of a limit")
}

func TestWorkersAndWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.workers = 0
	require.Equal(t, []string{"no_worker/"}, s.finds())
	s.failed = errors.New("away")
	seen, _, err := s.look.look(t.Context(), nil)
	require.ErrorIs(t, err, s.failed)
	require.Equal(t, map[string]bool{alerts.NoWorker: true}, seen.Unknown)
	require.Empty(t, seen.Holding)
}

func TestDeadLettersThatGrow(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	now := time.Now()
	dead := func(count int) {
		for i := range count {
			require.NoError(t, s.look.redis.ZAdd(t.Context(), s.keys.Index(i%keyspace.IndexShards, "dead"), member(i, now)).Err())
		}
	}
	dead(500)
	found, samples, err := s.look.dead(t.Context(), now, nil)
	require.NoError(t, err)
	require.Empty(t, found, "those that were there are not new")
	require.Equal(t, 500, samples["jobs"][0].Count)
	dead(510)
	found, fresh, err := s.look.dead(t.Context(), now.Add(30*time.Second), samples)
	require.NoError(t, err)
	require.Empty(t, found)
	require.Nil(t, fresh, "a minute has not passed")
	dead(511)
	found, fresh, err = s.look.dead(t.Context(), now.Add(2*time.Minute), samples)
	require.NoError(t, err)
	require.Equal(t, []Finding{{alerts.DeadLetters, "jobs", "11 jobs have become dead letters within an hour; there are 511."}}, found)
	require.Len(t, fresh["jobs"], 2)
	found, fresh, err = s.look.dead(t.Context(), now.Add(2*time.Hour), fresh)
	require.NoError(t, err)
	require.Empty(t, found, "an hour later they are not new")
	require.Len(t, fresh["jobs"], 1)
}

func member(i int, at time.Time) redis.Z {
	return redis.Z{Score: float64(at.UnixMilli()), Member: fmt.Sprintf("job-%d", i)}
}
