package webhooks

import (
	"crypto/sha256"
	"strconv"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/envelope"
	"github.com/forebay-queue/forebay/tasks/redistest"
	"github.com/forebay-queue/forebay/tasks/seal"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// limits are those of the tests: one permit fewer of the tenant than of two targets.
var limits = Limits{
	PerTarget: 2, PerTenant: 3, Lease: 20 * time.Second, Threshold: 3, OpenFor: 30 * time.Second, OpenMost: 2 * time.Minute,
}

// bundle is a store, and the test it is for.
type bundle struct {
	*Store
	t      *testing.T
	client redis.UniversalClient
}

func newBundle(t *testing.T, client redis.UniversalClient, keys ...seal.Key) bundle {
	t.Helper()
	var sealer *seal.Sealer
	if len(keys) > 0 {
		var err error
		sealer, err = seal.New(keys...)
		require.NoError(t, err)
	}
	store, err := New(Config{Redis: client, Sealer: sealer})
	require.NoError(t, err)
	return bundle{Store: store, t: t, client: client}
}

// everywhere runs a test on the embedded Redis, a real one, a cluster, and sealed.
func everywhere(t *testing.T, test func(b bundle)) {
	t.Helper()
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		client, _ := redistest.Embedded(t)
		test(newBundle(t, client))
	})
	t.Run("real", func(t *testing.T) {
		t.Parallel()
		client, _ := redistest.Real(t)
		test(newBundle(t, client))
	})
	t.Run("sealed", func(t *testing.T) {
		t.Parallel()
		client, _ := redistest.Embedded(t)
		test(newBundle(t, client, testKey("k1")))
	})
	t.Run("cluster", func(t *testing.T) {
		t.Parallel()
		client, _ := redistest.Cluster(t)
		test(newBundle(t, client))
	})
}

func testKey(id string) seal.Key {
	secret := sha256.Sum256([]byte(id))
	return seal.Key{ID: id, Secret: secret[:]}
}

// made is a webhook of a job that was just created.
func (b bundle) made(job, address string) *Record {
	b.t.Helper()
	w := Webhook{
		ID: ID("job", job, "1", address), Event: "job.succeeded", Tenant: "acme", Job: job, Run: 1, At: time.Now(), Keep: time.Hour,
		To: tasks.Webhook{URL: address, Secret: "main", Headers: map[string]string{"x-team": "7"}},
	}
	require.NoError(b.t, b.Create(b.t.Context(), w))
	return b.get(w.ID)
}

func (b bundle) get(id string) *Record {
	b.t.Helper()
	record, err := b.Get(b.t.Context(), id, "")
	require.NoError(b.t, err)
	return record
}

// task is the task of a webhook's cycle; nil when there is none.
func (b bundle) task(r *Record) *asynq.TaskInfo {
	b.t.Helper()
	info, err := asynq.NewInspectorFromRedisClient(b.client).GetTaskInfo("webhooks", envelope.TaskID(r.ID, r.Cycle))
	if err != nil {
		return nil
	}
	return info
}

func (b bundle) ids(filter Filter) []string {
	b.t.Helper()
	page, err := b.List(b.t.Context(), filter)
	require.NoError(b.t, err)
	var ids []string
	for _, r := range page.Webhooks {
		ids = append(ids, r.ID)
	}
	return ids
}

// events are the kinds of all that were written.
func (b bundle) events() []string {
	b.t.Helper()
	entries, err := b.client.XRange(b.t.Context(), b.keys.Events(), "-", "+").Result()
	require.NoError(b.t, err)
	var kinds []string
	for _, entry := range entries {
		kinds = append(kinds, entry.Values["type"].(string)) //nolint:forcetypeassert // it is a text
	}
	return kinds
}

// attempt makes an attempt that ends as it is told.
func (b bundle) attempt(r *Record, status int, next Next) State {
	b.t.Helper()
	token := r.ID + "/" + strconv.Itoa(r.Attempts+1)
	admission, err := b.Admit(b.t.Context(), r, token, true, limits)
	require.NoError(b.t, err)
	require.True(b.t, admission.Granted, "%+v", admission)
	_, err = b.Begin(b.t.Context(), r, limits)
	require.NoError(b.t, err)
	a := Attempt{Number: r.Attempts, At: time.Now(), Status: status, Latency: 40 * time.Millisecond, Answer: "…"}
	state, err := b.Settle(b.t.Context(), r, admission, a, next, limits)
	require.NoError(b.t, err)
	return state
}

func TestCreateIsRepeatable(t *testing.T) {
	t.Parallel()
	everywhere(t, func(b bundle) {
		record := b.made("j1", "https://a.example/hook")
		require.Equal(b.t, Pending, record.State)
		require.Equal(b.t, 1, record.Cycle)
		require.Equal(b.t, map[string]string{"x-team": "7"}, record.To.Headers)
		info := b.task(record)
		require.NotNil(b.t, info)
		require.Equal(b.t, "webhook:job.succeeded", info.Type)
		require.Equal(b.t, record.ID, string(info.Payload))
		require.NoError(b.t, b.Create(b.t.Context(), record.Webhook))
		require.Equal(b.t, record, b.get(record.ID), "what is known is left as it is")
		require.Equal(b.t, []string{record.ID}, b.ids(Filter{State: Pending}))

		inspector := asynq.NewInspectorFromRedisClient(b.client)
		require.NoError(b.t, inspector.DeleteTask("webhooks", record.ID))
		require.NoError(b.t, b.Create(b.t.Context(), record.Webhook))
		require.NotNil(b.t, b.task(record), "a pending one gets its task again")

		other := record.Webhook
		other.Tenant = "umbrella"
		require.ErrorContains(b.t, b.Create(b.t.Context(), other), "another tenant")
		_, err := b.Get(b.t.Context(), record.ID, "umbrella")
		require.ErrorIs(b.t, err, ErrNotFound)
		_, err = b.Get(b.t.Context(), "msg_none", "")
		require.ErrorIs(b.t, err, ErrNotFound)
	})
}

func TestDeliveredOnceAndForAll(t *testing.T) {
	t.Parallel()
	everywhere(t, func(b bundle) {
		ctx := b.t.Context()
		record := b.made("j1", "https://a.example/hook")
		require.Equal(b.t, Pending, b.attempt(record, 500, Next{State: Pending, Reason: "backoff", Wait: time.Minute, Effect: TargetIll}))
		record = b.get(record.ID)
		require.Equal(b.t, "backoff", record.Waiting)
		require.WithinDuration(b.t, time.Now().Add(time.Minute), record.NextAt, 5*time.Second)
		require.Equal(b.t, Delivered, b.attempt(record, 204, Next{State: Delivered, Effect: TargetWell}))
		require.NoError(b.t, b.Create(ctx, record.Webhook), "the hand-over may be repeated")
		record = b.get(record.ID)
		require.Equal(b.t, Delivered, record.State)
		require.Equal(b.t, []int{500, 204}, []int{record.History[0].Status, record.History[1].Status})
		require.False(b.t, record.EndedAt.IsZero())
		require.Empty(b.t, b.ids(Filter{State: Pending}))
		require.Equal(b.t, []string{record.ID}, b.ids(Filter{State: Delivered, Tenant: "acme"}))
		require.Positive(b.t, b.client.PTTL(ctx, b.keys.Webhook(record.ID)).Val(), "its record expires")
		_, err := b.Begin(ctx, record, limits)
		require.ErrorIs(b.t, err, ErrEnded)
		require.ErrorIs(b.t, b.Die(ctx, record, ReasonExpired), ErrEnded)
		require.ErrorIs(b.t, b.Discard(ctx, record.ID, ""), ErrEnded)

		targets, err := b.Targets(ctx, "acme")
		require.NoError(b.t, err)
		require.Len(b.t, targets, 1)
		require.Equal(b.t, "https://a.example:443", targets[0].Origin)
		require.Equal(b.t, []int64{1, 1, 0}, []int64{targets[0].Delivered, targets[0].Failed, targets[0].Out})
		require.Equal(b.t, 40*time.Millisecond, targets[0].Latency)
		require.Len(b.t, targets[0].Recent, 2)
		require.Equal(b.t, 204, targets[0].Recent[0].Status)
	})
}

func TestAnAttemptWithoutAnEndMayHaveArrived(t *testing.T) {
	t.Parallel()
	everywhere(t, func(b bundle) {
		ctx := b.t.Context()
		short := limits
		short.Lease = 50 * time.Millisecond
		record := b.made("j1", "https://a.example/hook")
		_, err := b.Begin(ctx, record, limits)
		require.NoError(b.t, err)
		wait, err := b.Begin(ctx, record, limits)
		require.ErrorIs(b.t, err, ErrOpen, "while it is out there is no other one")
		require.Positive(b.t, wait)
		require.LessOrEqual(b.t, wait, limits.Lease)
		require.Equal(b.t, ErrorOpen, b.get(record.ID).History[0].Error)

		require.NoError(b.t, b.client.HSet(ctx, b.keys.Webhook(record.ID), "open_until", "1").Err())
		_, err = b.Begin(ctx, record, short)
		require.NoError(b.t, err)
		require.Equal(b.t, []int{2, 2}, []int{record.Attempts, record.Tries})
		require.Equal(b.t, ErrorUnknown, b.get(record.ID).History[0].Error)

		late := Attempt{Number: 1, At: time.Now(), Status: 500}
		state, err := b.Settle(ctx, record, Admission{token: "x", generation: "0"}, late, Next{State: Dead, Reason: ReasonExhausted}, limits)
		require.NoError(b.t, err)
		require.Equal(b.t, Pending, state, "a late failure decides nothing")
		require.Equal(b.t, 500, b.get(record.ID).History[0].Status, "but is known")
		late.Status = 200
		state, err = b.Settle(ctx, record, Admission{token: "x", generation: "0"}, late, Next{State: Delivered}, limits)
		require.NoError(b.t, err)
		require.Equal(b.t, Delivered, state, "what was delivered was delivered")
	})
}

func TestDeadStaysUntilSomebodyDecides(t *testing.T) {
	t.Parallel()
	everywhere(t, func(b bundle) {
		ctx := b.t.Context()
		record := b.made("j1", "https://a.example/hook")
		require.Equal(b.t, Dead, b.attempt(record, 500, Next{State: Dead, Reason: ReasonExhausted, Effect: TargetIll}))
		record = b.get(record.ID)
		require.Equal(b.t, ReasonExhausted, record.Reason)
		require.Equal(b.t, time.Duration(-1), b.client.PTTL(ctx, b.keys.Webhook(record.ID)).Val())
		count, oldest, err := b.Count(ctx, Dead, "acme")
		require.NoError(b.t, err)
		require.EqualValues(b.t, 1, count)
		require.Equal(b.t, record.At, oldest)
		require.Contains(b.t, b.events(), "webhook.dead")

		require.ErrorIs(b.t, b.Redeliver(ctx, record.ID, "umbrella"), ErrNotFound)
		require.NoError(b.t, b.Redeliver(ctx, record.ID, "acme"))
		stale := *record
		record = b.get(record.ID)
		require.Equal(b.t, Pending, record.State)
		require.Equal(b.t, []int{2, 0, 1}, []int{record.Cycle, record.Tries, record.Attempts})
		require.NotNil(b.t, b.task(record), "it has a task of its own")
		require.Equal(b.t, record.ID+".2", b.task(record).ID)
		require.Empty(b.t, b.ids(Filter{State: Dead}))
		_, err = b.Begin(ctx, &stale, limits)
		require.ErrorIs(b.t, err, ErrStale, "the task of the cycle before makes no attempt")
		require.ErrorIs(b.t, b.Die(ctx, &stale, ReasonExpired), ErrStale)

		require.NoError(b.t, b.Discard(ctx, record.ID, "acme"))
		require.Equal(b.t, Discarded, b.get(record.ID).State)
		require.Positive(b.t, b.client.PTTL(ctx, b.keys.Webhook(record.ID)).Val())
		require.Empty(b.t, b.ids(Filter{State: Delivered}), "it stands in the same list, and is another state")
		require.Equal(b.t, []string{record.ID}, b.ids(Filter{State: Discarded}))

		require.NoError(b.t, b.client.Del(ctx, b.keys.Webhook(record.ID)).Err())
		require.NoError(b.t, b.client.ZAdd(ctx, b.keys.WebhooksExpiring(), redis.Z{Score: 1, Member: "acme/" + record.ID}).Err())
		swept, err := b.Sweep(ctx, 100)
		require.NoError(b.t, err)
		require.Equal(b.t, 1, swept)
		for _, list := range []string{"", "pending", "dead", "ended"} {
			require.Zero(b.t, b.client.ZCard(ctx, b.keys.Webhooks(list, "acme")).Val())
			require.Zero(b.t, b.client.ZCard(ctx, b.keys.Webhooks(list, "")).Val())
		}
	})
}

func TestPermitsOfTargetAndTenant(t *testing.T) {
	t.Parallel()
	everywhere(t, func(b bundle) {
		ctx := b.t.Context()
		admit := func(r *Record, token string) Admission {
			admission, err := b.Admit(ctx, r, token, true, limits)
			require.NoError(b.t, err)
			return admission
		}
		// One that has not answered yet may be one that hangs: it has a quarter, of 2 at least 1.
		fresh := b.made("j0", "https://a.example/0")
		probing := admit(fresh, "0")
		require.True(b.t, probing.Granted)
		require.Equal(b.t, "target_busy", admit(fresh, "1").Reason)
		require.NoError(b.t, b.Release(ctx, fresh, probing, limits))
		require.NoError(b.t, b.client.HDel(ctx, b.keys.WebhookTarget("acme", digest("https://a.example:443")), "ticket_until_ms").Err())
		b.attempt(fresh, 200, Next{State: Delivered, Effect: TargetWell})
		b.attempt(b.made("j00", "https://b.example/0"), 200, Next{State: Delivered, Effect: TargetWell})

		one, two := b.made("j1", "https://a.example/1"), b.made("j2", "https://b.example/2")
		first := admit(one, "a")
		require.True(b.t, first.Granted)
		require.True(b.t, admit(one, "a").Granted, "one token is one permit")
		require.True(b.t, admit(one, "b").Granted)
		refused := admit(one, "c")
		require.Equal(b.t, "target_busy", refused.Reason)
		again := admit(one, "d")
		require.Greater(b.t, again.Wait, refused.Wait, "they come back one after the other")
		require.True(b.t, admit(two, "e").Granted, "another target has its own")
		require.Equal(b.t, "tenant_busy", admit(two, "f").Reason)
		require.NoError(b.t, b.Release(ctx, one, first, limits))
		require.True(b.t, admit(one, "c").Granted)
		require.Positive(b.t, b.client.PTTL(ctx, b.keys.WebhookPermits("acme")).Val(), "permits expire")
	})
}

func TestBreakerOfATarget(t *testing.T) {
	t.Parallel()
	everywhere(t, func(b bundle) {
		ctx := b.t.Context()
		target := b.keys.WebhookTarget("acme", digest("https://a.example:443"))
		ill := Next{State: Pending, Reason: "backoff", Effect: TargetIll}
		for i := range 3 {
			b.attempt(b.made("j"+strconv.Itoa(i), "https://a.example/hook"), 500, ill)
		}
		record := b.made("j9", "https://a.example/other")
		refused, err := b.Admit(ctx, record, "t1", true, limits)
		require.NoError(b.t, err)
		require.Equal(b.t, "breaker_open", refused.Reason)
		require.InDelta(b.t, 30, refused.Wait.Seconds(), 5)
		require.True(b.t, b.first("https://a.example:443").Open)
		require.True(b.t, b.admits(b.made("jb", "https://b.example/hook")), "another target is not concerned")

		require.NoError(b.t, b.client.HSet(ctx, target, "until_ms", "1", "ticket_until_ms", "0").Err())
		probe, err := b.Admit(ctx, record, "t1", true, limits)
		require.NoError(b.t, err)
		require.True(b.t, probe.Granted)
		require.True(b.t, probe.Probe)
		refused, err = b.Admit(ctx, record, "t2", true, limits)
		require.NoError(b.t, err)
		require.Equal(b.t, "probe_out", refused.Reason, "there is only one")
		_, err = b.Begin(ctx, record, limits)
		require.NoError(b.t, err)
		_, err = b.Settle(ctx, record, probe, Attempt{Number: 1, At: time.Now()}, ill, limits)
		require.NoError(b.t, err)
		require.InDelta(b.t, 60, time.Until(b.first("https://a.example:443").Until).Seconds(), 5, "twice as long")

		require.NoError(b.t, b.client.HSet(ctx, target, "until_ms", "1").Err())
		b.attempt(record, 200, Next{State: Delivered, Effect: TargetWell})
		require.False(b.t, b.first("https://a.example:443").Open)
		require.Equal(b.t, []string{"target.opened", "target.opened", "target.closed"}, b.events())
	})
}

// first is the target of an origin.
func (b bundle) first(origin string) Target {
	b.t.Helper()
	targets, err := b.Targets(b.t.Context(), "acme")
	require.NoError(b.t, err)
	for _, target := range targets {
		if target.Origin == origin {
			return target
		}
	}
	b.t.Fatalf("no target %s in %+v", origin, targets)
	return Target{}
}

func (b bundle) admits(r *Record) bool {
	b.t.Helper()
	admission, err := b.Admit(b.t.Context(), r, r.ID, true, limits)
	require.NoError(b.t, err)
	return admission.Granted
}

func TestAURLIsOffAndATargetRests(t *testing.T) {
	t.Parallel()
	everywhere(t, func(b bundle) {
		ctx := b.t.Context()
		record := b.made("j1", "https://a.example/gone?key=secret")
		require.Equal(b.t, Dead, b.attempt(record, 410, Next{State: Dead, Reason: ReasonGone, Off: true}))
		same := b.made("j2", "https://a.example/gone?key=secret")
		admission, err := b.Admit(ctx, same, "t", true, limits)
		require.NoError(b.t, err)
		require.True(b.t, admission.Off)
		require.True(b.t, b.admits(b.made("j3", "https://a.example/there")), "the target's other URLs are not")
		require.Equal(b.t, 1, b.first("https://a.example:443").Off)
		require.Contains(b.t, b.events(), "target.off")
		was, err := b.SwitchOn(ctx, "acme", "https://a.example/gone?key=secret")
		require.NoError(b.t, err)
		require.True(b.t, was)
		was, err = b.SwitchOn(ctx, "acme", "https://a.example/gone?key=secret")
		require.NoError(b.t, err, "once more")
		require.False(b.t, was)
		require.Equal(b.t, 0, b.first("https://a.example:443").Off)
		require.NoError(b.t, b.client.Del(ctx, b.keys.WebhookTargetPermits("acme", digest("https://a.example:443"))).Err())
		require.True(b.t, b.admits(same))
		_, err = b.SwitchOn(ctx, "acme", "https://never.example/")
		require.ErrorIs(b.t, err, ErrUnknownTarget)

		busy := b.made("j4", "https://c.example/hook")
		b.Store.redis.Del(ctx, b.keys.WebhookPermits("acme"))
		b.attempt(busy, 429, Next{State: Pending, Reason: "retry_after", Wait: time.Hour, Rest: time.Hour})
		admission, err = b.Admit(ctx, b.made("j5", "https://c.example/other"), "t5", true, limits)
		require.NoError(b.t, err)
		require.Equal(b.t, "target_rests", admission.Reason)
		require.InDelta(b.t, 3600, admission.Wait.Seconds(), 5)
		require.False(b.t, b.first("https://c.example:443").RestsUntil.IsZero())
	})
}

func TestListGoesOnWhereItEnded(t *testing.T) {
	t.Parallel()
	everywhere(t, func(b bundle) {
		at := time.Now().Add(-time.Hour)
		want := map[string]bool{}
		for i := range 7 {
			w := Webhook{
				ID: ID("list", strconv.Itoa(i)), Event: "job.failed", Tenant: []string{"acme", "umbrella"}[i%2], Job: "j" + strconv.Itoa(i),
				At: at.Add(time.Duration(i/4) * time.Second), To: tasks.Webhook{URL: "https://a.example/hook"},
			}
			require.NoError(b.t, b.Create(b.t.Context(), w))
			want[w.ID] = true
		}
		seen, after := map[string]bool{}, ""
		for {
			page, err := b.List(b.t.Context(), Filter{Limit: 2, After: after})
			require.NoError(b.t, err)
			for _, r := range page.Webhooks {
				require.False(b.t, seen[r.ID], "each stands on one page")
				seen[r.ID] = true
			}
			if after = page.Next; after == "" {
				break
			}
		}
		require.Equal(b.t, want, seen)
		require.Len(b.t, b.ids(Filter{Tenant: "umbrella"}), 3)
		require.Len(b.t, b.ids(Filter{Job: "j4"}), 1)
		require.Len(b.t, b.ids(Filter{Target: "a.example"}), 7)
		require.Empty(b.t, b.ids(Filter{Target: "b.example"}))
		require.Len(b.t, b.ids(Filter{Before: at.Add(time.Second)}), 4)
		_, err := b.List(b.t.Context(), Filter{After: "nonsense"})
		require.ErrorIs(b.t, err, ErrCursor)
	})
}
