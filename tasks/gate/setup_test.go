package gate

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

// The settings of most tests. The periods are so long that a test's own time does not count beside them.
var testSettings = catalog.Breaker{
	Failures: 5, Recovery: time.Hour, RecoveryMax: time.Hour, LongRecovery: 6 * time.Hour, Ramp: new(time.Duration),
	Cooldown: 30 * time.Minute, NotServed: 2 * time.Hour,
}

const testLease = 20 * time.Minute

// The account with two endpoints of most tests, and another beside it.
var (
	routeA     = Route{Account: "acme", Endpoint: "acme-eu", Model: "small"}
	routeALike = Route{Account: "acme", Endpoint: "acme-eu", Model: "large"}
	routeB     = Route{Account: "acme", Endpoint: "acme-us", Model: "small"}
	routeOther = Route{Account: "other", Endpoint: "other-eu", Model: "small"}

	acmeEndpoints = []string{"acme-eu", "acme-us"}
)

// store is a Redis under test, with a clock that a test can advance.
type store struct {
	client redis.UniversalClient
	// advance lets time pass for the state under a prefix.
	advance func(t require.TestingT, prefix string, by time.Duration)
	// drift is by how much Redis's clock may be ahead of the test's own reckoning.
	drift time.Duration
}

// redises are the servers that tests run on: the embedded one, and a real one.
var redises = map[string]func(t *testing.T) store{"embedded": embeddedStore, "real": realStore}

// embeddedStore has a clock that stands still unless a test advances it.
func embeddedStore(t *testing.T) store {
	t.Helper()
	client, server := redistest.Embedded(t)
	now := time.Date(2026, 11, 23, 6, 0, 0, 0, time.UTC)
	server.SetTime(now)
	return store{client: client, advance: func(_ require.TestingT, _ string, by time.Duration) {
		now = now.Add(by)
		server.SetTime(now)
	}}
}

// realStore cannot set its server's clock. It moves every time that is stored into the past instead: the scripts only
// ever compare the two.
func realStore(t *testing.T) store {
	t.Helper()
	client, _ := redistest.Real(t)
	return realStoreOf(client)
}

func realStoreOf(client redis.UniversalClient) store {
	return store{client: client, drift: time.Minute, advance: func(t require.TestingT, prefix string, by time.Duration) {
		ctx := context.Background()
		read, write := client.Pipeline(), client.Pipeline()
		hashes, permits := map[string]*redis.MapStringStringCmd{}, map[string]*redis.StringSliceCmd{}
		for _, key := range keysOf(t, client, prefix) {
			if strings.Contains(key, ":permits") {
				permits[key] = read.ZRange(ctx, key, 0, -1)
			} else if !strings.HasSuffix(key, ":settled") {
				hashes[key] = read.HGetAll(ctx, key)
			}
		}
		_, err := read.Exec(ctx)
		require.NoError(t, err)
		for key, cmd := range permits {
			for _, token := range cmd.Val() {
				write.ZIncrBy(ctx, key, -float64(by.Milliseconds()), token)
			}
		}
		for key, cmd := range hashes {
			for field, value := range cmd.Val() {
				if strings.HasSuffix(field, "until_ms") && value != "0" {
					write.HIncrBy(ctx, key, field, -by.Milliseconds())
				} else if strings.HasSuffix(field, "until_us") && value != "0" {
					write.HIncrBy(ctx, key, field, -by.Microseconds())
				}
			}
		}
		_, err = write.Exec(ctx)
		require.NoError(t, err)
	}}
}

// keysOf are all keys with a prefix, on all nodes of a cluster.
func keysOf(t require.TestingT, client redis.UniversalClient, prefix string) []string {
	cluster, ok := client.(*redis.ClusterClient)
	if !ok {
		keys, err := client.Keys(context.Background(), prefix+"*").Result()
		require.NoError(t, err)
		return keys
	}
	var mu sync.Mutex
	var keys []string
	require.NoError(t, cluster.ForEachMaster(context.Background(), func(ctx context.Context, node *redis.Client) error {
		some, err := node.Keys(ctx, prefix+"*").Result()
		mu.Lock()
		defer mu.Unlock()
		keys = append(keys, some...)
		return err
	}))
	return keys
}

var prefixes atomic.Int64

// bundle is a gate of its own in a Redis, with fresh state.
type bundle struct {
	*Gate
	store  store
	prefix string
	tokens int
}

func newBundle(s store, settings catalog.Breaker) *bundle {
	return newLimitedBundle(s, &catalog.Catalog{Breaker: settings})
}

func newLimitedBundle(s store, c *catalog.Catalog) *bundle {
	prefix := fmt.Sprintf("test%d:", prefixes.Add(1))
	return &bundle{Gate: New(s.client, keyspace.New(prefix), c), store: s, prefix: prefix}
}

// limits are those of routeA, in the order of their scopes.
type limits struct{ account, accountModel, endpoint, endpointModel catalog.Limits }

// catalog has the endpoints of all routes, and the limits for routeA and whoever shares them.
func (l limits) catalog(settings catalog.Breaker) *catalog.Catalog {
	byModel := func(limits catalog.Limits) map[string]catalog.Limits {
		return map[string]catalog.Limits{routeA.Model: limits}
	}
	return &catalog.Catalog{
		Breaker: settings,
		Accounts: map[string]*catalog.Account{
			"acme": {Name: "acme", Limits: l.account, ModelLimits: byModel(l.accountModel)}, "other": {Name: "other"},
		},
		Endpoints: map[string]*catalog.Endpoint{
			"acme-eu":  {Name: "acme-eu", Account: "acme", Limits: l.endpoint, ModelLimits: byModel(l.endpointModel)},
			"acme-us":  {Name: "acme-us", Account: "acme"},
			"other-eu": {Name: "other-eu", Account: "other"},
		},
	}
}

func (b *bundle) advance(t require.TestingT, by time.Duration) { b.store.advance(t, b.prefix, by) }

// ask asks for admission under a new token.
func (b *bundle) ask(t require.TestingT, route Route) Admission {
	b.tokens++
	admission, err := b.Admit(context.Background(), route, asking("attempt-"+strconv.Itoa(b.tokens)))
	require.NoError(t, err)
	return admission
}

// asks asks under a new token for whatever else is asked.
func (b *bundle) asks(t require.TestingT, route Route, ask Ask) Admission {
	b.tokens++
	ask.Token = "attempt-" + strconv.Itoa(b.tokens)
	if ask.Lease == 0 {
		ask.Lease = testLease
	}
	admission, err := b.Admit(context.Background(), route, ask)
	require.NoError(t, err)
	return admission
}

// asking is what the attempt with a token asks in most tests.
func asking(token string) Ask {
	return Ask{Token: token, Lease: testLease, Priority: tasks.PriorityBulk}
}

// admit asks and expects to be granted.
func (b *bundle) admit(t require.TestingT, route Route) Admission {
	admission := b.ask(t, route)
	require.True(t, admission.Granted, "refused: %s", admission.Reason)
	return admission
}

// refused asks and expects a refusal for the reason, until about then, that leaves no trace.
func (b *bundle) refused(t require.TestingT, route Route, reason Reason, retryIn time.Duration) {
	before := b.snapshot(t)
	admission := b.ask(t, route)
	require.False(t, admission.Granted)
	require.Equal(t, reason, admission.Reason)
	require.LessOrEqual(t, admission.RetryIn, retryIn)
	require.GreaterOrEqual(t, admission.RetryIn, retryIn-b.store.drift)
	require.Equal(t, before, b.snapshot(t), "a refused call leaves no trace")
}

func (b *bundle) settle(t require.TestingT, outcome Outcome) Transition {
	if outcome.Effect == TripAccount {
		outcome.AccountEndpoints = acmeEndpoints
	}
	transition, err := b.Settle(context.Background(), outcome)
	require.NoError(t, err)
	return transition
}

// trip opens the route's breaker for the settings' recovery time.
func (b *bundle) trip(t require.TestingT, route Route) {
	outcome := b.admit(t, route).Outcome(Trip)
	outcome.For = b.settings.Recovery
	require.Equal(t, Opened, b.settle(t, outcome).Change)
}

// probe trips the route's breaker, waits for its recovery and takes the probe.
func (b *bundle) probe(t require.TestingT, route Route) Admission {
	b.trip(t, route)
	b.advance(t, b.settings.Recovery)
	admission := b.admit(t, route)
	require.True(t, admission.Probe)
	return admission
}

func (b *bundle) state(t require.TestingT, route Route) EndpointState {
	states, err := b.Endpoints(context.Background(), []Endpoint{{Account: route.Account, Name: route.Endpoint}})
	require.NoError(t, err)
	return states[0]
}

// snapshot is every key of the bundle with all that it holds.
func (b *bundle) snapshot(t require.TestingT) map[string]map[string]string {
	ctx := context.Background()
	keys := keysOf(t, b.client, b.prefix)
	pipe := b.client.Pipeline()
	hashes, sets := map[string]*redis.MapStringStringCmd{}, map[string]*redis.ZSliceCmd{}
	for _, key := range keys {
		if strings.HasSuffix(key, ":settled") || strings.Contains(key, ":permits") {
			sets[key] = pipe.ZRangeWithScores(ctx, key, 0, -1)
		} else {
			hashes[key] = pipe.HGetAll(ctx, key)
		}
	}
	_, err := pipe.Exec(ctx)
	require.NoError(t, err)
	snapshot := map[string]map[string]string{}
	for key, cmd := range hashes {
		snapshot[key] = maps.Clone(cmd.Val())
	}
	for key, cmd := range sets {
		snapshot[key] = map[string]string{}
		for _, member := range cmd.Val() {
			snapshot[key][fmt.Sprint(member.Member)] = fmt.Sprint(member.Score)
		}
	}
	return snapshot
}
