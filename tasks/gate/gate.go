// Package gate decides whether a call may be made on a route now, for all workers alike: its state lives in Redis.
//
// An endpoint's breaker is closed, and opens after some consecutive failures of the whole fleet. When its recovery
// time has passed it is half-open: one attempt in the whole fleet holds the probe lease, and what comes of it closes
// the breaker or opens it again. Beside the breakers stand the cooldown of a model on an account, after a 429, and
// the memory that an endpoint does not serve a model.
//
// Limits of requests and tokens are clocks (GCRA) and those of concurrency permits, for an account, a model on it, an
// endpoint, a model at it: all hold at once. A call that a clock lets through within some seconds is admitted at once,
// to begin then: nobody polls. What would have to wait longer is refused and goes back to the queue, with a ticket.
//
// Each call is admitted (Admit), made, and settled (Settle), each time under a token of its own. Both scripts may be
// run twice without harm, as they are when a connection breaks before the answer: an attempt is settled once. Every
// change of a breaker's state increments its generation; the report of a call that was admitted under another one is
// counted and changes no state.
package gate

import (
	"context"
	_ "embed"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/internal/gather"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

var (
	//go:embed admit.lua
	admitSource string
	//go:embed settle.lua
	settleSource string
	//go:embed ticket.lua
	ticketSource string

	admitScript  = redis.NewScript(admitSource)
	settleScript = redis.NewScript(settleSource)
	ticketScript = redis.NewScript(ticketSource)
)

// mostTogether bounds the calls that are admitted or settled by one script.
const mostTogether = 128

// remembered is how many settled tokens an endpoint keeps to tell a repeated report from a new one. A report is
// repeated after a broken connection, at most some seconds later or, while Redis is away, with nothing else settled
// in between: 4096 are 4 s at 1,000 calls a second to one endpoint, and about 0.5 MB.
const remembered = 4096

// Route is a model at an endpoint of an account.
type Route struct {
	Account, Endpoint, Model string
}

// String is the route as users read it: model@endpoint.
func (r Route) String() string { return r.Model + "@" + r.Endpoint }

// Gate admits calls and settles them. It may be used by any number of goroutines; any number of Gates with the same
// keys share one state.
type Gate struct {
	client   redis.UniversalClient
	keys     keyspace.Keyspace
	catalog  *catalog.Catalog
	settings catalog.Breaker
	routes   sync.Map // Route to *known

	admissions *gather.Group[Route, Ask, Admission]
	reports    *gather.Group[Route, Outcome, Transition]
	permits    *waiters
}

// New returns the gate to the state under keys. The client may be a *redis.Client, a *redis.ClusterClient or a
// *redis.AutoPipeliner. Of the catalog it takes the limits and the settings of the breakers, of which a zero field means
// its documented default.
func New(client redis.UniversalClient, keys keyspace.Keyspace, c *catalog.Catalog) *Gate {
	return newGate(client, keys, c, &waiters{})
}

// With returns the same gate by another catalog. Those who wait here for permits stay in one line with those of it.
func (g *Gate) With(c *catalog.Catalog) *Gate { return newGate(g.client, g.keys, c, g.permits) }

func newGate(client redis.UniversalClient, keys keyspace.Keyspace, c *catalog.Catalog, permits *waiters) *Gate {
	g := &Gate{client: client, keys: keys, catalog: c, settings: c.Breaker.WithDefaults(), permits: permits}
	g.admissions = gather.New(mostTogether, func(route Route, asks []Ask) ([]Admission, error) {
		return g.admitAll(context.Background(), route, asks)
	})
	g.reports = gather.New(mostTogether, func(route Route, outcomes []Outcome) ([]Transition, error) {
		return g.settleAll(context.Background(), route, outcomes)
	})
	return g
}

// Load loads the scripts into Redis, so that the first pipelined report need not be sent twice (see PipeSettle).
// Nothing depends on it.
func (g *Gate) Load(ctx context.Context) error {
	for _, script := range []*redis.Script{admitScript, settleScript, ticketScript} {
		if err := script.Load(ctx, g.client).Err(); err != nil {
			return fmt.Errorf("load the gate's scripts into Redis: %w", err)
		}
	}
	return nil
}

// milliseconds rounds up: what is to last at all lasts.
func milliseconds(d time.Duration) int64 {
	return int64((d + time.Millisecond - 1) / time.Millisecond)
}
