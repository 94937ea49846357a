package gate

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
)

func (w *walk) check() {
	w.books.check()
	now := w.now()
	for scope, log := range w.logs {
		if most := scope.Limits.Concurrency; most > 0 {
			held := 0
			for _, calls := range [][]*walkCall{w.out, w.lost} {
				for _, call := range calls {
					if call.leaseEnds > now && slices.Contains(w.limited[call.Route], scope) {
						held++
					}
				}
			}
			require.LessOrEqual(w.t, held, most, "calls that are out of %s", scope)
		}
		if !log.changed {
			continue
		}
		log.changed = false
		calls, tokens := log.most()
		if most := scope.Limits.RequestsPerMinute; most > 0 {
			require.LessOrEqual(w.t, calls, most, "requests of %s in 60s", scope)
		}
		if most := scope.Limits.TokensPerMinute; most > 0 {
			require.LessOrEqual(w.t, tokens, most, "tokens of %s in 60s", scope)
		}
	}
	for endpoint, calls := range w.probes {
		calls = slices.DeleteFunc(calls, func(call *walkCall) bool { return call.probeEnds <= now })
		w.probes[endpoint] = calls
		require.LessOrEqual(w.t, len(calls), 1, "valid probe leases of %s", endpoint.Name)
	}
}

// everybodyDies leaves no permit, no lease and no hold behind, and the gate as open as it was.
func (w *walk) everybodyDies() {
	w.advance(w.t, 10*time.Minute)
	w.books.advance(10 * time.Minute)
	w.passed += 10 * time.Minute
	w.books.everybodyDies()
	now, err := w.client.Time(context.Background()).Result()
	require.NoError(w.t, err)
	for scope := range w.logs {
		held := w.client.ZCount(context.Background(), w.keys.Permits(scope.Account, scope.Endpoint, scope.Model),
			fmt.Sprintf("(%d", now.UnixMilli()), "(inf")
		require.NoError(w.t, held.Err())
		require.Zero(w.t, held.Val(), "permits of %s", scope)
	}
	for _, route := range []Route{routeA, routeB, routeOther} {
		require.Zero(w.t, w.state(w.t, route).ProbeUntil, "%s", route)
		admission := w.asks(w.t, route, Ask{Priority: tasks.PriorityBulk, Tokens: 10, MaxWait: math.MaxInt64})
		require.True(w.t, admission.Granted, "%s: %s", route, admission.Reason)
	}
}

// walkLog is what a provider has seen of a scope, in the order of the times.
type walkLog struct {
	calls   []*walkCall
	changed bool
}

func (l *walkLog) place(call *walkCall) int {
	i, _ := slices.BinarySearchFunc(l.calls, call, func(a, b *walkCall) int {
		return cmp.Or(cmp.Compare(a.was, b.was), cmp.Compare(a.Token, b.Token))
	})
	return i
}

func (l *walkLog) add(call *walkCall) {
	l.changed = true
	l.calls = slices.Insert(l.calls, l.place(call), call)
}

func (l *walkLog) remove(call *walkCall) {
	if i := l.place(call); i < len(l.calls) && l.calls[i] == call {
		l.calls = slices.Delete(l.calls, i, i+1)
	}
}

func (l *walkLog) forget(before time.Duration) {
	i := slices.IndexFunc(l.calls, func(call *walkCall) bool { return call.was >= before })
	if i > 0 {
		l.calls = slices.Delete(l.calls, 0, i)
	}
}

// most is the most calls and tokens that were surely within some 60 s: by how much the time of one is not known, all
// windows are shorter.
func (l *walkLog) most() (calls, tokens int) {
	window := time.Minute
	for _, call := range l.calls {
		window = min(window, time.Minute-(call.latest-call.earliest))
	}
	first, sum := 0, 0
	for i, call := range l.calls {
		sum += call.tokens
		for call.was-l.calls[first].was >= window {
			sum -= l.calls[first].tokens
			first++
		}
		calls, tokens = max(calls, i-first+1), max(tokens, sum)
	}
	return calls, tokens
}
