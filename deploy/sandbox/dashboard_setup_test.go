package sandbox_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/deploy/sandbox"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/apikeys"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

// builtOnce holds what the tests of the dashboard make once: the program, and axe.
var builtOnce string

func TestMain(m *testing.M) {
	var err error
	if builtOnce, err = os.MkdirTemp("", "forebay-dashboard-test-"); err != nil {
		panic(err)
	}
	status := m.Run()
	_ = os.RemoveAll(builtOnce)
	os.Exit(status)
}

// theProgram builds forebay as users have it: what the dashboard shows of the deployment is the command line's.
var theProgram = sync.OnceValues(func() (string, error) {
	path := filepath.Join(builtOnce, "forebay")
	build := exec.Command("go", "build", "-o", path, "github.com/forebay-queue/forebay")
	output, err := build.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("build forebay: %w: %s", err, output)
	}
	return path, err
})

// dashboard is a deployment with a worker in this process and the HTTP interface in one of its own, and a browser.
type dashboard struct {
	*browser
	sandbox *sandbox.Sandbox
	redis   *redis.Client

	dir, program, redisURL, address string
	process                         *exec.Cmd
}

// openDashboard starts all of it.
func openDashboard(t *testing.T, change ...func(*sandbox.Config)) *dashboard {
	t.Helper()
	program, err := theProgram()
	require.NoError(t, err)
	_, server := redistest.Real(t)
	options := redistest.Options(server.Addr)
	options.PoolSize = sandbox.Connections(1, 4, 1)
	client := redis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	d := &dashboard{redis: client, dir: t.TempDir(), program: program, redisURL: "redis://" + server.Addr + "/0"}
	config := sandbox.Config{
		Redis: client, Regions: quick(), Slots: 4, Listen: sandbox.ListenOff, HealthInterval: -1, Recovery: 2 * time.Second,
		FilesURL: "file://" + filepath.ToSlash(filepath.Join(d.dir, "forebay-files")), InboxOff: true, BatchesOff: true,
	}
	for _, change := range change {
		change(&config)
	}
	d.sandbox = start(t, config)
	require.NoError(t, os.WriteFile(filepath.Join(d.dir, "forebay.yaml"), d.sandbox.File, 0o600))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	d.address = listener.Addr().String()
	require.NoError(t, listener.Close())
	d.serve(t)
	t.Cleanup(d.stop)
	d.browser = openBrowser(t, "http://"+d.address)
	require.NoError(t, chromedp.Listen(d.ctx, func(event any) {
		if e, thrown := event.(*runtime.EventExceptionThrown); thrown {
			text := e.ExceptionDetails.Text
			if e.ExceptionDetails.Exception != nil {
				text += " " + e.ExceptionDetails.Exception.Description
			}
			d.problem("threw " + text)
		}
	}))
	t.Cleanup(func() {
		if !t.Failed() {
			d.mu.Lock()
			defer d.mu.Unlock()
			require.Empty(t, d.problems, "no script failed, the policy forbids nothing that the pages need, and nothing is asked of others")
		}
	})
	return d
}

// serve starts the HTTP interface and waits until it answers.
func (d *dashboard) serve(t *testing.T) {
	t.Helper()
	d.process = exec.Command(d.program, "producer", "--config", "forebay.yaml", "--redis", d.redisURL, "--listen", d.address, "--ops-listen", "off", "--inbox", "off", "--log-level", "error")
	d.process.Dir = d.dir
	d.process.Stderr = os.Stderr
	require.NoError(t, d.process.Start())
	require.Eventually(t, func() bool {
		answer, err := http.Get("http://" + d.address + "/readyz")
		if err != nil {
			return false
		}
		defer answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	}, 30*time.Second, 20*time.Millisecond)
}

func (d *dashboard) stop() {
	_ = d.process.Process.Kill() // it may have ended
	_ = d.process.Wait()
}

// key makes an API key; from the first one on, everybody is asked for one.
func (d *dashboard) key(key apikeys.Key) string {
	d.t.Helper()
	_, text, err := apikeys.New(d.redis, keyspace.New("")).Create(d.t.Context(), key)
	require.NoError(d.t, err)
	return text
}

// logIn comes to a page without a session, and is led on to it.
func (d *dashboard) logIn(at, key string) {
	d.t.Helper()
	d.do("log in", chromedp.Navigate(d.url+at), chromedp.SendKeys(chromedp.CSS("#key"), key), chromedp.Submit(chromedp.CSS("#key")))
}

// visit opens a page by its address and waits for its heading.
func (d *dashboard) visit(at string) {
	d.t.Helper()
	d.do("open "+at, chromedp.Navigate(d.url+at), chromedp.WaitVisible(chromedp.CSS("main h1")))
}

// js evaluates an expression in the page.
func js[T any](d *dashboard, expression string) T {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.ctx, 30*time.Second)
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	require.NoError(d.t, err, expression)
	return value
}

// becomes waits until an expression is true in the page.
func (d *dashboard) becomes(expression string) {
	d.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !js[bool](d, "Boolean("+expression+")"); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			require.Fail(d.t, "not true on the page: "+expression, "it shows %s; problems: %q", d.text(), d.problems)
		}
	}
}

// press clicks the button or link that has a name, as whoever cannot see it would call it.
func (d *dashboard) press(name string) {
	d.t.Helper()
	quoted, err := json.Marshal(name)
	require.NoError(d.t, err)
	find := `[...(document.querySelector("dialog[open]") ?? document).querySelectorAll("button, a, summary")].find((b) => (b.getAttribute("aria-label") ?? b.textContent).trim() === ` + string(quoted) + ` && b.offsetParent !== null)`
	d.becomes(find)
	js[bool](d, "(("+find+").focus(), ("+find+").click(), true)")
}

// looks sets the size of the window and the theme of the system.
func (d *dashboard) looks(width, height int64, theme string) {
	d.t.Helper()
	_, err := chromedp.Call(d.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: theme}}})
	require.NoError(d.t, err)
	d.do("set the size", chromedp.EmulateViewport(width, height))
}

// send enqueues a job through the client, not the page.
func (d *dashboard) send(job tasks.Job) tasks.Result {
	d.t.Helper()
	receipt, err := d.sandbox.Client.Enqueue(d.t.Context(), job)
	require.NoError(d.t, err)
	return tasks.Result{ID: receipt.ID}
}

// ends waits for the end of a job.
func (d *dashboard) ends(id string, as tasks.Status) tasks.Result {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), time.Minute)
	defer cancel()
	result, err := d.sandbox.Client.Wait(ctx, id)
	require.NoError(d.t, err)
	require.Equal(d.t, as, result.Status, "%+v", result.Error)
	return result
}

// batch sends one as OpenAI's clients do, and returns its id.
func (d *dashboard) batch(requests int) string {
	d.t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	require.NoError(d.t, form.WriteField("purpose", "batch"))
	file, err := form.CreateFormFile("file", "requests.jsonl")
	require.NoError(d.t, err)
	for i := range requests {
		fmt.Fprintf(file, `{"custom_id":"r%d","method":"POST","url":"/v1/chat/completions","body":{"model":"fast_summary","messages":[{"role":"user","content":"Water waits. It waits for the gate."}]}}`+"\n", i)
	}
	require.NoError(d.t, form.Close())
	var made struct{ ID string }
	ask := func(path, kind string, body io.Reader) {
		answer, err := http.Post(d.url+path, kind, body)
		require.NoError(d.t, err)
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		require.NoError(d.t, err)
		require.Equal(d.t, http.StatusOK, answer.StatusCode, "%s", text)
		require.NoError(d.t, json.Unmarshal(text, &made))
	}
	ask("/v1/files", form.FormDataContentType(), &body)
	ask("/v1/batches", "application/json", strings.NewReader(`{"input_file_id":"`+made.ID+`","endpoint":"/v1/chat/completions","completion_window":"24h"}`))
	return made.ID
}

// outage has a simulated endpoint fail from now on, or with no kinds answer again.
func (d *dashboard) outage(region string, kinds ...string) {
	d.t.Helper()
	endpoint := d.sandbox.Simulator.Region(region)
	if len(kinds) == 0 {
		endpoint.ClearOutage()
		return
	}
	require.NoError(d.t, endpoint.SetOutage(kinds...))
}
