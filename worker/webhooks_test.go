package worker_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/envelope"
	"github.com/forebay-queue/forebay/tasks/webhooks"
)

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// hang answers only when the caller has given up.
func hang(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// drip sends its headers at once and its body forever, one byte a second.
func drip(w http.ResponseWriter, r *http.Request) {
	w.WriteHeader(http.StatusOK)
	for r.Context().Err() == nil {
		_, _ = w.Write([]byte("."))
		_ = http.NewResponseController(w).Flush()
		time.Sleep(time.Second)
	}
}

func TestAJobsWebhook(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newHookBench(t, 1)
		id := b.job(func(j *tasks.Job) {
			j.Webhook = &tasks.Webhook{URL: "http://good.example/hook", Headers: map[string]string{"X-Team": "7"}}
		})
		record, err := b.store.Get(t.Context(), id)
		require.NoError(t, err)
		task, options, err := envelope.New(b.store.Keys(), record.Job, record.Shard, 1)
		require.NoError(t, err)
		_, err = asynq.NewClientFromRedisClient(b.redis).Enqueue(task, options...)
		require.NoError(t, err)
		time.Sleep(5 * time.Second)
		seen := b.at("good.example")
		require.Len(t, seen, 1)
		require.Equal(t, "application/json", seen[0].header.Get("Content-Type"))
		require.Equal(t, "forebay/test", seen[0].header.Get("User-Agent"))
		require.Equal(t, "7", seen[0].header.Get("X-Team"))
		var body struct {
			Type      string       `json:"type"`
			Timestamp time.Time    `json:"timestamp"`
			Data      tasks.Result `json:"data"`
		}
		require.NoError(t, json.Unmarshal(seen[0].body, &body))
		require.Equal(t, "job.succeeded", body.Type)
		result := b.result(id)
		require.Equal(t, result.FinishedAt.UTC(), body.Timestamp)
		require.Equal(t, result.Text, body.Data.Text)
		require.NotEmpty(t, body.Data.Text)
		require.JSONEq(t, string(result.Response), string(body.Data.Response))
		record, err = b.store.Get(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, record.WebhookID(1), seen[0].id())
		require.Positive(t, b.redis.PTTL(t.Context(), b.store.Keys().Job(id)).Val(), "the record need not be kept for it any more")
		require.Zero(t, b.tasks())
	})
}

// Each of these is how a receiver is for 10 minutes. Nothing is lost, nothing goes out under a second id, and another
// receiver sees no delay.
func TestReceiversThatAreIll(t *testing.T) {
	t.Parallel()
	for name, ill := range map[string]struct {
		handler http.HandlerFunc
		down    bool
		word    string
	}{
		"down":     {down: true, word: "unreachable"},
		"500":      {handler: status(http.StatusInternalServerError), word: "faulty"},
		"502":      {handler: status(http.StatusBadGateway), word: "unavailable"},
		"hangs":    {handler: hang, word: "timeout"},
		"drips":    {handler: drip, word: "timeout"},
		"redirect": {handler: http.RedirectHandler("http://169.254.169.254/latest/meta-data/", http.StatusFound).ServeHTTP, word: "redirected"},
		"404":      {handler: status(http.StatusNotFound), word: "rejected"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newHookBench(t, 2)
				b.answer("ill.example", ill.handler)
				b.setDown("ill.example", ill.down)
				ids, began := b.hooksTo("ill.example", 50), time.Now()
				var good []string
				for minute := range 10 {
					asked := time.Now()
					batch := b.hooksTo("good.example", 3)
					time.Sleep(time.Until(began.Add(time.Duration(minute+1) * time.Minute)))
					for _, id := range batch {
						require.Less(t, b.webhook(id).EndedAt.Sub(asked), time.Second, "another receiver sees no delay")
					}
					good = append(good, batch...)
				}
				b.delivered("good.example", good...)
				failed := b.webhook(ids[0])
				require.Equal(t, webhooks.Pending, failed.State)
				require.Equal(t, ill.word, failed.History[0].Error)
				tries := len(b.at("ill.example"))
				b.answer("ill.example", nil)
				b.setDown("ill.example", false)
				t.Logf("all delivered %s after it was back", b.awaitAll(25*time.Minute, ids...))
				b.delivered("ill.example", ids...)
				require.Zero(t, b.tasks())
				b.mutex.Lock()
				for _, address := range b.dialled {
					require.Equal(t, publicAddress.String()+":80", address, "no redirect was followed")
				}
				b.mutex.Unlock()
				t.Logf("%d attempts in 10 minutes for 50 webhooks", tries)
			})
		})
	}
}

// 200 webhooks for a receiver that hangs stand before 20 for a good one.
func TestAHangingReceiverDelaysNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newHookBench(t, 1)
		b.answer("hangs.example", hang)
		began := time.Now()
		hanging := b.hooksTo("hangs.example", 200)
		good := b.hooksTo("good.example", 20)
		time.Sleep(5 * time.Second)
		var worst time.Duration
		for _, id := range good {
			require.Equal(t, webhooks.Delivered, b.webhook(id).State)
			worst = max(worst, b.webhook(id).EndedAt.Sub(began))
		}
		t.Logf("the last of the good ones after %s", worst)
		require.Less(t, worst, time.Second)
		require.LessOrEqual(t, len(b.at("hangs.example")), 8, "the permits of one target")
		time.Sleep(time.Minute)
		require.Less(t, len(b.at("hangs.example")), 20, "its breaker is open")
		b.answer("hangs.example", nil)
		t.Logf("all delivered %s after it was back", b.awaitAll(15*time.Minute, hanging...))
		b.delivered("hangs.example", hanging...)
	})
}

// Many webhooks for one good receiver wait for its permits, and not for the second in which they come back.
func TestABurstForOneReceiver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newHookBench(t, 2)
		var out, most atomic.Int64
		b.answer("good.example", func(http.ResponseWriter, *http.Request) {
			most.Store(max(most.Load(), out.Add(1)))
			time.Sleep(50 * time.Millisecond)
			out.Add(-1)
		})
		ids, began := b.hooksTo("good.example", 400), time.Now()
		for len(b.at("good.example")) < len(ids) && time.Since(began) < time.Minute {
			time.Sleep(100 * time.Millisecond)
		}
		t.Logf("400 webhooks of 50 ms, 8 at once, in %s", time.Since(began))
		require.Less(t, time.Since(began), 15*time.Second, "2.5 s would be the least")
		time.Sleep(time.Second)
		b.delivered("good.example", ids...)
		require.LessOrEqual(t, most.Load(), int64(8), "the permits of a target are the fleet's")
	})
}

// Nor do several that hang at once: they are given little before they have answered.
func TestSeveralHangingReceiversDelayNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newHookBench(t, 1)
		for i := range 6 {
			host := fmt.Sprintf("hangs-%d.example", i)
			b.answer(host, hang)
			b.hooksTo(host, 20)
		}
		began := time.Now()
		good := b.hooksTo("good.example", 20)
		time.Sleep(5 * time.Second)
		for _, id := range good {
			require.Equal(t, webhooks.Delivered, b.webhook(id).State)
			require.Less(t, b.webhook(id).EndedAt.Sub(began), time.Second)
		}
	})
}

func TestA410SwitchesTheURLOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newHookBench(t, 1)
		b.answer("gone.example", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/gone" {
				w.WriteHeader(http.StatusGone)
			}
		})
		create := func(id, path string) *webhooks.Record {
			require.NoError(t, b.hooks.Create(t.Context(), webhooks.Webhook{
				ID: webhooks.ID(id), Event: tasks.EventTest, Tenant: "default", At: time.Now(),
				To: tasks.Webhook{URL: "http://gone.example" + path},
			}))
			time.Sleep(3 * time.Second)
			return b.webhook(webhooks.ID(id))
		}
		first := create("1", "/gone")
		require.Equal(t, webhooks.Dead, first.State)
		require.Equal(t, webhooks.ReasonGone, first.Reason)
		second := create("2", "/gone")
		require.Equal(t, webhooks.Dead, second.State)
		require.Equal(t, webhooks.ReasonTargetOff, second.Reason)
		require.Empty(t, second.History, "without a call")
		require.Equal(t, webhooks.Delivered, create("3", "/there").State, "it is about the URL")
		require.Len(t, b.at("gone.example"), 2)

		b.answer("gone.example", nil)
		_, err := b.hooks.SwitchOn(t.Context(), "default", "http://gone.example/gone")
		require.NoError(t, err)
		require.NoError(t, b.hooks.Redeliver(t.Context(), second.ID, "default"))
		time.Sleep(3 * time.Second)
		require.Equal(t, webhooks.Delivered, b.webhook(second.ID).State)
		require.Equal(t, second.ID, b.at("gone.example")[2].id())
	})
}

// A target that names a time is left alone until then, by all of its webhooks.
func TestRetryAfterIsHonoured(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]struct {
		status int
		value  func() string
	}{
		"429, seconds": {http.StatusTooManyRequests, func() string { return "120" }},
		"503, seconds": {http.StatusServiceUnavailable, func() string { return "120" }},
		"503, date":    {http.StatusServiceUnavailable, func() string { return time.Now().Add(120 * time.Second).UTC().Format(http.TimeFormat) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newHookBench(t, 1)
				b.answer("busy.example", func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Retry-After", answer.value())
					w.WriteHeader(answer.status)
				})
				began := time.Now()
				first := b.hook("busy.example")
				time.Sleep(3 * time.Second)
				second := b.hook("busy.example")
				time.Sleep(3 * time.Second)
				require.Len(t, b.at("busy.example"), 1)
				require.Equal(t, "target_rests", b.webhook(second).Waiting)
				require.Equal(t, "retry_after", b.webhook(first).Waiting)
				b.answer("busy.example", nil)
				time.Sleep(3 * time.Minute)
				b.delivered("busy.example", first, second)
				require.GreaterOrEqual(t, b.at("busy.example")[1].at.Sub(began), 119*time.Second)
				require.LessOrEqual(t, b.at("busy.example")[1].at.Sub(began), 125*time.Second)
			})
		})
	}
}

func TestAScheduleThatIsOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newHookBench(t, 1, func(c *catalog.Catalog) {
			c.Webhooks.Schedule = []time.Duration{5 * time.Second, 20 * time.Second, time.Minute}
		})
		b.answer("no.example", status(http.StatusBadRequest))
		id := b.hook("no.example")
		time.Sleep(100 * time.Second)
		record := b.webhook(id)
		require.Equal(t, webhooks.Dead, record.State)
		require.Equal(t, webhooks.ReasonExhausted, record.Reason)
		require.Equal(t, 4, record.Attempts)
		seen := b.at("no.example")
		require.Len(t, seen, 4)
		schedule := b.catalog.Webhooks.Schedule
		for i := range schedule {
			require.Equal(t, id, seen[i+1].id(), "the same id on every attempt")
			wait := seen[i+1].at.Sub(seen[i].at)
			require.GreaterOrEqual(t, wait, schedule[i])
			require.LessOrEqual(t, wait, schedule[i]+schedule[i]/10+3*time.Second)
		}
		require.Zero(t, b.tasks())
		require.Equal(t, time.Duration(-1), b.redis.PTTL(t.Context(), b.store.Keys().Webhook(id)).Val(), "it stays")
	})
}

// A webhook that never gets its turn is not on its way forever.
func TestAWebhookThatExpires(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newHookBench(t, 1)
		b.answer("rests.example", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "60")
			w.WriteHeader(http.StatusServiceUnavailable)
		})
		id := b.hook("rests.example")
		time.Sleep(3 * time.Second)
		key, schedule := b.store.Keys().Webhook(id), 18*time.Minute+35*time.Second
		began := time.Now().Add(-schedule - schedule/10 - time.Hour).UnixMilli()
		require.NoError(t, b.redis.HSet(t.Context(), key, "since", began).Err())
		time.Sleep(65 * time.Second)
		record := b.webhook(id)
		require.Equal(t, webhooks.Dead, record.State)
		require.Equal(t, webhooks.ReasonExpired, record.Reason)
		require.Equal(t, 1, record.Attempts)
	})
}

// A name leads to a public address when it is checked, and elsewhere when it is dialled.
func TestRebindingBetweenCheckAndDial(t *testing.T) {
	t.Parallel()
	for _, inside := range []string{"127.0.0.1", "169.254.169.254", "10.0.0.1", "100.64.0.1", "::1", "64:ff9b::7f00:1", "2002:7f00:1::"} {
		t.Run(inside, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newHookBench(t, 1)
				asked := 0
				b.resolve = func(string) netip.Addr {
					if asked++; asked > 1 {
						return netip.MustParseAddr(inside)
					}
					return publicAddress
				}
				b.answer("turns.example", func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Connection", "close")
					w.WriteHeader(http.StatusInternalServerError)
				})
				require.NoError(t, b.catalog.WebhookGuard().Check("http://turns.example/hook"))
				id := b.hook("turns.example")
				time.Sleep(time.Minute)
				record := b.webhook(id)
				require.Equal(t, webhooks.Dead, record.State)
				require.Equal(t, webhooks.ReasonRefused, record.Reason)
				require.Len(t, record.History, 2)
				require.Len(t, b.at("turns.example"), 1, "what is inside was not reached")
			})
		})
	}
}

// An attempt was begun by a worker that died before it could say what came of it.
func TestAWorkerThatDiesBetweenPostAndSettle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newHookBench(t, 0)
		id := b.hook("good.example")
		record := b.webhook(id)
		_, err := b.hooks.Begin(t.Context(), record, webhooks.Limits{Lease: 20 * time.Second})
		require.NoError(t, err)
		b.start()
		time.Sleep(15 * time.Second)
		require.Empty(t, b.at("good.example"), "it may still be out")
		require.Equal(t, "attempt_open", b.webhook(id).Waiting)
		time.Sleep(10 * time.Second)
		b.delivered("good.example", id)
		require.Equal(t, webhooks.ErrorUnknown, b.webhook(id).History[0].Error)
		require.Equal(t, 2, b.webhook(id).Attempts)
	})
}

func TestTheFirstSignalFinishesAndTheSecondGivesBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newHookBench(t, 1)
		b.answer("slow.example", func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-time.After(10 * time.Second):
				w.WriteHeader(http.StatusOK)
			case <-r.Context().Done():
			}
		})
		id := b.hook("slow.example")
		time.Sleep(2 * time.Second)
		require.NoError(t, b.workers[0].Shutdown(t.Context()))
		b.delivered("slow.example", id)

		b.answer("slow.example", hang)
		id = b.hook("slow.example")
		second := b.start()
		time.Sleep(2 * time.Second)
		began := time.Now()
		time.AfterFunc(time.Second, second.Abort)
		require.NoError(t, second.Shutdown(t.Context()))
		require.Less(t, time.Since(began), 2*time.Second)
		record := b.webhook(id)
		require.Equal(t, webhooks.Pending, record.State)
		require.Equal(t, []int{1, 0}, []int{record.Attempts, record.Tries}, "it is not the receiver's fault")
		require.Equal(t, "abandoned", record.History[0].Error)
		b.answer("slow.example", nil)
		b.start()
		time.Sleep(3 * time.Second)
		require.Equal(t, webhooks.Delivered, b.webhook(id).State)
		seen := b.at("slow.example")
		require.Equal(t, seen[len(seen)-2].id(), seen[len(seen)-1].id(), "again under the same id")
	})
}

// Redis goes away while an attempt is out: what came of it is written once it is back, and nothing is sent again.
func TestRedisAwayBetweenPostAndSettle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newHookBench(t, 1)
		b.answer("slow.example", func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(2 * time.Second)
			w.WriteHeader(http.StatusOK)
		})
		id := b.hook("slow.example")
		time.Sleep(time.Second)
		b.server.SetError("LOADING Redis is loading the dataset in memory")
		time.Sleep(10 * time.Second)
		b.server.SetError("")
		time.Sleep(40 * time.Second)
		b.delivered("slow.example", id)
		require.Len(t, b.at("slow.example"), 1)
	})
}

func TestALargeResultIsLinkedTo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newHookBench(t, 0)
		b.catalog.Webhooks.InlineBytes = 300
		b.catalog.Webhooks.PublicURL = "https://forebay.example.com"
		b.start()
		id := b.job(func(j *tasks.Job) { j.Webhook = &tasks.Webhook{URL: "http://good.example/hook"} })
		require.NoError(t, b.deliverTo(b.workers[0], id))
		time.Sleep(3 * time.Second)
		seen := b.at("good.example")
		require.Len(t, seen, 1)
		var body struct {
			Data map[string]any `json:"data"`
		}
		require.NoError(t, json.Unmarshal(seen[0].body, &body))
		assert.Equal(t, true, body.Data["truncated"])
		assert.Contains(t, body.Data["result_url"], "https://forebay.example.com/v1/jobs/"+id+"/result?")
		for _, left := range []string{"text", "response", "attempts"} {
			assert.NotContains(t, body.Data, left)
		}
		assert.Equal(t, "succeeded", body.Data["status"])
	})
}

// The record of a job that is gone leaves nothing to tell; and neither does a webhook without a record.
func TestWhatAWebhookIsAboutIsGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newHookBench(t, 1)
		w := webhooks.Webhook{
			ID: webhooks.ID("gone"), Event: "job.failed", Tenant: "default", Job: "none", Run: 1, At: time.Now(),
			To: tasks.Webhook{URL: "http://good.example/"},
		}
		require.NoError(t, b.hooks.Create(t.Context(), w))
		require.NoError(t, b.hooks.Create(t.Context(), webhooks.Webhook{
			ID: webhooks.ID("batch"), Event: "batch.completed", Tenant: "default", Batch: "batch_7", At: time.Unix(1700000000, 0),
			To: tasks.Webhook{URL: "http://batch.example/"},
		}))
		time.Sleep(3 * time.Second)
		require.Equal(t, webhooks.ReasonNoContent, b.webhook(w.ID).Reason)
		require.Empty(t, b.at("good.example"))
		require.JSONEq(t, `{"id":"evt_`+webhooks.ID("batch")[4:]+`","object":"event","created_at":1700000000,"type":"batch.completed","data":{"id":"batch_7"}}`,
			string(b.at("batch.example")[0].body))

		task, options, err := envelope.NewWebhook(b.store.Keys(), "", webhooks.ID("norecord"), "job.failed", 1, time.Time{})
		require.NoError(t, err)
		_, err = asynq.NewClientFromRedisClient(b.redis).Enqueue(task, options...)
		require.NoError(t, err)
		time.Sleep(3 * time.Second)
		info, err := asynq.NewInspectorFromRedisClient(b.redis).GetQueueInfo("webhooks")
		require.NoError(t, err)
		require.Zero(t, info.Pending+info.Retry+info.Active)
	})
}
