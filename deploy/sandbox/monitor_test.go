package sandbox_test

import (
	"context"
	"net/url"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/deploy/sandbox"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/apikeys"
	"github.com/forebay-queue/forebay/tasks/envelope"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

// browser is a real one, without a window, and what went wrong in it.
type browser struct {
	t   *testing.T
	ctx context.Context
	url string

	mu       sync.Mutex
	problems []string
}

// openBrowser starts Chromium. The test is skipped where it is not installed; `make test` says how to have it.
func openBrowser(t *testing.T, at string) *browser {
	t.Helper()
	var path string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		t.Skip("the test in a browser is SKIPPED: chromium is not installed")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path),
		chromedp.NoSandbox, // root has none, as in containers
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.WindowSize(1600, 1200),
		chromedp.WSURLReadTimeout(time.Minute))
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	t.Cleanup(cancel)
	ctx, cancelBrowser := chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancelBrowser)
	ctx, cancelTab := chromedp.NewContext(ctx)
	t.Cleanup(cancelTab)
	b := &browser{t: t, ctx: ctx, url: at}
	own, err := url.Parse(at)
	require.NoError(t, err)
	require.NoError(t, chromedp.Listen(ctx, func(event any) {
		switch e := event.(type) {
		case *network.EventRequestWillBeSent:
			if to, err := url.Parse(e.Request.URL); err == nil && to.Host != own.Host && to.Scheme != "data" && to.Scheme != "blob" {
				b.problem("asked " + e.Request.URL)
			}
		case *log.EventEntryAdded:
			if strings.Contains(e.Entry.Text, "Content Security Policy") {
				b.problem(e.Entry.Text)
			}
		}
	}))
	_, err = chromedp.Call(ctx, network.Enable, network.EnableParams{})
	require.NoError(t, err)
	_, err = chromedp.Call(ctx, log.Enable, struct{}{})
	require.NoError(t, err)
	return b
}

func (b *browser) problem(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.problems = append(b.problems, text)
}

func (b *browser) do(what string, steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		require.NoError(b.t, err, "%s; the page shows: %s; problems: %q", what, b.text(), b.problems)
	}
}

// text is what the page shows.
func (b *browser) text() string {
	text, _ := chromedp.Run(b.ctx, chromedp.Evaluate[string]("document.body ? document.body.innerText : ''")) // it may be between two pages
	return text
}

// shows waits until the page shows a text.
func (b *browser) shows(text string) {
	b.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !strings.Contains(b.text(), text); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			require.Fail(b.t, "the page does not show "+text, "but %s; problems: %q", b.text(), b.problems)
		}
	}
}

// press clicks what a selector finds first.
func press(selector string) chromedp.Action[chromedp.Void] {
	return chromedp.Steps(chromedp.WaitReady(chromedp.CSS(selector)), func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		_, err := chromedp.Evaluate[bool]("document.querySelector('"+selector+"').click() || true")(ctx, t)
		return chromedp.Void{}, err
	})
}

func TestMonitorInABrowser(t *testing.T) {
	t.Parallel()
	_, server := redistest.Real(t)
	options := redistest.Options(server.Addr)
	options.PoolSize = sandbox.Connections(1, 4, 1)
	client := redis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	keys := apikeys.New(client, keyspace.New(""))
	_, writes, err := keys.Create(t.Context(), apikeys.Key{Operator: true, Write: true})
	require.NoError(t, err)
	_, reads, err := keys.Create(t.Context(), apikeys.Key{Operator: true})
	require.NoError(t, err)
	s := start(t, sandbox.Config{Redis: client, Regions: quick(), Slots: 4})
	run(t, s)
	later := time.Now().Add(24 * time.Hour)
	const id = "for-the-browser"
	_, err = s.Client.Enqueue(t.Context(), tasks.Job{ID: id, TaskType: "fast_summary", Input: text, RunAt: &later, Metadata: map[string]string{"who": "a browser"}})
	require.NoError(t, err)

	b := openBrowser(t, s.HTTPURL)
	// Whoever comes without a key is asked for one, and then led on.
	logIn := func(key string) {
		b.do("log in", chromedp.Navigate(b.url+"/monitor/queues/default"), chromedp.SendKeys(chromedp.CSS("#key"), key), chromedp.Submit(chromedp.CSS("#key")))
	}
	logIn("fbk_no_key")
	b.shows("this API key is not known")
	logIn(reads)
	b.shows("default")
	scheduled := b.url + "/monitor/queues/default?status=scheduled"
	b.do("open what is scheduled", chromedp.Navigate(scheduled))
	b.shows("completion:fast_summary")
	buttons, err := chromedp.Run(b.ctx, chromedp.Evaluate[int](`document.querySelectorAll('tbody td:last-child button, tbody input').length`))
	require.NoError(t, err)
	assert.Zero(t, buttons, "who may only read is offered nothing else")
	b.do("log out", chromedp.Navigate(b.url+"/login"), chromedp.Click(chromedp.CSS(`form[action="/logout"] button`)), chromedp.WaitVisible(chromedp.CSS("#key")))

	logIn(writes)
	b.shows("default")
	b.do("open the queues", chromedp.Navigate(b.url+"/monitor/"))
	for _, queue := range []string{"default", "critical", "Tasks Processed"} {
		b.shows(queue)
	}
	b.do("open the task's page", chromedp.Navigate(b.url+"/monitor/queues/default/tasks/"+envelope.TaskID(id, 1)))
	for _, shown := range []string{`"job": "for-the-browser"`, `"tenant": "default"`, `"status": "queued"`, "Water waits in front of the turbines", `"who": "a browser"`} {
		b.shows(shown)
	}
	b.do("run it now", chromedp.Navigate(scheduled), press("tbody td:last-child button"), press(`[title="Run"]`))
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	result, err := s.Client.Wait(ctx, id)
	require.NoError(t, err)
	require.Equal(t, tasks.StatusSucceeded, result.Status, "a worker has done it, a day before its time")
	b.do("open the task's page again", chromedp.Navigate(b.url+"/monitor/queues/default/tasks/"+envelope.TaskID(id, 1)))
	for _, shown := range []string{`"status": "succeeded"`, `"text": "`, `"endpoint": "simulated-a"`} {
		b.shows(shown)
	}
	assert.Empty(t, b.problems, "nothing is fetched from elsewhere, and the page's policy forbids nothing that it needs")
}
