package gate

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Who is told of 100 % leaves the first word to another who is about to tell of 80 %.
func TestThresholdsAreToldInTheirOrder(t *testing.T) {
	onBoth(t, func(t *testing.T, p *purse) {
		ctx, day := t.Context(), p.Today().Name
		now, err := p.client.Time(ctx).Result()
		require.NoError(t, err)
		require.NoError(t, p.client.HSet(ctx, p.keys.BudgetDay(day), "told:80:all", now.UnixMilli()).Err())
		hold, settled := p.hold(t, p.request(10*dollar)), make(chan error)
		go func() {
			_, err := p.Settle(Settlement{Hold: *hold, Call: &CallCost{Model: "m", Nanos: 10 * dollar}})
			settled <- err
		}()
		time.Sleep(100 * time.Millisecond)
		assert.Empty(t, p.events(t), "it is not the first that was passed")
		p.tell(ctx, day, []crossing{{percent: 80, scope: ScopeAll, spent: 8 * dollar}})
		require.NoError(t, <-settled)
		assert.Equal(t, []string{"budget.80 all " + day, "budget.100 all " + day}, p.events(t))
	})
}

func TestWhoDiedBeforeItToldIsNotWaitedForLong(t *testing.T) {
	onBoth(t, func(t *testing.T, p *purse) {
		ctx, day := t.Context(), p.Today().Name
		now, err := p.client.Time(ctx).Result()
		require.NoError(t, err)
		require.NoError(t, p.client.HSet(ctx, p.keys.BudgetDay(day), "told:80:all", now.UnixMilli()).Err())
		p.settle(t, p.hold(t, p.request(10*dollar)), 10*dollar)
		assert.Equal(t, []string{"budget.100 all " + day}, p.events(t))
	})
}
