package sandbox_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

// load is how much the dashboard has to bear, and how well. What is asked of every run is less than what is promised:
// the machines of tests are busy.
type load struct {
	jobs, perSecond int
	lasting         time.Duration
	within, task    time.Duration
	// seen is how many percent of the events must be on the page for a moment: of more than 200 in a frame the newest are.
	seen int
}

// watchLoad notes in the page when each event is first on it, and how long scripts keep it busy.
const watchLoad = `(() => {
	window.seenAt = {}; window.longest = 0; window.tasks = 0;
	new PerformanceObserver((list) => { for (const e of list.getEntries()) { window.tasks += 1; window.longest = Math.max(window.longest, e.duration); } }).observe({ type: "longtask" });
	const feed = document.querySelector(".feed");
	new MutationObserver(() => requestAnimationFrame(() => {
		const now = Date.now();
		for (const row of feed.children) { const name = row.children[3].textContent; if (name.startsWith("load-") && !(name in window.seenAt)) window.seenAt[name] = now; }
	})).observe(feed, { childList: true });
	return true;
})()`

// TestDashboardUnderLoad has jobs queued and events come, and looks at the page: events are on it soon, and no script keeps
// it from answering whoever uses it. FOREBAY_DASHBOARD_LOAD=1 asks for all that is promised: 100,000 jobs, 500 events a
// second, 1 s (p95), 200 ms.
func TestDashboardUnderLoad(t *testing.T) { //nolint:paralleltest // it measures
	asked := load{jobs: 5000, perSecond: 500, lasting: 8 * time.Second, within: 3 * time.Second, task: time.Second, seen: 75}
	if os.Getenv("FOREBAY_DASHBOARD_LOAD") != "" {
		asked = load{jobs: 100_000, perSecond: 500, lasting: 30 * time.Second, within: time.Second, task: 200 * time.Millisecond, seen: 95}
	}
	d := openDashboard(t)
	_, err := d.sandbox.Client.PauseQueue(t.Context(), "bulk", true)
	require.NoError(t, err)
	queued := 0
	for _, err := range d.sandbox.Client.EnqueueMany(t.Context(), func(yield func(tasks.Job) bool) {
		for i := range asked.jobs {
			if !yield(tasks.Job{ID: fmt.Sprintf("queued-%06d", i), TaskType: "fast_summary", Input: "Water waits.", Priority: tasks.PriorityBulk}) {
				return
			}
		}
	}) {
		require.NoError(t, err)
		queued++
	}
	require.Equal(t, asked.jobs, queued)
	d.visit("/")
	d.becomes(`document.querySelector("#live").textContent.endsWith("live")`)
	publish(t, d.redis, 0, 1)
	d.becomes(`document.querySelector(".feed li")`)
	js[bool](d, watchLoad)

	sent := make(map[string]time.Time, asked.perSecond*int(asked.lasting/time.Second))
	const every = 20 * time.Millisecond
	number, part := 1, asked.perSecond*int(every/time.Millisecond)/1000
	for begun := time.Now(); time.Since(begun) < asked.lasting; time.Sleep(every - time.Since(begun)%every) {
		now := time.Now()
		publish(t, d.redis, number, part)
		for i := range part {
			sent["load-"+strconv.Itoa(number+i)] = now
		}
		number += part
	}
	require.Eventually(t, func() bool { return js[bool](d, fmt.Sprintf(`"load-%d" in window.seenAt`, number-1)) }, 30*time.Second, 100*time.Millisecond)
	seen := js[map[string]float64](d, "window.seenAt")
	var waits []time.Duration
	for name, at := range sent {
		if ms, found := seen[name]; found {
			waits = append(waits, time.UnixMilli(int64(ms)).Sub(at))
		}
	}
	slices.Sort(waits)
	longest := time.Duration(js[float64](d, "window.longest") * float64(time.Millisecond))
	t.Logf("%d jobs queued, %d events at %d a second, %d of them on the page: p50 %s, p95 %s, longest %s; %d tasks over 50 ms, the longest %s",
		queued, len(sent), int(float64(len(sent))/asked.lasting.Seconds()), len(waits), waits[len(waits)/2].Round(time.Millisecond), waits[len(waits)*95/100].Round(time.Millisecond),
		waits[len(waits)-1].Round(time.Millisecond), js[int](d, "window.tasks"), longest.Round(time.Millisecond))
	assert.Greater(t, len(waits), len(sent)*asked.seen/100, "events that are on the page for a moment at least")
	assert.Less(t, waits[len(waits)*95/100], asked.within, "from the stream to the page")
	assert.Less(t, longest, asked.task, "the longest task of a script")

	// The list of as many jobs is drawn in parts.
	d.visit("/jobs?status=queued")
	js[bool](d, `(window.longest = 0, new PerformanceObserver((list) => { for (const e of list.getEntries()) window.longest = Math.max(window.longest, e.duration); }).observe({ type: "longtask", buffered: true }), true)`)
	d.becomes(`document.querySelectorAll("tbody tr").length === 50`)
	d.press("Further jobs")
	d.becomes(`document.querySelectorAll("tbody tr").length === 100`)
	assert.Less(t, js[float64](d, "window.longest"), float64(asked.task.Milliseconds()), "of the list")
}

// publish writes events of jobs that have ended, as workers do.
func publish(t *testing.T, client *redis.Client, from, count int) {
	t.Helper()
	_, err := client.Pipelined(context.WithoutCancel(t.Context()), func(pipe redis.Pipeliner) error {
		for i := range count {
			pipe.XAdd(t.Context(), &redis.XAddArgs{Stream: keyspace.New("").JobEvents(), MaxLen: 10_000, Approx: true, Values: []any{
				"type", "job.succeeded", "at", time.Now().UTC().Format("2006-01-02T15:04:05.000Z07:00"), "job", "load-" + strconv.Itoa(from+i), "run", "1", "tenant", "default",
				"task_type", "fast_summary", "queue", "bulk", "tier", "low", "model", "gemini-2.5-flash", "endpoint", "simulated-a", "cost_usd", "0.00012", "took_ms", "412", "attempts", "1",
			}})
		}
		return nil
	})
	require.NoError(t, err)
}
