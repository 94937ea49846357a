// Package httpapi serves jobs over HTTP: for now it reads them, and says whether the process is well.
//
//	GET /healthz       200 for as long as the process lives
//	GET /readyz        200, or 503 with the reason while Redis does not answer
//	GET /v1/jobs/{id}  the job as tasks.Result; 404 where there is none
//
// Errors have OpenAI's form, so that its clients read them: {"error":{"message","type","param","code"}}.
package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/tasks"
)

const (
	readyWithin = time.Second
	readWithin  = 5 * time.Second
)

// Config configures a Handler.
type Config struct {
	// Client reads the jobs. Required.
	Client *producer.Client
	// Ready says whether the process can work. Defaults to Client.Ready.
	Ready func(ctx context.Context) error
}

// Handler returns the API. It sets no limits on connections: those are a Server's.
func Handler(config Config) (*API, error) {
	if config.Client == nil {
		return nil, errors.New("HTTP API: Config.Client is missing")
	}
	if config.Ready == nil {
		config.Ready = config.Client.Ready
	}
	return &API{client: config.Client, ready: config.Ready, draining: make(chan struct{})}, nil
}

// API answers requests: an http.Handler.
type API struct {
	client *producer.Client
	ready  func(ctx context.Context) error

	drainOnce sync.Once
	draining  chan struct{}
}

// Drain has those who wait answered with what stands, and /readyz say that the process is ending. Other requests go on.
func (h *API) Drain() { h.drainOnce.Do(func() { close(h.draining) }) }

// ServeHTTP implements http.Handler. It routes by itself: http.ServeMux would answer odd paths and methods with pages
// of its own.
func (h *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	serve := h.route(r.URL.Path)
	switch {
	case serve == nil:
		writeError(w, apiError{
			status: http.StatusNotFound, code: "not_found",
			message: "there is nothing at this address; see GET /v1/jobs/{id}",
		})
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		writeError(w, apiError{
			status: http.StatusMethodNotAllowed, code: "method_not_allowed",
			message: "this address answers GET only",
		})
	default:
		serve(w, r)
	}
}

func (h *API) route(path string) http.HandlerFunc {
	switch path {
	case "/healthz":
		return serveHealth
	case "/readyz":
		return h.serveReady
	}
	id, found := strings.CutPrefix(path, "/v1/jobs/")
	if !found || id == "" || strings.Contains(id, "/") {
		return nil
	}
	return func(w http.ResponseWriter, r *http.Request) { h.serveJob(w, r, id) }
}

func serveHealth(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
}

func (h *API) serveReady(w http.ResponseWriter, r *http.Request) {
	select {
	case <-h.draining:
		writeError(w, apiError{status: http.StatusServiceUnavailable, code: "not_ready", message: "the process is ending"})
		return
	default:
	}
	ctx, cancel := context.WithTimeout(r.Context(), readyWithin)
	defer cancel()
	// In a goroutine of its own: an answer is due even when the check does not look at its context.
	checked := make(chan error, 1)
	go func() { checked <- h.ready(ctx) }()
	var err error
	select {
	case err = <-checked:
	case <-ctx.Done():
		err = errors.New("reach Redis: no answer within " + readyWithin.String())
	}
	if err != nil {
		writeError(w, apiError{status: http.StatusServiceUnavailable, code: "not_ready", message: err.Error()})
		return
	}
	writeJSON(w, http.StatusOK, map[string]string{"status": "ready"})
}

func (h *API) serveJob(w http.ResponseWriter, r *http.Request, id string) {
	ctx, cancel := context.WithTimeout(r.Context(), readWithin)
	defer cancel()
	result, err := h.client.Get(ctx, id)
	switch {
	case err == nil:
		writeJSON(w, http.StatusOK, result)
	case errors.Is(err, tasks.ErrInvalidJob):
		writeError(w, apiError{
			status: http.StatusBadRequest, code: "invalid_job_id", param: "id",
			message: "the id of a job has 1 to 128 characters of A-Z a-z 0-9 _ -",
		})
	case errors.Is(err, producer.ErrNotFound):
		writeError(w, apiError{
			status: http.StatusNotFound, code: "job_not_found", param: "id",
			message: "there is no job " + id + ": the id is wrong, or the job's retention has passed",
		})
	default:
		// The cause may name inner addresses: it is for the operator, who finds it at /readyz.
		w.Header().Set("Retry-After", "1")
		writeError(w, apiError{
			status: http.StatusServiceUnavailable, code: "store_unavailable",
			message: "the job cannot be read now; try again",
		})
	}
}
