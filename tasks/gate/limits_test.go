package gate

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
)

var (
	routeALarge = Route{Account: "acme", Endpoint: "acme-eu", Model: "large"}
	routeBLarge = Route{Account: "acme", Endpoint: "acme-us", Model: "large"}
)

// scopesOf puts one limit into each of the four scopes in turn, with the routes beside routeA that share it.
func scopesOf(l catalog.Limits) map[string]struct {
	limits  limits
	shared  []Route
	apart   []Route
	written string
} {
	return map[string]struct {
		limits  limits
		shared  []Route
		apart   []Route
		written string
	}{
		"account":           {limits{account: l}, []Route{routeALarge, routeB, routeBLarge}, []Route{routeOther}, "account acme"},
		"account and model": {limits{accountModel: l}, []Route{routeB}, []Route{routeALarge, routeBLarge, routeOther}, "account acme, model small"},
		"endpoint":          {limits{endpoint: l}, []Route{routeALarge}, []Route{routeB, routeBLarge, routeOther}, "endpoint acme-eu"},
		"endpoint and model": {
			limits{endpointModel: l}, nil, []Route{routeALarge, routeB, routeBLarge, routeOther}, "endpoint acme-eu, model small",
		},
	}
}

// Each limit in each scope: it refuses whoever shares it, and nobody else; and what it says of when to come back is so.
func TestEveryLimitInEveryScope(t *testing.T) {
	t.Parallel()
	kinds := []struct {
		reason Reason
		limit  catalog.Limits
		wait   time.Duration
	}{
		{ReasonRequests, catalog.Limits{RequestsPerMinute: 6}, time.Minute / 6},
		{ReasonTokens, catalog.Limits{TokensPerMinute: 6000}, 3200 * time.Millisecond},
		{ReasonPermits, catalog.Limits{Concurrency: 1}, 500 * time.Millisecond},
	}
	ask := Ask{Priority: tasks.PriorityBulk, Tokens: 300} // as many as may begin at once
	for name, start := range redises {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			for _, kind := range kinds {
				reason := kind.reason
				for scope, test := range scopesOf(kind.limit) {
					t.Run(fmt.Sprintf("%s/%s", reason, scope), func(t *testing.T) {
						b := newLimitedBundle(s, test.limits.catalog(testSettings))
						require.True(t, b.asks(t, routeA, ask).Granted)
						for _, route := range append(test.shared, routeA) {
							before := b.snapshot(t)
							refused := b.asks(t, route, ask)
							require.Equal(t, reason, refused.Reason, "%s", route)
							require.Equal(t, test.written, refused.Limit)
							require.LessOrEqual(t, refused.RetryIn, kind.wait+kind.wait/50)
							require.Equal(t, before, b.snapshot(t), "a refused call leaves no trace")
						}
						for _, route := range test.apart {
							require.True(t, b.asks(t, route, ask).Granted, "%s", route)
						}
					})
				}
			}
		})
	}
}

// All scopes limit at once: what one refuses takes of none.
func TestRefusedByOneScopeTakesOfNone(t *testing.T) {
	t.Parallel()
	for name, start := range redises {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			wide := catalog.Limits{RequestsPerMinute: 1000, TokensPerMinute: 1_000_000, Concurrency: 50}
			for _, narrow := range []struct {
				reason Reason
				limit  catalog.Limits
			}{
				{ReasonRequests, catalog.Limits{RequestsPerMinute: 1, TokensPerMinute: 1_000_000, Concurrency: 50}},
				{ReasonTokens, catalog.Limits{RequestsPerMinute: 1000, TokensPerMinute: 100, Concurrency: 50}},
				{ReasonPermits, catalog.Limits{RequestsPerMinute: 1000, TokensPerMinute: 1_000_000, Concurrency: 1}},
			} {
				for i := range 4 {
					scopes := []catalog.Limits{wide, wide, wide, wide}
					scopes[i] = narrow.limit
					b := newLimitedBundle(s, limits{scopes[0], scopes[1], scopes[2], scopes[3]}.catalog(testSettings))
					require.True(t, b.asks(t, routeA, Ask{Priority: tasks.PriorityBulk, Tokens: 90}).Granted)
					b.advance(t, time.Second)
					before := b.snapshot(t)
					refused := b.asks(t, routeA, Ask{Priority: tasks.PriorityBulk, Tokens: 90})
					require.Equal(t, narrow.reason, refused.Reason, "scope %d", i)
					require.Equal(t, before, b.snapshot(t), "scope %d", i)
				}
			}
		})
	}
}

// On a clock that stands still: a millisecond before its time a call is refused, and at its time it is granted.
func TestRetryInIsExactForClocks(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		limit  catalog.Limits
		tokens int
	}{
		{catalog.Limits{RequestsPerMinute: 1}, 0},
		{catalog.Limits{RequestsPerMinute: 60}, 0},
		{catalog.Limits{RequestsPerMinute: 500}, 0},
		{catalog.Limits{RequestsPerMinute: 10_000}, 0},
		{catalog.Limits{TokensPerMinute: 1000}, 77},
		{catalog.Limits{TokensPerMinute: 1000}, 1000},
		{catalog.Limits{TokensPerMinute: 100_000}, 1300},
		{catalog.Limits{TokensPerMinute: 10_000_000}, 50_000},
		{catalog.Limits{RequestsPerMinute: 61, TokensPerMinute: 70_001}, 1300},
	} {
		b := newLimitedBundle(embeddedStore(t), limits{account: test.limit}.catalog(testSettings))
		ask := Ask{Priority: tasks.PriorityBulk, Tokens: test.tokens}
		for range 20 {
			for b.asks(t, routeA, ask).Granted {
			}
			early := b.asks(t, routeA, ask).RetryIn
			require.Positive(t, early)
			b.advance(t, early-time.Millisecond)
			require.Equal(t, time.Millisecond, b.asks(t, routeA, ask).RetryIn, "%+v", test)
			b.advance(t, time.Millisecond)
			granted := b.asks(t, routeA, ask)
			require.True(t, granted.Granted, "%+v", test)
			require.Zero(t, granted.StartIn)
		}
	}
}

// A call that may wait is granted at once, to begin in its turn. The places are in the order of the asking, a slot
// apart, and end at the horizon.
func TestPlacesAheadOfTime(t *testing.T) {
	t.Parallel()
	for name, start := range redises {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			b := newLimitedBundle(s, limits{account: catalog.Limits{RequestsPerMinute: 60}}.catalog(testSettings))
			slot := time.Duration(requestClock(60).unit * 1000)
			ask := Ask{Priority: tasks.PriorityBulk, MaxWait: time.Hour}
			first := b.asks(t, routeA, ask)
			require.True(t, first.Granted)
			require.Zero(t, first.StartIn)
			asked := time.Now()
			places := []Admission{first, b.asks(t, routeA, ask), b.asks(t, routeB, ask)}
			late := time.Since(asked)
			for i, place := range places {
				require.True(t, place.Granted)
				assert.LessOrEqual(t, place.StartIn, time.Duration(i)*slot+time.Millisecond)
				if s.drift == 0 {
					assert.GreaterOrEqual(t, place.StartIn, time.Duration(i)*slot)
				} else {
					assert.GreaterOrEqual(t, place.StartIn, time.Duration(i)*slot-late-50*time.Millisecond)
				}
			}
			refused := b.asks(t, routeA, ask)
			if s.drift == 0 {
				require.Equal(t, ReasonRequests, refused.Reason, "that would be in %s, over the horizon", 3*slot)
				require.Equal(t, ReasonRequests, b.asks(t, routeA, Ask{MaxWait: time.Second, Priority: tasks.PriorityBulk}).Reason, "who may not wait so long gets no place")
				b.advance(t, refused.RetryIn-horizon-time.Millisecond)
				require.False(t, b.asks(t, routeA, ask).Granted)
				b.advance(t, time.Millisecond)
				next := b.asks(t, routeA, ask)
				require.True(t, next.Granted)
				require.Equal(t, horizon, next.StartIn)
			}
		})
	}
}

// A call of more tokens than may begin at once waits until the clock has stood still for what exceeds them.
func TestCallsLargerThanTheBurst(t *testing.T) {
	t.Parallel()
	limit := catalog.Limits{TokensPerMinute: 10_000}
	clock := tokenClock(limit.TokensPerMinute)
	b := newLimitedBundle(embeddedStore(t), limits{endpoint: limit}.catalog(testSettings))
	require.True(t, b.asks(t, routeA, Ask{Tokens: 10_000}).Granted, "nothing was called for a minute")
	refused := b.asks(t, routeA, Ask{Tokens: 600})
	expected := time.Duration((10_000+600)*clock.unit*1000 - clock.burst*1000)
	assert.InDelta(t, expected, refused.RetryIn, float64(2*time.Millisecond))
	assert.Greater(t, refused.RetryIn, time.Minute)

	refused = b.asks(t, routeA, Ask{Tokens: 10_000, MaxWait: time.Hour})
	require.Equal(t, ReasonTokens, refused.Reason, "its place is within two of its own slots, but too far ahead to wait for")
	assert.Greater(t, refused.RetryIn, 2*time.Minute-4*time.Second)
	in, err := b.Ticket(t.Context(), refused)
	require.NoError(t, err)
	assert.InDelta(t, refused.RetryIn-longestWait/2, in, float64(2*time.Millisecond), "it comes back a little before")
	b.advance(t, in)
	place := b.asks(t, routeA, Ask{Tokens: 10_000, MaxWait: time.Hour})
	require.True(t, place.Granted)
	assert.InDelta(t, longestWait/2, place.StartIn, float64(2*time.Millisecond))
}

// A call that was not made, or took fewer tokens than it asked for, gives back what nobody has built upon since.
func TestWhatWasNotUsedComesBackToTheLast(t *testing.T) {
	t.Parallel()
	for name, start := range redises {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			limit := catalog.Limits{RequestsPerMinute: 6, TokensPerMinute: 1000}
			b := newLimitedBundle(s, limits{account: limit, endpoint: limit}.catalog(testSettings))
			ask := Ask{Tokens: 50, Priority: tasks.PriorityBulk}
			first := b.asks(t, routeA, ask)
			require.False(t, b.asks(t, routeA, ask).Granted)
			b.settle(t, first.Outcome(Release))
			first = b.asks(t, routeA, ask)
			require.True(t, first.Granted, "both clocks of both scopes stand as before")

			b.advance(t, 31*time.Second)
			second := b.asks(t, routeA, Ask{Tokens: 440})
			require.True(t, second.Granted)
			outcome := second.Outcome(Success)
			outcome.Tokens = 30
			b.settle(t, outcome)
			b.settle(t, outcome) // and once only
			b.advance(t, 11*time.Second)
			third := b.asks(t, routeA, ask)
			require.True(t, third.Granted, "30 tokens are 2 s, and 440 would be 28 s")

			b.advance(t, 31*time.Second)
			require.True(t, b.asks(t, routeA, ask).Granted)
			before := b.snapshot(t)[b.keys.Limits("acme", "", "")]
			b.settle(t, third.Outcome(Release))
			require.Equal(t, before, b.snapshot(t)[b.keys.Limits("acme", "", "")], "another call has begun since, by clocks that had counted it")
		})
	}
}

// Else a minute could see more than the limit: places were given out one by one, and one that is given back must not
// let two begin where the last one does.
func TestPlaceGivenBackIsNotGivenOutTwice(t *testing.T) {
	t.Parallel()
	b := newLimitedBundle(embeddedStore(t), limits{account: catalog.Limits{RequestsPerMinute: 60}}.catalog(testSettings))
	ask := Ask{MaxWait: time.Hour}
	var places []Admission
	for range 3 {
		places = append(places, b.asks(t, routeA, ask))
	}
	b.settle(t, places[1].Outcome(Release))
	next := b.asks(t, routeA, ask)
	require.False(t, next.Granted && next.StartIn <= places[2].StartIn)
}

// What counts more than was asked for is owed, also when others have begun since.
func TestTooFewTokensAreOwed(t *testing.T) {
	t.Parallel()
	for name, start := range redises {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			b := newLimitedBundle(s, limits{account: catalog.Limits{TokensPerMinute: 60_000}}.catalog(testSettings))
			first := b.asks(t, routeA, Ask{Tokens: 10})
			b.asks(t, routeA, Ask{Tokens: 10})
			outcome := first.Outcome(Ignore)
			outcome.Tokens = 30_000
			b.settle(t, outcome)
			refused := b.asks(t, routeA, Ask{Tokens: 10})
			require.Equal(t, ReasonTokens, refused.Reason)
			require.InDelta(t, 28*time.Second, refused.RetryIn, float64(2*time.Second))
		})
	}
}

// What the provider says remains holds the clocks back, never forth, and only those of the account.
func TestWhatTheProviderSaysRemains(t *testing.T) {
	t.Parallel()
	limit := catalog.Limits{RequestsPerMinute: 1200, TokensPerMinute: 1_200_000}
	for name, start := range redises {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			for _, test := range []struct {
				name             string
				limits           limits
				requests, tokens int
				reason           Reason
				scope            string
				wait             time.Duration
			}{
				{"nothing said", limits{account: limit}, Unknown, Unknown, "", "", 0},
				{"plenty", limits{account: limit}, 500, 500_000, "", "", 0},
				{"no requests", limits{account: limit}, 0, Unknown, ReasonRequests, "account acme", 50 * time.Millisecond},
				{"no tokens", limits{account: limit}, 500, 0, ReasonTokens, "account acme", 450 * time.Millisecond},
				{"of the model", limits{account: limit, accountModel: limit, endpoint: limit}, Unknown, 0, ReasonTokens, "account acme, model small", 450 * time.Millisecond},
				{"only an endpoint's limits", limits{endpoint: limit}, 0, 0, "", "", 0},
			} {
				t.Run(test.name, func(t *testing.T) {
					b := newLimitedBundle(s, test.limits.catalog(testSettings))
					outcome := b.asks(t, routeA, Ask{Tokens: 1}).Outcome(Ignore)
					outcome.RemainingRequests, outcome.RemainingTokens = test.requests, test.tokens
					b.settle(t, outcome)
					asked := b.asks(t, routeA, Ask{Tokens: 9_000})
					if s.drift > 0 && asked.Granted {
						return // a slow machine has waited it out
					}
					require.Equal(t, test.reason, asked.Reason)
					require.Equal(t, test.scope, asked.Limit)
					require.LessOrEqual(t, asked.RetryIn, test.wait+test.wait/20+time.Millisecond)
					if s.drift == 0 {
						require.GreaterOrEqual(t, asked.RetryIn, test.wait)
					}
				})
			}
		})
	}
}

// Of several reports that travel together the last words of the provider count, not the last report's silence.
func TestSilenceDoesNotUnsayWhatRemains(t *testing.T) {
	t.Parallel()
	b := newLimitedBundle(embeddedStore(t), limits{account: catalog.Limits{RequestsPerMinute: 1200}}.catalog(testSettings))
	said, silent := b.asks(t, routeA, Ask{}).Outcome(Success), b.asks(t, routeA, Ask{}).Outcome(Success)
	said.RemainingRequests = 0
	_, err := b.settleAll(t.Context(), routeA, []Outcome{said, silent})
	require.NoError(t, err)
	require.Equal(t, ReasonRequests, b.asks(t, routeA, Ask{}).Reason)
}

// Where no clock knows a limit, the provider's word that nothing is left of it is a cooldown until it is whole again.
func TestAModelRestsWhenNothingRemainsOfALimitThatNobodyKnows(t *testing.T) {
	t.Parallel()
	const reset = time.Minute
	requests, tokens := catalog.Limits{RequestsPerMinute: 6000}, catalog.Limits{TokensPerMinute: 6_000_000}
	for name, start := range redises {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			for _, test := range []struct {
				name     string
				limits   limits
				effect   Effect
				requests int
				tokens   int
				rests    bool
			}{
				{"no limits", limits{}, Success, 0, Unknown, true},
				{"of tokens", limits{account: requests}, Success, 500, 0, true},
				{"limits of an endpoint alone", limits{endpoint: requests}, Failure, 0, Unknown, true},
				{"a clock knows it", limits{account: requests}, Success, 0, Unknown, false},
				{"a clock of the model knows it", limits{accountModel: tokens}, Success, 500, 0, false},
				{"something is left", limits{}, Success, 1, 1, false},
				{"nothing is said", limits{}, Success, Unknown, Unknown, false},
			} {
				b := newLimitedBundle(s, test.limits.catalog(testSettings))
				outcome := b.admit(t, routeA).Outcome(test.effect)
				outcome.RemainingRequests, outcome.RemainingTokens = test.requests, test.tokens
				outcome.RequestsReset, outcome.TokensReset = reset, reset
				b.settle(t, outcome)
				asked := b.ask(t, routeB)
				require.Equal(t, test.rests, asked.Reason == ReasonCooldown, "%s: %+v", test.name, asked)
				if test.rests {
					require.InDelta(t, reset, asked.RetryIn, float64(10*time.Second), test.name)
					require.True(t, b.ask(t, routeALike).Granted, "another model does not rest")
				}
			}
			b := newLimitedBundle(s, limits{}.catalog(testSettings))
			outcome := b.admit(t, routeA).Outcome(Throttle)
			outcome.RemainingRequests, outcome.RequestsReset, outcome.For = 0, time.Hour, reset
			b.settle(t, outcome)
			require.LessOrEqual(t, b.ask(t, routeA).RetryIn, reset, "a Throttle says for how long")
		})
	}
}

func TestScopesAreNamedAndKeyed(t *testing.T) {
	t.Parallel()
	one := catalog.Limits{RequestsPerMinute: 6, TokensPerMinute: 1000, Concurrency: 3}
	b := newLimitedBundle(embeddedStore(t), limits{one, one, one, one}.catalog(testSettings))
	b.asks(t, routeA, Ask{Tokens: 10})
	var keys []string
	for key := range b.snapshot(t) {
		keys = append(keys, strings.TrimPrefix(key, b.prefix))
	}
	slices.Sort(keys)
	require.Equal(t, []string{
		"{acct:acme}:ep:acme-eu:limits", "{acct:acme}:ep:acme-eu:limits:small",
		"{acct:acme}:ep:acme-eu:permits", "{acct:acme}:ep:acme-eu:permits:small",
		"{acct:acme}:limits", "{acct:acme}:limits:small", "{acct:acme}:permits", "{acct:acme}:permits:small",
	}, keys)
}
