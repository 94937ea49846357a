package leader

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// member is a candidate with a connection of its own.
type member struct {
	*Candidate
	cut  atomic.Bool // nothing reaches Redis any more
	term atomic.Pointer[Term]
	led  atomic.Int64
	stop context.CancelFunc
	done chan struct{}
}

// leads tells whether the member may act.
func (m *member) leads() bool {
	term := m.term.Load()
	return term != nil && term.Err() == nil
}

type cutHook struct{ cut *atomic.Bool }

var errCut = errors.New("the connection is cut")

func (h cutHook) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if h.cut.Load() {
			return nil, errCut
		}
		return next(ctx, network, addr)
	}
}

func (h cutHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if h.cut.Load() {
			return errCut
		}
		return next(ctx, cmd)
	}
}

func (h cutHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if h.cut.Load() {
			return errCut
		}
		return next(ctx, cmds)
	}
}

// enter starts a candidate that does nothing while it leads.
func enter(t *testing.T, like *redis.Client) *member {
	t.Helper()
	options := *like.Options()
	client := redis.NewClient(&options)
	m := &member{done: make(chan struct{})}
	client.AddHook(cutHook{&m.cut})
	m.Candidate = New(Config{Redis: client, Keys: keyspace.New("")})
	ctx, stop := context.WithCancel(t.Context())
	m.stop = stop
	go func() {
		defer close(m.done)
		m.Run(ctx, func(ctx context.Context, term *Term) {
			m.led.Add(1)
			m.term.Store(term)
			<-ctx.Done()
		})
	}()
	t.Cleanup(func() {
		stop()
		<-m.done
		_ = client.Close()
	})
	return m
}

// onlyOne checks every 50 ms that at most one member may act, and returns who does at the end.
func onlyOne(t *testing.T, span time.Duration, members ...*member) *member {
	t.Helper()
	var leads *member
	for end := time.Now().Add(span); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		leads = nil
		for _, m := range members {
			if m.leads() {
				// Who led when it was looked at may have left since.
				require.False(t, leads != nil && leads.leads(), "two lead at once")
				leads = m
			}
		}
	}
	return leads
}

// until waits for another member to lead than the given one, and returns it with the time that it took.
func until(t *testing.T, not *member, members ...*member) (*member, time.Duration) {
	t.Helper()
	begun := time.Now()
	for time.Since(begun) < time.Minute {
		if leads := onlyOne(t, time.Millisecond, members...); leads != nil && leads != not {
			return leads, time.Since(begun)
		}
	}
	t.Fatal("nobody leads")
	return nil, 0
}

func TestTheLeaseIsHandedOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client, _ := redistest.InBubble(t)
		members := []*member{enter(t, client), enter(t, client), enter(t, client)}
		first, _ := until(t, nil, members...)
		require.Same(t, first, onlyOne(t, 2*time.Minute, members...), "who leads goes on leading")
		require.EqualValues(t, 1, first.term.Load().Number())
		require.EqualValues(t, 1, first.led.Load())

		first.cut.Store(true) // as if killed
		second, took := until(t, first, members...)
		require.Less(t, took, Lease+2*time.Second)
		require.Greater(t, took, 3*time.Second, "a lease is never taken before its end")
		require.ErrorIs(t, first.term.Load().Err(), ErrLost)
		require.EqualValues(t, 2, second.term.Load().Number())

		second.stop() // leaves
		third, took := until(t, second, members...)
		require.NotSame(t, first, third)
		require.Less(t, took, 200*time.Millisecond)
		require.EqualValues(t, 3, third.term.Load().Number())

		first.cut.Store(false) // back, it only stands by
		require.Same(t, third, onlyOne(t, time.Minute, members...))
		third.stop()
		again, _ := until(t, third, members...)
		require.Same(t, first, again)
		require.EqualValues(t, 4, first.term.Load().Number())
	})
}

// A holder that is stopped, as by SIGSTOP, may not act when it goes on.
func TestAPausedHolderHasLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client, _ := redistest.InBubble(t)
		holder := New(Config{Redis: client, Keys: keyspace.New("")})
		term := &Term{candidate: holder}
		require.NoError(t, term.acquire(t.Context(), 0))
		for range 10 {
			time.Sleep(4 * time.Second)
			require.NoError(t, term.Err())
			require.NoError(t, term.acquire(t.Context(), 0))
		}
		other := &Term{candidate: New(Config{Redis: client, Keys: keyspace.New("")})}
		taken := func() bool { return other.acquire(t.Context(), 0) == nil }
		for begun := time.Now(); !taken(); time.Sleep(10 * time.Millisecond) {
			require.Less(t, time.Since(begun), Lease+time.Second)
		}
		require.ErrorIs(t, term.Err(), ErrLost)
		require.ErrorIs(t, term.acquire(t.Context(), 0), errFollows)
		require.ErrorIs(t, term.Above(t.Context(), 100), ErrLost)
		require.NoError(t, other.Err())
		require.EqualValues(t, 2, other.Number())
	})
}

// A lease that ended and is taken again by the same process is another term: what it saw before is void.
func TestALeaseThatEndedIsAnotherTerm(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client, _ := redistest.InBubble(t)
		term := &Term{candidate: New(Config{Redis: client, Keys: keyspace.New("")})}
		require.NoError(t, term.acquire(t.Context(), 0))
		time.Sleep(Lease + time.Millisecond)
		require.ErrorIs(t, term.Above(t.Context(), 5), ErrLost, "nobody is raised without the lease")
		require.ErrorIs(t, term.acquire(t.Context(), 0), errFollows)
	})
}

func TestTheTermOutlivesTheCounter(t *testing.T) {
	t.Parallel()
	client, _ := redistest.Real(t)
	term := &Term{candidate: New(Config{Redis: client, Keys: keyspace.New("")})}
	require.NoError(t, term.acquire(t.Context(), 0))
	require.NoError(t, term.Above(t.Context(), 41))
	require.EqualValues(t, 42, term.Number())
	require.NoError(t, term.Above(t.Context(), 7))
	require.EqualValues(t, 42, term.Number(), "it is above already")
	require.NoError(t, term.acquire(t.Context(), 0))
	require.EqualValues(t, 42, term.Number())
	term.candidate.resign(t.Context(), term)
	next := &Term{candidate: New(Config{Redis: client, Keys: keyspace.New("")})}
	require.NoError(t, next.acquire(t.Context(), 0))
	require.EqualValues(t, 43, next.Number())
}

func TestManyCandidatesOneLeader(t *testing.T) {
	t.Parallel()
	client, _ := redistest.Real(t)
	var leaders atomic.Int64
	var group sync.WaitGroup
	for range 32 {
		group.Go(func() {
			term := &Term{candidate: New(Config{Redis: client, Keys: keyspace.New("")})}
			if err := term.acquire(t.Context(), 0); err == nil {
				leaders.Add(1)
			} else {
				assert.ErrorIs(t, err, errFollows)
			}
		})
	}
	group.Wait()
	require.EqualValues(t, 1, leaders.Load())
}

// A Redis that stands still ends the leading in time, although every question hangs.
func TestRedisAwayEndsTheTerm(t *testing.T) {
	t.Parallel()
	client, server := redistest.Real(t)
	m := enter(t, client)
	until(t, nil, m)
	server.Pause()
	paused := time.Now()
	require.Eventually(t, func() bool { return !m.leads() }, Lease, 10*time.Millisecond)
	require.Less(t, time.Since(paused), Lease)
	server.Resume()
	require.Eventually(t, m.leads, 10*time.Second, 10*time.Millisecond)
}
