package main_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/deploy/config"
	"github.com/forebay-queue/forebay/deploy/simulator"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/fleet"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

// running is a worker, a producer and a scheduler of the built program, whose configuration is changed while they run.
type running struct {
	*deployment
	processes []*process
	http      string
	// base is the configuration as it was at first.
	base string
}

var listensAt = regexp.MustCompile(`"address":"([^"]+)"`)

func runAll(t *testing.T, s site) *running {
	t.Helper()
	r := &running{deployment: deploy(t, s)}
	text, err := os.ReadFile(r.path())
	require.NoError(t, err)
	r.base = string(text)
	for _, args := range [][]string{{"worker"}, {"producer", "--listen", "127.0.0.1:0"}, {"scheduler"}} {
		p, err := r.launch(append(args, "--log-format", "json")...)
		require.NoError(t, err)
		t.Cleanup(func() {
			p.kill()
			if t.Failed() {
				t.Logf("log of the %s:\n%s", args[0], lastLines(p.log.text(), 20))
			}
		})
		r.processes = append(r.processes, p)
	}
	r.eventually("the producer listens", func() bool {
		found := listensAt.FindStringSubmatch(r.processes[1].log.text())
		if found == nil {
			return false
		}
		r.http = "http://" + found[1]
		return true
	})
	r.holds("all processes are in the fleet", r.base)
	return r
}

func (r *running) path() string { return filepath.Join(r.dir, "forebay.yaml") }

// write puts another configuration in the place of the one that is there, in one step.
func (r *running) write(text string) {
	r.t.Helper()
	require.NoError(r.t, os.WriteFile(r.path()+".new", []byte(text), 0o600))
	require.NoError(r.t, os.Rename(r.path()+".new", r.path()))
}

// with is the configuration of the beginning with words replaced, and text behind it.
func (r *running) with(more string, replace ...string) string {
	return strings.NewReplacer(replace...).Replace(r.base) + more
}

func (r *running) fleet() []fleet.Process {
	r.t.Helper()
	processes, err := fleet.Read(r.t.Context(), r.redis, keyspace.New(""))
	require.NoError(r.t, err)
	return processes
}

// holds waits until every process works by a configuration, and refuses none.
func (r *running) holds(what, text string) {
	r.t.Helper()
	file, err := config.Parse("forebay.yaml", []byte(text))
	require.NoError(r.t, err)
	r.everywhere(what, func(c *fleet.Config) bool { return c != nil && c.Version == file.Version() && c.Refused == nil })
}

// everywhere waits until something is so of each of the processes.
func (r *running) everywhere(what string, so func(*fleet.Config) bool) {
	r.t.Helper()
	r.eventually(what, func() bool {
		processes := r.fleet()
		for _, p := range processes {
			if !so(p.Config) {
				return false
			}
		}
		return len(processes) == len(r.processes)
	})
}

// change writes a configuration and waits until it holds.
func (r *running) change(text string) {
	r.t.Helper()
	r.write(text)
	r.holds("the change is taken up", text)
}

// post sends a job over HTTP, and returns the status of the answer.
func (r *running) post(job string) int {
	r.t.Helper()
	request, err := http.NewRequestWithContext(r.t.Context(), http.MethodPost, r.http+"/v1/jobs", strings.NewReader(job))
	require.NoError(r.t, err)
	request.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(request)
	require.NoError(r.t, err)
	defer answer.Body.Close()
	return answer.StatusCode
}

// run enqueues a job and waits for its end.
func (r *running) run(id string) tasks.Result {
	r.t.Helper()
	require.Equal(r.t, http.StatusCreated, r.post(`{"id":"`+id+`","task_type":"fast_summary","input":"Water waits in the pool above the turbines."}`))
	result := r.await(time.Minute, id)[0]
	require.Equal(r.t, tasks.StatusSucceeded, result.Status, "%+v", result.Error)
	return result
}

// status runs `forebay status`.
func (r *running) status(args ...string) string {
	r.t.Helper()
	var out bytes.Buffer
	cmd := r.command(append([]string{"status"}, args...)...)
	cmd.Stdout, cmd.Stderr = &out, &out
	require.NoError(r.t, cmd.Run(), out.String())
	return out.String()
}

// logged tells whether every process has logged a text so many times at least.
func (r *running) logged(text string, times int) bool {
	for _, p := range r.processes {
		if strings.Count(p.log.text(), text) < times {
			return false
		}
	}
	return true
}

// Each change of the file is taken up by every process while it runs, one after the other, and each can be seen to hold.
func TestTheConfigurationChangesLive(t *testing.T) {
	t.Parallel()
	r := runAll(t, site{regions: []simulator.RegionConfig{{Name: "first"}, {Name: "second"}}})
	price := []string{"gemini-2.5-flash: {output: 2.50", "gemini-2.5-flash: {output: 25.00"}
	first := r.run("at-first")
	for _, test := range []struct {
		name string
		text string
		then func(t *testing.T)
	}{
		{"a price", r.with("", price...), func(t *testing.T) {
			assert.InDelta(t, 10, r.run("dear").CostUSD/first.CostUSD, 2)
		}},
		{"the order of endpoints", r.with("", "priority: 1,", "priority: 3,"), func(t *testing.T) {
			assert.Equal(t, "first", first.Endpoint)
			assert.Equal(t, "second", r.run("ordered").Endpoint)
		}},
		{"a new endpoint", r.with("", "endpoints:\n", "endpoints:\n  new: {account: sim, url: '"+r.provider+"/second/v1', priority: 1, auth: none}\n", "priority: 1,", "priority: 3,"), func(t *testing.T) {
			assert.Equal(t, "new", r.run("at-the-new-one").Endpoint)
		}},
		{"limits", r.with("", "accounts: {sim: {}}", "accounts: {sim: {limits: {requests_per_minute: 1}}}"), func(t *testing.T) {
			r.run("the-only-one")
			require.Equal(t, http.StatusCreated, r.post(`{"id":"limited","task_type":"fast_summary","input":"x","priority":"bulk"}`))
			r.eventually("it waits for the limit", func() bool {
				waiting := r.result("limited").Waiting
				return waiting != nil && waiting.Reason == "requests"
			})
		}},
		{"no limits", r.with("# as at first\n"), func(*testing.T) {
			r.run("unlimited-1")
			r.run("unlimited-2")
		}},
		{"a task type", r.with("  poem: {model: gpt-4.1-mini}\n"), func(t *testing.T) {
			require.Equal(t, http.StatusCreated, r.post(`{"id":"verses","task_type":"poem","input":"x"}`))
			assert.Equal(t, "gpt-4.1-mini", r.await(time.Minute, "verses")[0].Model)
		}},
		{"a task type gone", r.base, func(t *testing.T) {
			assert.Equal(t, http.StatusBadRequest, r.post(`{"id":"no-verses","task_type":"poem","input":"x"}`))
		}},
		{"a budget", r.with("budget: {daily_usd: 0.0000001}\n"), func(t *testing.T) {
			require.Equal(t, http.StatusCreated, r.post(`{"id":"too-dear","task_type":"fast_summary","input":"x"}`))
			result := r.await(time.Minute, "too-dear")[0]
			require.NotNil(t, result.Error)
			assert.Equal(t, "over_budget", result.Error.Code)
		}},
		{"a schedule", r.with("schedules: [{name: often, cron: '@every 1s', job: {task_type: fast_summary, input: x}}]\n"), func(*testing.T) {
			r.eventually("the schedule makes jobs", func() bool {
				out, err := r.command("jobs", "list", "--json").Output()
				return err == nil && strings.Contains(string(out), `"schedule"`)
			})
		}},
		{"a schedule gone", r.base, func(*testing.T) {
			r.eventually("it is removed", func() bool {
				return strings.Contains(r.processes[2].log.text(), "removed a schedule that is in the configuration no more")
			})
		}},
	} {
		r.change(test.text)
		if !t.Run(test.name, test.then) {
			return
		}
	}
}

// What is not valid is refused, with its place in the file, in the log and by status, and what held before holds on.
func TestABrokenConfigurationIsRefused(t *testing.T) {
	t.Parallel()
	r := runAll(t, site{})
	for _, test := range []struct {
		name string
		make func()
		want string
	}{
		{"not YAML", func() { r.write("models: [\n") }, "forebay.yaml:"},
		{"an unknown field", func() { r.write(r.with("budgets: {}\n")) }, "budgets: unknown field"},
		{"half of it", func() { r.write(r.base[:strings.Index(r.base, ", url:")+8]) }, "forebay.yaml:"},
		{"a missing secret", func() {
			r.write(r.with("", "accounts: {sim: {}}", "accounts: {sim: {}}\nencryption: {keys: [{id: k, file: not-there}]}"))
		}, "not-there"},
		{"no file", func() { require.NoError(t, os.Remove(r.path())) }, "cannot be read"},
	} {
		made := time.Now()
		test.make()
		r.everywhere("it is refused: "+test.name, func(c *fleet.Config) bool {
			return c.Refused != nil && c.Refused.At.After(made) && strings.Contains(strings.Join(c.Refused.Problems, "\n"), test.want)
		})
	}
	assert.True(t, r.logged("the configuration is refused", 5))
	assert.True(t, r.logged("unknown field", 1))
	for _, p := range r.processes {
		assert.Less(t, strings.Count(p.log.text(), "is refused"), 12, "each refusal is told once")
	}
	require.NoError(t, os.WriteFile(filepath.Join(r.dir, "other.yaml"), []byte(r.base), 0o600))
	assert.Contains(t, r.status("--config", "other.yaml"), "refuses the configuration as it stands: forebay.yaml: cannot be read")
	r.run("by-the-old-one")

	r.write(r.base)
	r.holds("it is back", r.base)
	assert.NotContains(t, r.status(), "refuses")
	assert.True(t, r.logged("valid again, and as it was", 1))

	// What cannot change while a process runs is named, and everything else of the same file holds.
	changed := r.with("", "slots: 16", "slots: 3", "output: 2.50", "output: 3.50")
	r.change(changed)
	assert.Contains(t, r.status(), "needs a restart to use worker.slots")
	assert.Contains(t, r.processes[0].log.text(), "worker.slots has changed: restart to use it")
	assert.NotContains(t, r.processes[1].log.text(), "has changed: restart", "a producer has no slots")

	// A signal has it read at once, secrets and all.
	for _, p := range r.processes {
		require.NoError(t, p.cmd.Process.Signal(syscall.SIGHUP))
	}
	r.eventually("they say so", func() bool { return r.logged("the configuration was read again: it has not changed", 1) })
	for _, p := range r.processes {
		assert.True(t, p.alive())
		require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	}
	for _, p := range r.processes {
		<-p.ended
		require.NoError(t, p.err, lastLines(p.log.text(), 5))
	}
	assert.Empty(t, r.fleet(), "who ends leaves the fleet")
}

// keyed is a provider in front of the simulated one that keeps the keys with which it was asked.
type keyed struct {
	mutex sync.Mutex
	keys  []string
	next  http.Handler
}

func (k *keyed) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	k.mutex.Lock()
	k.keys = append(k.keys, strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
	k.mutex.Unlock()
	k.next.ServeHTTP(w, r)
}

func (k *keyed) last() string {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	return k.keys[len(k.keys)-1]
}

// A key's file that is replaced, as Kubernetes and editors do it, is read with the next call; and so is a configuration
// that is a link to another file each time.
func TestKeysAndLinksAreReplaced(t *testing.T) {
	t.Parallel()
	r := runAll(t, site{})
	target, err := url.Parse(r.provider)
	require.NoError(t, err)
	provider := &keyed{next: httputil.NewSingleHostReverseProxy(target)}
	server := httptest.NewServer(provider)
	t.Cleanup(server.Close)

	version := func(name, key, text string) {
		dir := filepath.Join(r.dir, name)
		require.NoError(t, os.Mkdir(dir, 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "key"), []byte(key), 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "forebay.yaml"), []byte(text), 0o600))
		require.NoError(t, os.Symlink(name, filepath.Join(r.dir, "..data-new")))
		require.NoError(t, os.Rename(filepath.Join(r.dir, "..data-new"), filepath.Join(r.dir, "..data")))
	}
	text := r.with("", "accounts: {sim: {}}", "accounts: {sim: {key_file: ..data/key}}", "auth: none, ", "", r.provider, server.URL)
	version("v1", "sk-the-first-key-of-all", text)
	require.NoError(t, os.Symlink("..data/forebay.yaml", r.path()+".new"))
	require.NoError(t, os.Rename(r.path()+".new", r.path()))
	r.holds("the link is followed", text)
	r.run("by-the-first-key")
	assert.Equal(t, "sk-the-first-key-of-all", provider.last())

	other := strings.Replace(text, "output: 2.50", "output: 9.50", 1)
	version("v2", "sk-the-second-key-of-all", other)
	r.run("by-the-second-key")
	assert.Equal(t, "sk-the-second-key-of-all", provider.last(), "the next call has it")
	r.holds("the other file is seen behind the link", other)

	status := r.status("--json") + r.status()
	for _, p := range r.processes {
		status += p.log.text()
	}
	assert.NotContains(t, status, "key-of-all")
}

// A call that is out ends by the configuration with which it began, price and endpoint.
func TestACallRunsAcrossAReload(t *testing.T) {
	t.Parallel()
	r := runAll(t, site{
		regions:     []simulator.RegionConfig{{Name: "first", Latency: simulator.Distribution{Min: 6 * time.Second}}, {Name: "second"}},
		callTimeout: 30 * time.Second,
	})
	require.Equal(t, http.StatusCreated, r.post(`{"id":"across","task_type":"fast_summary","input":"Water waits in the pool above the turbines."}`))
	r.eventually("the call is out", func() bool { return r.asked() == 1 })
	line := regexp.MustCompile(`(?m)^  first: .*\n`)
	changed := line.ReplaceAllString(r.with("", "output: 2.50", "output: 25.00"), "")
	r.write(changed)
	require.NoError(t, r.processes[0].cmd.Process.Signal(syscall.SIGHUP))
	r.eventually("the worker has it", func() bool {
		return strings.Contains(r.processes[0].log.text(), "another configuration holds")
	})
	assert.Equal(t, tasks.StatusRunning, r.result("across").Status, "the call is still out")

	var status struct {
		Fleet struct {
			Configs map[string]int `json:"config_versions"`
		} `json:"fleet"`
	}
	require.NoError(t, json.Unmarshal([]byte(r.status("--json")), &status))
	total := 0
	for _, processes := range status.Fleet.Configs {
		total += processes
	}
	assert.Equal(t, 3, total)

	r.holds("all have it", changed)
	after := r.run("after")
	across := r.await(time.Minute, "across")[0]
	require.Equal(t, tasks.StatusSucceeded, across.Status)
	assert.Equal(t, "first", across.Endpoint)
	assert.Equal(t, "second", after.Endpoint)
	require.Len(t, across.Attempts, 1)
	assert.InDelta(t, 10, after.CostUSD/across.CostUSD, 2)
}
