package webhooks

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

// Whatever is done to a webhook in whatever order, also twice and by those who are late: what was delivered stays so until
// somebody has it delivered again, it stands in the one list of its state, no attempt is lost from its history, and permits
// are never more than there are.
func TestWhateverIsDoneToAWebhook(t *testing.T) {
	t.Parallel()
	client, server := redistest.Embedded(t)
	b := newBundle(t, client)
	rapid.Check(t, func(t *rapid.T) {
		server.FlushAll()
		ctx := b.t.Context()
		w := Webhook{ID: "msg_1", Event: tasks.EventTest, Tenant: "acme", At: time.Now(), To: tasks.Webhook{URL: "https://a.example/hook"}}
		require.NoError(t, b.Create(ctx, w))
		type begun struct {
			record    *Record
			admission Admission
			attempt   Attempt
		}
		var out []begun
		begins, delivered := 0, false
		ignore := func(err error, allowed ...error) {
			if err != nil && !slices.ContainsFunc(allowed, func(target error) bool { return errors.Is(err, target) }) {
				t.Fatalf("%v", err)
			}
		}
		read := func() *Record {
			record, err := b.Get(ctx, w.ID, "")
			require.NoError(t, err)
			return record
		}
		t.Repeat(map[string]func(*rapid.T){
			"create again": func(t *rapid.T) { ignore(b.Create(ctx, w)) },
			"attempt": func(t *rapid.T) {
				r := read()
				admission, err := b.Admit(ctx, r, fmt.Sprint("t", begins, len(out)), rapid.Bool().Draw(t, "ticket"), limits)
				require.NoError(t, err)
				if !admission.Granted {
					return
				}
				_, err = b.Begin(ctx, r, limits)
				ignore(err, ErrOpen, ErrEnded, ErrStale)
				if err != nil {
					require.NoError(t, b.Release(ctx, r, admission, limits))
					return
				}
				begins++
				require.Equal(t, begins, r.Attempts)
				out = append(out, begun{r, admission, Attempt{Number: r.Attempts, At: time.Now()}})
			},
			"the lease of an attempt ends": func(t *rapid.T) {
				if !read().OpenUntil.IsZero() {
					require.NoError(t, client.HSet(ctx, b.keys.Webhook(w.ID), "open_until", "1").Err())
				}
			},
			"settle": func(t *rapid.T) {
				if len(out) == 0 {
					return
				}
				i := rapid.IntRange(0, len(out)-1).Draw(t, "which")
				next := rapid.SampledFrom([]Next{
					{State: Delivered, Effect: TargetWell},
					{State: Pending, Reason: "backoff", Effect: TargetIll},
					{State: Dead, Reason: ReasonExhausted, Effect: TargetIll},
					{State: Pending, Free: true},
				}).Draw(t, "next")
				before := read().State
				state, err := b.Settle(ctx, out[i].record, out[i].admission, out[i].attempt, next, limits)
				require.NoError(t, err)
				if delivered || before == Discarded {
					require.Equal(t, before, state, "nothing undoes it")
				}
				delivered = state == Delivered
				if rapid.Bool().Draw(t, "once") { // or again, later
					out = slices.Delete(out, i, i+1)
				}
			},
			"die":     func(t *rapid.T) { ignore(b.Die(ctx, read(), ReasonExpired), ErrEnded) },
			"discard": func(t *rapid.T) { ignore(b.Discard(ctx, w.ID, "acme"), ErrEnded) },
			"redeliver": func(t *rapid.T) {
				require.NoError(t, b.Redeliver(ctx, w.ID, "acme"))
				delivered = false
			},
			"switch on": func(t *rapid.T) {
				_, err := b.SwitchOn(ctx, "acme", w.To.URL)
				ignore(err, ErrUnknownTarget)
			},
			"": func(t *rapid.T) {
				r := read()
				require.Equal(t, begins, r.Attempts)
				require.Len(t, r.History, min(begins, historyKept))
				require.GreaterOrEqual(t, r.Tries, -begins)
				if delivered {
					require.Equal(t, Delivered, r.State)
				}
				for _, list := range []string{"pending", "dead", "ended"} {
					there := client.ZScore(ctx, b.keys.Webhooks(list, "acme"), w.ID).Err() == nil
					require.Equal(t, list == r.State.list(), there, "%s in the list %s", r.State, list)
				}
				for _, target := range mustTargets(t, b) {
					require.LessOrEqual(t, target.Out, int64(limits.PerTarget))
				}
				lives := client.PTTL(ctx, b.keys.Webhook(w.ID)).Val()
				require.Equal(t, r.State.list() == "ended", lives > 0, "only what was delivered or discarded expires")
			},
		})
	})
}

func mustTargets(t *rapid.T, b bundle) []Target {
	targets, err := b.Targets(b.t.Context(), "acme")
	require.NoError(t, err)
	return targets
}
