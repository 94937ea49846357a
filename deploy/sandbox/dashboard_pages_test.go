package sandbox_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/apikeys"
	"github.com/forebay-queue/forebay/tasks/events"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

// tooDear is a job that fails at once: its worst case passes what it may cost.
func tooDear(id string) tasks.Job {
	return tasks.Job{ID: id, TaskType: "fast_summary", Input: text, MaxCostUSD: new(1e-9)}
}

func TestDashboardOverview(t *testing.T) {
	t.Parallel()
	d := openDashboard(t)
	d.visit("/")
	d.becomes(`document.querySelector("#live").textContent.includes("live")`)
	for _, shown := range []string{"simulated-a", "simulated-b", "closed", "critical", "bulk", "Spend today", "worker", "No alert is firing"} {
		d.shows(shown)
	}
	d.ends(d.send(tasks.Job{ID: "seen-live", TaskType: "fast_summary", Input: text}).ID, tasks.StatusSucceeded)
	d.becomes(`document.querySelector(".feed").textContent.includes("seen-live")`)
	d.shows("active for")

	// A queue is paused and resumed, which everybody who looks is shown.
	d.press("Pause the queue bulk")
	d.shows("the queue bulk is paused")
	d.becomes(`[...document.querySelectorAll("tr")].some((r) => /^bulk/.test(r.textContent) && r.textContent.includes("paused"))`)
	queues, err := d.sandbox.Client.Queues(t.Context())
	require.NoError(t, err)
	require.True(t, queues.Queues[2].Paused)
	d.press("Resume the queue bulk")
	d.becomes(`[...document.querySelectorAll("tr")].some((r) => /^bulk/.test(r.textContent) && r.textContent.includes("open"))`)

	d.press("Pause the task type fast_summary")
	d.becomes(`[...document.querySelectorAll("tr")].some((r) => /^fast_summary/.test(r.textContent) && r.textContent.includes("paused"))`)
	d.press("Resume the task type fast_summary")
	d.becomes(`[...document.querySelectorAll("tr")].some((r) => /^fast_summary/.test(r.textContent) && r.textContent.includes("open"))`)

	// Windows stand in the address, so that they can be sent to somebody.
	d.press("6h")
	d.becomes(`location.search === "?window=6h" && document.querySelector('[aria-pressed="true"]').textContent === "6h"`)
	d.becomes(`document.querySelectorAll(".chart canvas").length === 4`)

	// An outage is on the page without a reload.
	d.outage("simulated-a", "500")
	for i := range 4 {
		d.ends(d.send(tasks.Job{ID: fmt.Sprintf("outage-%d", i), TaskType: "fast_summary", Input: text}).ID, tasks.StatusSucceeded)
	}
	d.becomes(`[...document.querySelectorAll("tr")].some((r) => r.textContent.startsWith("simulated-a") && /open|half-open/.test(r.children[1].textContent))`)
	d.becomes(`document.querySelector(".feed").textContent.includes("breaker.opened")`)
}

func TestDashboardJobs(t *testing.T) {
	t.Parallel()
	d := openDashboard(t)
	d.visit("/jobs")
	d.shows("There is no job yet")
	d.shows("curl -fsS http://" + d.address + "/v1/jobs")
	for i := range 60 {
		d.send(tasks.Job{ID: fmt.Sprintf("listed-%02d", i), TaskType: "fast_summary", Input: text})
	}
	for i := range 60 {
		d.ends(fmt.Sprintf("listed-%02d", i), tasks.StatusSucceeded)
	}
	d.ends(d.send(tooDear("too-dear")).ID, tasks.StatusFailed)
	d.press("Reload")
	d.becomes(`document.querySelectorAll("tbody tr").length === 50`)
	d.press("Further jobs")
	d.becomes(`document.querySelectorAll("tbody tr").length === 61`)

	d.do("choose a status", chromedp.SendKeys(chromedp.CSS(`select[name="status"]`), "failed"))
	d.becomes(`location.search === "?status=failed" && document.querySelectorAll("tbody tr").length === 1`)
	d.shows("over_max_cost")
	d.visit("/jobs?text=listed-07")
	d.becomes(`document.querySelectorAll("tbody tr").length === 1 && document.querySelector("tbody a").textContent === "listed-07"`)
	d.visit("/jobs?text=nothing-is-called-so")
	d.shows("No job is meant by this filter")
	d.visit("/jobs?code=over_max_cost")
	d.press("too-dear")
	d.becomes(`location.pathname === "/jobs/too-dear"`)
	d.shows("raise max_cost_usd")
}

// A job that was tried again and told of: its story has all of it, and its texts only when they are asked for.
func TestDashboardStory(t *testing.T) {
	t.Parallel()
	told := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	t.Cleanup(told.Close)
	d := openDashboard(t)
	d.outage("simulated-a", "500")
	const secret = "The mill race is a <b>secret</b>."
	d.ends(d.send(tasks.Job{ID: "told", TaskType: "fast_summary", Input: secret + text, Webhook: &tasks.Webhook{URL: told.URL}, Metadata: map[string]string{"who": "<script>"}}).ID, tasks.StatusSucceeded)
	d.visit("/jobs/told")
	for _, shown := range []string{"succeeded", "Call 1: simulated-a", "unavailable", "HTTP 500", "simulated-b answered", "HTTP 200", "Accepted", "Succeeded", "<script>", "in the queue"} {
		d.shows(shown)
	}
	d.becomes(`document.querySelector(".story").textContent.includes("delivered") || (location.reload(), false)`)
	assert.NotContains(t, js[string](d, "document.documentElement.outerHTML"), "mill race", "what a job asks is shown to nobody who has not asked for it")
	d.press("Show the request")
	d.shows(secret)
	d.press("Hide the request")
	d.becomes(`!document.documentElement.outerHTML.includes("mill race")`)
	d.press("Show the answer")
	d.becomes(`[...document.querySelectorAll("pre.content")].some((p) => !p.hidden && p.textContent.length > 10)`)

	// Discarding asks first; Escape is no.
	d.press("Discard")
	d.becomes(`document.querySelector("dialog[open]")`)
	d.do("close the dialog", chromedp.KeyEvent(kb.Escape))
	d.becomes(`!document.querySelector("dialog") && document.activeElement.textContent === "Discard"`)
	d.press("Discard")
	d.press("Delete the record")
	d.becomes(`location.pathname === "/jobs"`)
	d.visit("/jobs/told")
	d.shows("there is no job told")

	// A failed one is run again, and followed.
	d.ends(d.send(tooDear("again")).ID, tasks.StatusFailed)
	d.visit("/jobs/again")
	d.press("Retry")
	d.shows("The job is queued again")
	require.Eventually(t, func() bool {
		result, err := d.sandbox.Client.Get(t.Context(), "again")
		return err == nil && result.Run == 2 && result.Status == tasks.StatusFailed
	}, 30*time.Second, 20*time.Millisecond)
	d.shows("2, it was opened again")

	// One that waits says for what, and is cancelled.
	later := time.Now().Add(time.Hour)
	d.send(tasks.Job{ID: "later", TaskType: "fast_summary", Input: text, RunAt: &later})
	d.visit("/jobs/later")
	d.shows("Waits for its start time")
	d.press("Cancel")
	d.press("Cancel the job")
	d.becomes(`document.querySelector("h1").textContent.includes("cancelled")`)
}

func TestDashboardFailures(t *testing.T) {
	t.Parallel()
	d := openDashboard(t)
	d.visit("/failures")
	d.shows("Nothing has failed here")
	for i := range 3 {
		d.ends(d.send(tooDear(fmt.Sprintf("dear-%d", i))).ID, tasks.StatusFailed)
	}
	d.visit("/failures")
	d.shows("over_max_cost")
	d.press("Retry all jobs that failed with over_max_cost")
	d.shows("Retry 3 jobs?")
	d.press("Retry them")
	d.shows("3 queued again")
	for i := range 3 {
		require.Eventually(t, func() bool {
			result, err := d.sandbox.Client.Get(t.Context(), fmt.Sprintf("dear-%d", i))
			return err == nil && result.Run == 2
		}, 30*time.Second, 20*time.Millisecond)
	}
}

func TestDashboardNewJob(t *testing.T) {
	t.Parallel()
	d := openDashboard(t)
	d.visit("/new")
	d.shows("detailed_analysis")
	d.do("fill in what is wrong", chromedp.SendKeys(chromedp.CSS(`[name="input"]`), text), chromedp.SetValue(chromedp.CSS(`[name="max_cost_usd"]`), "0"))
	d.press("Send the job")
	d.shows("max_cost_usd")
	d.do("fill in what is right", chromedp.SetValue(chromedp.CSS(`[name="max_cost_usd"]`), "0.5"))
	d.press("Send the job")
	d.becomes(`location.pathname.startsWith("/jobs/") && document.querySelector("h1").textContent.includes("succeeded")`)
	id := js[string](d, `location.pathname.slice("/jobs/".length)`)
	require.InDelta(t, 0.5, *must(d.sandbox.Client.Job(t.Context(), id)).MaxCostUSD, 0)
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func TestDashboardBatches(t *testing.T) {
	t.Parallel()
	d := openDashboard(t)
	d.visit("/batches")
	d.shows("There is no batch yet")
	d.batch(20)
	d.visit("/batches")
	d.becomes(`document.querySelector("tbody tr").textContent.includes("completed") && document.querySelector('[role="meter"]').getAttribute("aria-valuenow") === "100"`)
	d.press("requests.jsonl")
	d.becomes(`location.pathname.startsWith("/batches/") && document.querySelectorAll("tbody tr").length === 20`)
	d.shows("20 of 20 (100 %)")

	// One whose jobs wait can be cancelled.
	_, err := d.sandbox.Client.PauseQueue(t.Context(), "bulk", true)
	require.NoError(t, err)
	_, err = d.sandbox.Client.PauseQueue(t.Context(), "default", true)
	require.NoError(t, err)
	held := d.batch(5)
	d.visit("/batches/" + held)
	d.becomes(`document.querySelector("h1").textContent.includes("in progress")`)
	d.press("Cancel the batch requests.jsonl")
	d.press("Cancel the batch")
	d.becomes(`document.querySelector("h1").textContent.includes("cancelled")`)
}

func TestDashboardKeys(t *testing.T) {
	t.Parallel()
	d := openDashboard(t)
	reads := d.key(apikeys.Key{Operator: true})
	acme := d.key(apikeys.Key{Tenant: "acme", Write: true})
	d.ends(d.send(tasks.Job{ID: "of-acme", TaskType: "fast_summary", Input: text, Tenant: "acme"}).ID, tasks.StatusSucceeded)
	d.ends(d.send(tooDear("of-others")).ID, tasks.StatusFailed)

	d.logIn("/jobs?status=failed", reads)
	d.becomes(`location.pathname + location.search === "/jobs?status=failed"`)
	d.shows("of-others")
	d.shows("operator, read only")
	d.visit("/jobs/of-others")
	d.becomes(`[...document.querySelectorAll("main .actions button")].every((b) => b.getAttribute("aria-disabled") === "true" && b.title === "this key may only read")`)
	d.visit("/")
	d.becomes(`document.querySelectorAll("td button").length >= 4 && [...document.querySelectorAll("td button")].every((b) => b.getAttribute("aria-disabled") === "true")`)
	d.visit("/new")
	d.becomes(`document.querySelector("form.new-job .actions button").disabled`)
	d.shows("this key may only read")
	d.visit("/")
	d.press("Log out")
	d.becomes(`location.pathname === "/login"`)

	d.logIn("/", acme)
	d.shows("Tenant acme")
	d.becomes(`document.querySelector("#live").textContent.includes("live")`)
	assert.NotContains(t, d.text(), "simulated-a", "a tenant sees nothing of the deployment")
	d.ends(d.send(tasks.Job{ID: "more-of-acme", TaskType: "fast_summary", Input: text, Tenant: "acme"}).ID, tasks.StatusSucceeded)
	d.ends(d.send(tasks.Job{ID: "more-of-others", TaskType: "fast_summary", Input: text}).ID, tasks.StatusSucceeded)
	d.becomes(`document.querySelector(".feed").textContent.includes("more-of-acme")`)
	d.visit("/jobs")
	d.shows("of-acme")
	assert.NotContains(t, d.text(), "others")
	d.visit("/jobs/of-others")
	d.shows("there is no job of-others")
}

// Whoever has no mouse comes everywhere.
func TestDashboardByKeyboard(t *testing.T) {
	t.Parallel()
	d := openDashboard(t)
	d.ends(d.send(tasks.Job{ID: "by-keys", TaskType: "fast_summary", Input: text}).ID, tasks.StatusSucceeded)
	d.visit("/")
	d.do("the first key is a way to the content", chromedp.KeyEvent(kb.Tab))
	d.becomes(`document.activeElement.className === "skip" && document.activeElement.getBoundingClientRect().top >= 0`)
	d.do("take it", chromedp.KeyEvent(kb.Enter))
	d.becomes(`document.activeElement.id === "main"`)
	d.do("list the keys", chromedp.KeyEvent("?"))
	d.becomes(`document.querySelector("dialog[open] h2").textContent === "Keys"`)
	d.do("close the list", chromedp.KeyEvent(kb.Escape))
	d.becomes(`!document.querySelector("dialog")`)
	d.do("go to the jobs", chromedp.KeyEvent("g"), chromedp.KeyEvent("j"))
	d.becomes(`location.pathname === "/jobs" && document.querySelector("tbody a")`)
	d.do("go to the filter", chromedp.KeyEvent("/"))
	d.becomes(`document.activeElement.name === "status"`)
	for range 30 {
		if js[bool](d, `document.activeElement.textContent === "by-keys"`) {
			break
		}
		d.do("the next", chromedp.KeyEvent(kb.Tab))
	}
	require.Equal(t, "solid", js[string](d, `getComputedStyle(document.activeElement).outlineStyle`), "what has the focus is seen")
	d.do("open the job", chromedp.KeyEvent(kb.Enter))
	d.becomes(`location.pathname === "/jobs/by-keys"`)
	d.do("the dark theme", chromedp.KeyEvent("t"), chromedp.KeyEvent("t"))
	d.becomes(`document.documentElement.dataset.theme === "dark" && localStorage.getItem("forebay.theme") === "dark"`)
	d.visit("/jobs")
	d.becomes(`document.documentElement.dataset.theme === "dark"`)
}

// What is told while the server is away is told afterwards, and nothing twice.
// A Redis that hangs is no reason to show old figures as live ones.
func TestDashboardSaysThatRedisHangs(t *testing.T) {
	t.Parallel()
	d := openDashboard(t)
	d.visit("/")
	d.becomes(`document.querySelector("#live").textContent.endsWith("live")`)
	require.NoError(t, d.redis.ClientPause(t.Context(), 8*time.Second).Err())
	d.becomes(`document.querySelector("#live").textContent.includes("Redis does not answer")`)
	d.becomes(`document.querySelector("#live").textContent.endsWith("live")`)
}

func TestDashboardReconnects(t *testing.T) {
	t.Parallel()
	d := openDashboard(t)
	d.visit("/")
	d.becomes(`document.querySelector("#live").textContent.includes("live")`)
	tell := func(name string) {
		require.NoError(t, events.Publish(t.Context(), d.redis, keyspace.New(""), "test.told", "name", name))
	}
	tell("before")
	d.becomes(`document.querySelector(".feed").textContent.includes("name before")`)
	d.stop()
	d.becomes(`document.querySelector("#live").textContent.includes("reconnecting")`)
	tell("meanwhile")
	d.serve(t)
	d.becomes(`document.querySelector("#live").textContent.endsWith("live")`)
	tell("after")
	d.becomes(`document.querySelector(".feed").textContent.includes("name after")`)
	for _, name := range []string{"before", "meanwhile", "after"} {
		require.Equal(t, 1, js[int](d, `document.querySelector(".feed").textContent.split("name `+name+`").length - 1`), name)
	}
}
