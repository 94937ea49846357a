package worker

import (
	"context"
	"errors"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/gate"
	"github.com/forebay-queue/forebay/tasks/jobstore"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/worker/internal/hooks"
	"github.com/forebay-queue/forebay/worker/internal/provider"
)

// plan is what deliveries work by: a catalog, and what was made of it. A delivery has one from its beginning to its end;
// after a Reload those that begin have another.
type plan struct {
	catalog *catalog.Catalog
	gate    *gate.Gate
	budget  *gate.Budget
	// lines lead to the endpoints, by their names.
	lines            map[string]*line
	accountEndpoints map[string][]string
	// limitsTokens tells that the catalog has limits of tokens.
	limitsTokens bool
	// sender makes the attempts of webhooks.
	sender *hooks.Sender
	// order is what the health probes have changed in the order of the endpoints.
	order atomic.Pointer[order]
	// users are those who work by it, and one more while it is the current one. The plans guard it.
	users int
}

// line leads to one endpoint. Plans that have the very same endpoint share it, with its connections.
type line struct {
	*provider.Client
	endpoint *catalog.Endpoint
	// plans are those that have it. The plans guard it.
	plans int
}

// plans hold the plan of the deliveries that begin.
type plans struct {
	mutex   sync.Mutex
	current *plan
}

// use returns the current plan; whoever has it leaves it.
func (p *plans) use() *plan {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.current.users++
	return p.current
}

// share returns a plan that somebody has for somebody else, who leaves it too.
func (p *plans) share(held *plan) *plan {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	held.users++
	return held
}

// leave ends one use. With the last one of a plan that is no longer the current one, its connections are closed, as far
// as no other plan has them.
func (p *plans) leave(left *plan) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if left.users--; left.users > 0 {
		return
	}
	left.sender.Close()
	for _, line := range left.lines {
		if line.plans--; line.plans == 0 {
			line.Close()
		}
	}
}

// change makes a plan the current one.
func (p *plans) change(next *plan) {
	p.mutex.Lock()
	before := p.current
	next.users++
	p.current = next
	p.mutex.Unlock()
	if before != nil {
		p.leave(before)
	}
}

// newPlan makes a plan of a catalog, with what it has in common with the current one.
func (w *Worker) newPlan(c *catalog.Catalog) (*plan, error) {
	next := &plan{
		catalog: c, lines: map[string]*line{}, accountEndpoints: map[string][]string{}, limitsTokens: c.LimitsTokens(),
		sender: hooks.NewSender(c.WebhookGuard().Client(c.Webhooks.Timeout), w.config.Version),
	}
	for name, endpoint := range c.Endpoints {
		next.accountEndpoints[endpoint.Account] = append(next.accountEndpoints[endpoint.Account], name)
	}
	for _, names := range next.accountEndpoints {
		slices.Sort(names)
	}
	// Where store and gate merge scripts by themselves, the merged stream would only make them wait for each other.
	var client redis.UniversalClient = w.pipe
	if single, ok := w.redis.(*redis.Client); ok {
		client = single
	}
	keys := keyspace.New(w.config.Prefix)
	next.budget = gate.NewBudget(client, keys, c.Budget)
	w.plans.mutex.Lock()
	defer w.plans.mutex.Unlock()
	if before := w.plans.current; before != nil {
		next.gate = before.gate.With(c)
	} else {
		next.gate = gate.New(client, keys, c)
	}
	return next, w.connectTo(next)
}

// connectTo gives a plan its lines: those of the current plan where the endpoint is the very same.
func (w *Worker) connectTo(next *plan) error {
	for name, endpoint := range next.catalog.Endpoints {
		if before := w.plans.current; before != nil {
			if known := before.lines[name]; known != nil && reflect.DeepEqual(known.endpoint, endpoint) {
				next.lines[name] = known
				continue
			}
		}
		client, err := provider.New(provider.Config{Endpoint: endpoint, MaxConns: w.config.Slots, Dial: w.config.Dial})
		if err != nil {
			return err
		}
		next.lines[name] = &line{Client: client, endpoint: endpoint}
	}
	for _, line := range next.lines {
		line.plans++
	}
	return nil
}

// Reload has the deliveries that begin from now on work by another catalog, which must have passed its Validate; those
// that run finish by the one they began with. The connections to endpoints that are gone, or have changed, are closed when
// the calls on them are over. How many attempts of webhooks are made at once stays what it was. Without an error the new
// catalog holds; with one the old one does.
func (w *Worker) Reload(c *catalog.Catalog) error {
	if c == nil {
		return errors.New("worker: reload: the catalog is missing")
	}
	w.reloading.Lock()
	defer w.reloading.Unlock()
	if w.draining() {
		return errors.New("worker: reload: the worker is stopping")
	}
	next, err := w.newPlan(c)
	if err != nil {
		return err
	}
	if err := w.refreshOrder(w.writable, next); err != nil {
		w.log.Warn().Err(err).Msg("the endpoints' health could not be read; they are asked in the order of the configuration")
	}
	w.store.SetReplies(jobstore.Replies(c.ReplyStreams))
	w.plans.change(next)
	return nil
}

// key is the API key for an endpoint's account; empty for one without authentication.
func (p *plan) key(endpoint *catalog.Endpoint) (string, error) {
	if endpoint.Auth == catalog.AuthNone {
		return "", nil
	}
	return p.catalog.Key(endpoint.Account)
}

// backoff is the wait before repetition n (from 0): a base that doubles up to a cap, with full jitter.
func (p *plan) backoff(n int) time.Duration {
	retry := p.catalog.Retry
	ceiling := retry.BackoffMax
	if shifted := retry.BackoffBase << min(n, 30); shifted > 0 && shifted < ceiling {
		ceiling = shifted
	}
	return rand.N(ceiling + 1)
}

// order is the endpoints of the models of which some are behind, in the order in which they are asked.
type order map[string][]*catalog.Endpoint

// endpointsFor lists the endpoints that serve a model in the order in which they are asked: see catalog.Order.
func (p *plan) endpointsFor(model string) []*catalog.Endpoint {
	if known := p.order.Load(); known != nil {
		if endpoints, changed := (*known)[model]; changed {
			return endpoints
		}
	}
	return p.catalog.EndpointsFor(model)
}

// refreshOrder looks at which endpoints are behind. Without an answer the last one holds.
func (w *Worker) refreshOrder(ctx context.Context, p *plan) error {
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	endpoints := make([]gate.Endpoint, 0, len(p.catalog.Endpoints))
	for name, endpoint := range p.catalog.Endpoints {
		endpoints = append(endpoints, gate.Endpoint{Account: endpoint.Account, Name: name})
	}
	behind, err := p.gate.Behind(ctx, endpoints)
	if err != nil {
		return err
	}
	found := order{}
	for model := range p.catalog.Models {
		endpoints := p.catalog.Order(model, func(endpoint string) bool { return behind[endpoint] })
		if !slices.Equal(endpoints, p.catalog.EndpointsFor(model)) {
			found[model] = endpoints
		}
	}
	p.order.Store(&found)
	return nil
}
