package main_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/forebay-queue/forebay/deploy/simulator"
)

// providerCall is one call as the provider sees it.
type providerCall struct {
	job    string
	worker int // the place of the worker that made it
	life   int // how many workers that place had before
	began  time.Time
	ended  time.Time // zero while it is out
	// died is when the worker was killed, whether or not the call was out by then; zero for one that lives.
	died time.Time
}

// providerView sits before the simulated provider and tells the calls of one worker from those of another: each has an
// address of its own.
type providerView struct {
	sim   *simulator.Simulator
	mu    sync.Mutex
	lives []int
	calls []*providerCall
}

// serve starts the address of one worker.
func (v *providerView) serve(t testing.TB) (url string) {
	t.Helper()
	v.mu.Lock()
	worker := len(v.lives)
	v.lives = append(v.lives, 0)
	v.mu.Unlock()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/chat/completions") {
			v.sim.ServeHTTP(w, r)
			return
		}
		call := v.begin(worker, r.Header.Get(simulator.HeaderRequestID))
		v.sim.ServeHTTP(w, r)
		v.mu.Lock()
		defer v.mu.Unlock()
		call.ended = time.Now()
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func (v *providerView) begin(worker int, job string) *providerCall {
	v.mu.Lock()
	defer v.mu.Unlock()
	call := &providerCall{job: job, worker: worker, life: v.lives[worker], began: time.Now()}
	v.calls = append(v.calls, call)
	return call
}

// died notes that the worker of a place is dead, and returns how many of its calls were out.
func (v *providerView) died(worker int, at time.Time) (out int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, call := range v.calls {
		if call.worker != worker || call.life != v.lives[worker] {
			continue
		}
		call.died = at
		if call.ended.IsZero() || call.ended.After(at) {
			out++
		}
	}
	v.lives[worker]++
	return out
}

// byJob are all calls of each job in their order.
func (v *providerView) byJob() map[string][]providerCall {
	v.mu.Lock()
	defer v.mu.Unlock()
	jobs := map[string][]providerCall{}
	for _, call := range v.calls {
		jobs[call.job] = append(jobs[call.job], *call)
	}
	return jobs
}
