// Package leader gives one process at a time the right to do what must happen once in a deployment.
//
// The right is a lease in Redis that its holder prolongs. It passes on within the lease's length when the holder dies,
// and at once when it leaves. A holder stops acting before its lease ends, by its own monotonic clock, counted from
// before the request that was granted. A clock alone cannot hold back a process that is stopped between looking at it
// and writing: every acquisition therefore begins a new term, and scripts that act refuse an older term than the last
// they have seen.
package leader

import (
	"context"
	_ "embed" // for the scripts
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/forebay-queue/forebay/tasks/keyspace"
)

const (
	// Lease is how long a dead leader stands in the way.
	Lease = 5 * time.Second
	// renewal is how often the lease is prolonged, and how often others ask for it.
	renewal = 1500 * time.Millisecond
	// margin is how long before the lease's end its holder stops: it allows for clocks that run at different speeds.
	margin = 500 * time.Millisecond
	// patience bounds one question to Redis: two of them fit into a lease.
	patience = 2 * time.Second
)

// ErrLost says that this process leads no more.
var ErrLost = errors.New("the leader's lease could not be prolonged in time")

var (
	//go:embed acquire.lua
	acquireSource string
	//go:embed resign.lua
	resignSource string

	acquireScript = redis.NewScript(acquireSource)
	resignScript  = redis.NewScript(resignSource)
)

// Config configures a Candidate.
type Config struct {
	// Redis is the client to use. Required.
	Redis redis.UniversalClient
	// Keys are those of the deployment.
	Keys keyspace.Keyspace
	// Log takes a line for every change. The zero value discards them.
	Log zerolog.Logger
}

// Candidate asks for the lease until it gets it.
type Candidate struct {
	redis redis.UniversalClient
	keys  keyspace.Keyspace
	log   zerolog.Logger
	token string
	// asked is when it last asked for the lease.
	asked atomic.Pointer[time.Time]
}

// New returns a Candidate. It sends nothing yet.
func New(config Config) *Candidate {
	token := uuid.NewString()
	return &Candidate{
		redis: config.Redis, keys: config.Keys, token: token,
		log: config.Log.With().Str("candidate", token).Logger(),
	}
}

// Asked is when the lease was last asked for; zero before the first time. Whoever takes part asks all the time.
func (c *Candidate) Asked() time.Time {
	if asked := c.asked.Load(); asked != nil {
		return *asked
	}
	return time.Time{}
}

// Term is one time of leading.
type Term struct {
	candidate *Candidate

	mutex  sync.Mutex
	number int64
	until  time.Time // by this process's monotonic clock
	expiry *time.Timer
}

// Run asks for the lease until the context ends. Whenever it is granted, lead is called, with a context that ends
// before the lease does; the lease is prolonged meanwhile, and Run waits for lead to return before it asks again. At
// the end the lease is given up, so that another candidate takes it at once.
func (c *Candidate) Run(ctx context.Context, lead func(ctx context.Context, term *Term)) {
	vacant, deaf := c.vacancies(ctx)
	defer deaf()
	for troubled := false; ctx.Err() == nil; {
		term := &Term{candidate: c}
		err := term.acquire(ctx, 0)
		if err == nil {
			troubled = false
			c.serve(ctx, term, lead)
			continue
		}
		if !errors.Is(err, errFollows) && ctx.Err() == nil {
			if !troubled {
				c.log.Warn().Err(err).Msg("cannot ask for the leader's lease; asking on")
			}
			troubled = true
		}
		select {
		case <-ctx.Done():
		case <-vacant:
		case <-time.After(renewal - rand.N(renewal/5)): // candidates do not ask in step
		}
	}
}

// vacancies tells when a leader has left. It is read all the time: messages that nobody takes would hold the client.
func (c *Candidate) vacancies(ctx context.Context) (vacant <-chan struct{}, end func()) {
	left := c.redis.Subscribe(ctx, c.keys.LeaderLeft())
	heard, done := make(chan struct{}, 1), make(chan struct{})
	go func() {
		defer close(done)
		for range left.Channel() {
			select {
			case heard <- struct{}{}:
			default:
			}
		}
	}()
	return heard, func() {
		_ = left.Close()
		<-done
	}
}

// serve leads for one term.
func (c *Candidate) serve(ctx context.Context, term *Term, lead func(context.Context, *Term)) {
	c.log.Info().Int64("term", term.Number()).Msg("leads")
	leading, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	term.watch(func() { stop(ErrLost) })
	done := make(chan struct{})
	go func() {
		defer close(done)
		lead(leading, term)
	}()
	term.renew(leading, stop, done)
	<-done
	term.end()
	c.resign(ctx, term)
}

// renew prolongs the lease until the leading ends or lead has returned.
func (t *Term) renew(leading context.Context, stop context.CancelCauseFunc, done <-chan struct{}) {
	ticker := time.NewTicker(renewal)
	defer ticker.Stop()
	for {
		select {
		case <-leading.Done():
			return
		case <-done:
			return
		case <-ticker.C:
		}
		switch err := t.acquire(leading, 0); {
		case err == nil || leading.Err() != nil:
		case errors.Is(err, errFollows):
			stop(ErrLost)
			return
		default:
			t.candidate.log.Warn().Err(err).Msg("could not prolong the leader's lease; trying on until it ends")
		}
	}
}

// resign gives the lease up and says so.
func (c *Candidate) resign(ctx context.Context, term *Term) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	given, err := resignScript.Run(ctx, c.redis, []string{c.keys.Leader()}, c.token).Int()
	if err == nil && given == 1 {
		err = c.redis.Publish(ctx, c.keys.LeaderLeft(), c.token).Err()
	}
	event := c.log.Info()
	if err != nil {
		event = c.log.Warn().Err(err)
	}
	event.Int64("term", term.Number()).Msg("leads no more")
}

// errFollows says that somebody else holds the lease.
var errFollows = errors.New("another process leads")

// acquire takes or prolongs the lease. A term above floor is asked for where floor is not 0.
func (t *Term) acquire(ctx context.Context, floor int64) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c, asked := t.candidate, time.Now()
	c.asked.Store(&asked)
	reply, err := acquireScript.Run(ctx, c.redis, []string{c.keys.Leader()}, c.token, Lease.Milliseconds(), floor).StringSlice()
	if err != nil {
		return fmt.Errorf("leader: ask for the lease: %w", err)
	}
	if len(reply) != 2 {
		return fmt.Errorf("leader: the script answered %d parts", len(reply))
	}
	if reply[0] != "leading" {
		return errFollows
	}
	number, err := strconv.ParseInt(reply[1], 10, 64)
	if err != nil {
		return fmt.Errorf("leader: the script answered the term %q", reply[1])
	}
	t.mutex.Lock()
	defer t.mutex.Unlock()
	if t.number != 0 && t.number != number && floor == 0 {
		return errFollows // the lease had ended and was taken anew: what was seen before it is void
	}
	t.number, t.until = number, asked.Add(Lease-margin)
	if t.expiry != nil {
		t.expiry.Reset(time.Until(t.until))
	}
	return nil
}

// watch calls lost when the time is over that the lease was prolonged for.
func (t *Term) watch(lost func()) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	t.expiry = time.AfterFunc(time.Until(t.until), lost)
}

// end ends the term before the lease is given up.
func (t *Term) end() {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	t.expiry.Stop()
	t.until = time.Time{}
}

// Number counts the terms of the deployment from 1.
func (t *Term) Number() int64 {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	return t.number
}

// Err is ErrLost once the term is over. It is to be asked right before everything that is done as the leader: a
// process that was stopped sees the end of its context only some moments after it goes on.
func (t *Term) Err() error {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	if !time.Now().Before(t.until) {
		return ErrLost
	}
	return nil
}

// Above raises the term above one that a script has seen: the counter itself has lost writes, as a failover of
// Redis may lose them. It fails with ErrLost when the lease is not this term's any more.
func (t *Term) Above(ctx context.Context, seen int64) error {
	if err := t.acquire(ctx, seen); err != nil {
		if errors.Is(err, errFollows) {
			return ErrLost
		}
		return err
	}
	return nil
}
