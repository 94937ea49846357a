package gate

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

// dollar is one US dollar in the unit of amounts.
const dollar = int64(nanosPerUSD)

// purse is a budget of its own in a Redis, with fresh state, and days of an hour, or of length, that a test can let pass.
type purse struct {
	*Budget
	store  store
	prefix string
	shift  *atomic.Int64 // by how much the days are ahead of the server's clock
	length time.Duration
	calls  int
}

// testBudget allows 10 dollars in all, 4 to one tenant and 3 for one task type.
var testBudget = catalog.Budget{
	DailyUSD: 10, Tenants: map[string]float64{"small": 4}, TaskTypes: map[string]float64{"dear": 3},
}

func newPurse(s store, settings catalog.Budget) *purse {
	prefix := fmt.Sprintf("test%d:", prefixes.Add(1))
	p := &purse{store: s, prefix: prefix, shift: &atomic.Int64{}, length: time.Hour}
	p.Budget = p.another(s.client, settings)
	// The first day has twenty minutes behind it.
	p.shift.Store(int64(20*time.Minute) - time.Now().UnixNano()%int64(time.Hour))
	if s.drift == 0 {
		p.shift.Store(int64(20 * time.Minute)) // its clock stands at a full hour
	}
	return p
}

// another is a budget on the same state, as a second process has it.
func (p *purse) another(client redis.UniversalClient, settings catalog.Budget) *Budget {
	b := NewBudget(client, keyspace.New(p.prefix), settings)
	b.day = func(at time.Time) catalog.Day {
		shift := time.Duration(p.shift.Load())
		begins := at.Add(shift).Truncate(p.length)
		return catalog.Day{Name: begins.UTC().Format("02T15:04"), Begins: begins.Add(-shift), Ends: begins.Add(p.length - shift)}
	}
	return b
}

// advance lets time pass for the days and the holds.
func (p *purse) advance(t require.TestingT, by time.Duration) {
	if p.store.drift == 0 {
		p.store.advance(t, p.prefix, by)
		return
	}
	p.shift.Add(int64(by))
	ctx, holds := context.Background(), p.keys.BudgetHolds()
	members, err := p.client.ZRange(ctx, holds, 0, -1).Result()
	require.NoError(t, err)
	for _, member := range members {
		require.NoError(t, p.client.ZIncrBy(ctx, holds, -float64(by.Milliseconds()), member).Err())
	}
}

// request asks for some dollars under a new token.
func (p *purse) request(amount int64, change ...func(*HoldRequest)) HoldRequest {
	p.calls++
	request := HoldRequest{
		Token: "call." + strconv.Itoa(p.calls), Job: "job-1", Tenant: "default", TaskType: "any", Amount: amount, Lease: 10 * time.Minute,
	}
	for _, apply := range change {
		apply(&request)
	}
	return request
}

func (p *purse) hold(t require.TestingT, request HoldRequest) *Hold {
	answer, err := p.Hold(request)
	require.NoError(t, err)
	require.NotNil(t, answer.Hold, "%+v", answer.Exhausted)
	return answer.Hold
}

func (p *purse) refused(t require.TestingT, request HoldRequest) Exhausted {
	answer, err := p.Hold(request)
	require.NoError(t, err)
	require.Nil(t, answer.Hold)
	return *answer.Exhausted
}

func (p *purse) settle(t require.TestingT, hold *Hold, nanos int64) bool {
	settled, err := p.Settle(Settlement{Hold: *hold, Call: &CallCost{
		TaskType: "any", Model: "m", Endpoint: "e", Tenant: "default", Nanos: nanos,
		Usage: tasks.Usage{PromptTokens: 3, CompletionTokens: 2},
	}})
	require.NoError(t, err)
	return settled
}

// scope is how a scope stands today.
func (p *purse) scope(t require.TestingT, scope Scope) ScopeState {
	states, err := p.Scopes(context.Background(), p.Today().Name)
	require.NoError(t, err)
	for _, state := range states {
		if state.Scope == scope {
			return state
		}
	}
	return ScopeState{}
}

// events lists those of a stream as "type scope day".
func (p *purse) events(t require.TestingT) []string {
	entries, err := p.client.XRange(context.Background(), p.keys.Events(), "-", "+").Result()
	require.NoError(t, err)
	events := make([]string, len(entries))
	for i, entry := range entries {
		events[i] = fmt.Sprint(entry.Values["type"], " ", entry.Values["scope"], " ", entry.Values["day"])
	}
	return events
}

// onBoth runs a test on the embedded and on a real Redis.
func onBoth(t *testing.T, test func(t *testing.T, p *purse)) {
	t.Parallel()
	for name, start := range redises {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPurse(start(t), testBudget)
			learn, err := p.Hold(p.request(0)) // and learn what day it is for Redis
			require.NoError(t, err)
			_, err = p.Settle(Settlement{Hold: *learn.Hold})
			require.NoError(t, err)
			test(t, p)
		})
	}
}

func TestAHoldIsTakenInAllScopesOrInNone(t *testing.T) {
	onBoth(t, func(t *testing.T, p *purse) {
		of := func(tenant, taskType string) func(*HoldRequest) {
			return func(r *HoldRequest) { r.Tenant, r.TaskType = tenant, taskType }
		}
		p.hold(t, p.request(2*dollar, of("small", "dear")))
		refused := p.refused(t, p.request(2*dollar, of("small", "dear")))
		assert.Equal(t, ScopeTaskType("dear"), refused.Scope)
		assert.Equal(t, Exhausted{
			Scope: "type:dear", Limit: 3 * dollar, Held: 2 * dollar, Amount: 2 * dollar, NextDay: refused.NextDay,
		}, refused)
		assert.True(t, refused.Passing(), "the call that is out may cost less")
		assert.InDelta(t, 40*time.Minute, refused.NextDay, float64(time.Minute))
		assert.Equal(t, 2*dollar, p.scope(t, ScopeTenant("small")).Held, "nothing is held of what is refused")

		p.hold(t, p.request(2*dollar, of("small", "any")))
		assert.Equal(t, ScopeTenant("small"), p.refused(t, p.request(1, of("small", "any"))).Scope)
		p.hold(t, p.request(6*dollar))
		assert.Equal(t, ScopeAll, p.refused(t, p.request(1)).Scope)
		p.hold(t, p.request(0))
		assert.Empty(t, p.events(t), "holds that may come back exhaust nothing")
	})
}

func TestAHoldIsSettledOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, p *purse) {
		request := p.request(5 * dollar)
		hold := p.hold(t, request)
		assert.Equal(t, hold.member(), p.hold(t, request).member(), "the same token has the same hold")
		assert.Equal(t, 5*dollar, p.scope(t, ScopeAll).Held)
		assert.WithinDuration(t, time.Now().Add(10*time.Minute), hold.Until, 3*time.Second)

		assert.True(t, p.settle(t, hold, 3*dollar))
		assert.False(t, p.settle(t, hold, 3*dollar))
		assert.Equal(t, ScopeState{Scope: ScopeAll, Limit: 10 * dollar, Limited: true, Spent: 3 * dollar}, p.scope(t, ScopeAll))

		hold = p.hold(t, p.request(dollar))
		settled, err := p.Settle(Settlement{Hold: *hold})
		require.NoError(t, err)
		assert.True(t, settled)
		costs, err := p.Costs(t.Context(), []string{p.Today().Name})
		require.NoError(t, err)
		assert.Equal(t, []Cost{{
			Day: p.Today().Name, TaskType: "any", Model: "m", Endpoint: "e", Tenant: "default", Calls: 1, Nanos: 3 * dollar,
			Usage: tasks.Usage{PromptTokens: 3, CompletionTokens: 2, TotalTokens: 5},
		}}, costs, "a hold that comes back has cost nothing")
	})
}

func TestAHoldIsRaised(t *testing.T) {
	onBoth(t, func(t *testing.T, p *purse) {
		first := p.hold(t, p.request(2*dollar))
		p.hold(t, p.request(5*dollar))
		raise := func(to int64) HoldRequest {
			return p.request(to, func(r *HoldRequest) { r.Replaces = first })
		}
		p.refused(t, raise(6*dollar))
		assert.Equal(t, 7*dollar, p.scope(t, ScopeAll).Held, "one that is refused leaves the one before")
		request := raise(5 * dollar)
		raised := p.hold(t, request)
		p.hold(t, request)
		assert.Equal(t, 10*dollar, p.scope(t, ScopeAll).Held)
		assert.False(t, p.settle(t, first, 0), "it is no more")

		p.advance(t, time.Hour)
		first = raised
		p.hold(t, raise(7*dollar))
		assert.Equal(t, 7*dollar, p.scope(t, ScopeAll).Held, "on the new day")
		assert.False(t, p.settle(t, raised, 0), "that of the day before came back")
	})
}

func TestAHoldBelongsToItsDay(t *testing.T) {
	onBoth(t, func(t *testing.T, p *purse) {
		hold := p.hold(t, p.request(9*dollar))
		refused := p.refused(t, p.request(2*dollar))
		p.advance(t, refused.NextDay+time.Second)
		p.hold(t, p.request(9*dollar))
		assert.True(t, p.settle(t, hold, 8*dollar))
		assert.Equal(t, ScopeState{Scope: ScopeAll, Limit: 10 * dollar, Limited: true, Held: 9 * dollar}, p.scope(t, ScopeAll))
		states, err := p.Scopes(t.Context(), hold.Day)
		require.NoError(t, err)
		assert.Equal(t, 8*dollar, states[0].Spent)
		assert.Zero(t, states[0].Held)
	})
}

func TestThresholdsAreToldOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, p *purse) {
		spend := func(nanos int64) { p.settle(t, p.hold(t, p.request(nanos)), nanos) }
		day := p.Today().Name
		spend(7 * dollar)
		assert.Empty(t, p.events(t))
		spend(dollar)
		spend(dollar)
		assert.Equal(t, []string{"budget.80 all " + day}, p.events(t))
		assert.False(t, p.refused(t, p.request(2*dollar)).Passing(), "this day has no more room for it")
		p.refused(t, p.request(2*dollar))
		spend(dollar)
		assert.Equal(t, []string{"budget.80 all " + day, "budget.100 all " + day}, p.events(t))
		entries, err := p.client.XRange(t.Context(), p.keys.Events(), "-", "+").Result()
		require.NoError(t, err)
		assert.Equal(t, "10", entries[0].Values["limit_usd"])
		assert.Equal(t, "8", entries[0].Values["spent_usd"])
		assert.Equal(t, "0", entries[0].Values["held_usd"])
	})
}

// Whoever was told and died before it wrote the event has not taken it away.
func TestAThresholdThatNobodyToldIsToldAgain(t *testing.T) {
	onBoth(t, func(t *testing.T, p *purse) {
		p.settle(t, p.hold(t, p.request(8*dollar)), 8*dollar)
		require.NoError(t, p.client.Del(t.Context(), p.keys.Events()).Err())
		now, err := p.client.Time(t.Context()).Result()
		require.NoError(t, err)
		claimed := now.Add(-31 * time.Second).UnixMilli()
		require.NoError(t, p.client.HSet(t.Context(), p.keys.BudgetDay(p.Today().Name), "told:80:all", claimed).Err())
		p.settle(t, p.hold(t, p.request(dollar)), 1)
		assert.Len(t, p.events(t), 1)
	})
}

// A limit that is new in mid-day counts what was spent before.
func TestANewLimitCountsTheWholeDay(t *testing.T) {
	onBoth(t, func(t *testing.T, p *purse) {
		p.settle(t, p.hold(t, p.request(3*dollar)), 3*dollar)
		settings := testBudget
		settings.Tenants = map[string]float64{"default": 4}
		p.Budget = p.another(p.client, settings)
		assert.Equal(t, Exhausted{Scope: "tenant:default", Limit: 4 * dollar, Spent: 3 * dollar, Amount: 2 * dollar},
			func() Exhausted { e := p.refused(t, p.request(2*dollar)); e.NextDay = 0; return e }())
		p.hold(t, p.request(dollar))
		assert.Equal(t, 3*dollar, p.scope(t, ScopeTenant("default")).Spent)
	})
}

func TestABudgetThatIsOffCounts(t *testing.T) {
	onBoth(t, func(t *testing.T, p *purse) {
		p.Budget = p.another(p.client, catalog.Budget{DailyUSD: catalog.Unlimited})
		p.settle(t, p.hold(t, p.request(5000*dollar)), 4000*dollar)
		p.hold(t, p.request(9000*dollar))
		assert.Equal(t, ScopeState{Scope: ScopeAll, Spent: 4000 * dollar, Held: 9000 * dollar}, p.scope(t, ScopeAll))
		assert.Empty(t, p.events(t))
		_, _, never := p.Never("small", "dear", 1e15)
		assert.False(t, never)
	})
}

func TestTheCostOfADayIsBounded(t *testing.T) {
	onBoth(t, func(t *testing.T, p *purse) {
		const tenants = mostCosts + 50
		var waiting sync.WaitGroup
		for i := range tenants {
			request := p.request(10)
			waiting.Go(func() {
				hold := p.hold(t, request)
				_, err := p.Settle(Settlement{Hold: *hold, Call: &CallCost{
					Model: "m", Endpoint: "e", Tenant: "t" + strconv.Itoa(i), Nanos: 7, MaybeBilled: i%2 == 0,
				}})
				assert.NoError(t, err)
			})
		}
		waiting.Wait()
		costs, err := p.Costs(t.Context(), []string{p.Today().Name})
		require.NoError(t, err)
		assert.LessOrEqual(t, len(costs), mostCosts+1)
		var sum Cost
		for _, cost := range costs {
			sum.Calls, sum.Nanos = sum.Calls+cost.Calls, sum.Nanos+cost.Nanos
			sum.MaybeBilled, sum.MaybeNanos = sum.MaybeBilled+cost.MaybeBilled, sum.MaybeNanos+cost.MaybeNanos
		}
		assert.Equal(t, Cost{Calls: tenants, Nanos: tenants * 7, MaybeBilled: tenants / 2, MaybeNanos: tenants / 2 * 7}, sum)
		ttl, err := p.client.PTTL(t.Context(), p.keys.BudgetCost(p.Today().Name)).Result()
		require.NoError(t, err)
		assert.InDelta(t, budgetKept, ttl, float64(time.Minute))
	})
}

func TestBadRequestsAreRefused(t *testing.T) {
	t.Parallel()
	p := newPurse(embeddedStore(t), testBudget)
	for _, request := range []HoldRequest{
		p.request(-1),
		p.request(mostNanos + 1),
		p.request(1, func(r *HoldRequest) { r.Token = "" }),
		p.request(1, func(r *HoldRequest) { r.Token = "a b" }),
		p.request(1, func(r *HoldRequest) { r.Lease = time.Millisecond }),
	} {
		_, err := p.Hold(request)
		require.Error(t, err)
	}
	for _, member := range []string{"", "a b c", "t 2026-01-01 x job all", "t 2026-01-01 1 job"} {
		_, err := parseHold(member)
		require.Error(t, err, member)
	}
}

// Sixteen workers of two processes race for the last dollar: what is held and spent never passes it, at no moment.
func TestTheLastDollarIsSpentOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, p *purse) {
		p.settle(t, p.hold(t, p.request(9*dollar)), 9*dollar)
		var racing, watching sync.WaitGroup
		stop := make(chan struct{})
		watching.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				state := p.scope(t, ScopeAll)
				assert.LessOrEqual(t, state.Spent+state.Held, 10*dollar)
			}
		})
		processes := []*Budget{p.another(p.client, testBudget), p.another(p.client, testBudget)}
		var refused, made atomic.Int64
		for w := range 16 {
			racing.Go(func() {
				b := processes[w%2]
				for i := range 40 {
					request := HoldRequest{
						Token: fmt.Sprintf("w%d.%d", w, i), Job: "job", Tenant: "default", Amount: dollar / 50, Lease: time.Minute,
					}
					first, again := b.SendHold(request), b.SendHold(request) // the command is sent twice
					answer, err := first.Wait()
					if !assert.NoError(t, err) {
						return
					}
					repeated, err := again.Wait()
					assert.NoError(t, err)
					assert.True(t, answer.Hold == nil || repeated.Hold != nil)
					if answer.Hold == nil {
						answer = repeated // room had come back meanwhile
					}
					if answer.Hold == nil {
						refused.Add(1)
						continue
					}
					made.Add(1)
					report := Settlement{Hold: *answer.Hold, Call: &CallCost{Model: "m", Endpoint: "e", Nanos: dollar / 50}}
					once, twice := b.SendSettle(report), b.SendSettle(report)
					settled, err := once.Wait()
					assert.NoError(t, err)
					resettled, err := twice.Wait()
					assert.NoError(t, err)
					assert.NotEqual(t, settled, resettled, "exactly one counts")
				}
			})
		}
		racing.Wait()
		close(stop)
		watching.Wait()
		state := p.scope(t, ScopeAll)
		assert.Equal(t, 10*dollar, state.Spent, "to the last cent")
		assert.Zero(t, state.Held)
		assert.EqualValues(t, 50, made.Load())
		assert.EqualValues(t, 16*40-50, refused.Load())
		assert.Len(t, p.events(t), 2)
	})
}
