package batches

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/forebay-queue/forebay/tasks/redistest"
)

// member is what a model knows of one.
type member struct {
	state State
	run   int
}

// take is what a report makes of a member, and whether it counts.
func (m *member) take(r Report) bool {
	open := !m.state.Ended()
	switch {
	case r.Run > m.run, r.Run == m.run && open && r.State != Open, r.Run == 0 && m.run == 0 && !open && r.State == Open:
		m.state, m.run = r.State, r.Run
		return true
	}
	return false
}

// TestReportsAgreeWithAModel reports in any order, late and again, one by one and together.
func TestReportsAgreeWithAModel(t *testing.T) {
	t.Parallel()
	client, _ := redistest.Embedded(t)
	b := newBundle(t, client)
	rapid.Check(t, func(rt *rapid.T) {
		total := rapid.IntRange(1, 5).Draw(rt, "total")
		kind := rapid.SampledFrom([]Kind{KindRun, KindFile}).Draw(rt, "kind")
		id := b.begun(kind, total)
		members, cost := make([]member, total), 0
		for range rapid.IntRange(1, 30).Draw(rt, "calls") {
			var reports []Report
			for range rapid.IntRange(1, 4).Draw(rt, "together") {
				r := Report{
					Number: rapid.IntRange(0, total).Draw(rt, "number"), Run: rapid.IntRange(0, 3).Draw(rt, "run"),
					State: rapid.SampledFrom([]State{Open, Succeeded, Failed, Cancelled, Expired}).Draw(rt, "state"), CostUSD: 1,
				}
				reports = append(reports, r)
				if r.Number < total && members[r.Number].take(r) {
					cost++
				}
			}
			b.report(id, reports...)
			checkModel(t, b, id, members, cost)
		}
	})
}

func checkModel(t *testing.T, b bundle, id string, members []member, cost int) {
	t.Helper()
	var want Counts
	states, err := b.Members(t.Context(), id)
	require.NoError(t, err)
	for i, m := range members {
		require.Equal(t, m.state, states[i])
		switch m.state {
		case Succeeded:
			want.Succeeded++
		case Failed:
			want.Failed++
		case Cancelled:
			want.Cancelled++
		case Expired:
			want.Expired++
		case Unreported, Open:
		}
	}
	batch := b.get(id)
	require.Equal(t, want, batch.Counts)
	require.InDelta(t, cost, batch.CostUSD, 1e-9)
	end := StatusCompleted
	switch {
	case want.Ended() < len(members):
		end = StatusInProgress
	case batch.Kind == KindFile:
		end = StatusFinalizing
	case want.Expired > 0:
		// Or completed: it had ended before the last of its members was opened and expired within one call.
		require.Contains(t, []Status{StatusExpired, StatusCompleted}, batch.Status)
		return
	}
	require.Contains(t, []Status{end, map[bool]Status{true: StatusExpired}[end == StatusCompleted]}, batch.Status)
}
