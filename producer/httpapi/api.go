// Package httpapi is the way in over HTTP: it takes jobs in, says how they stand, waits for them, and ends them. The
// document at /openapi.json says all of it, and /docs is a page to try it.
//
// Every error has OpenAI's form, so that its clients read them: {"error":{"message","type","param","code"}}. A request
// is made by an Identity; what belongs to another tenant is answered as what is not there.
package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/producer/files"
	"github.com/forebay-queue/forebay/producer/internal/calls"
	"github.com/forebay-queue/forebay/tasks/activity"
)

const (
	// longestWait is how long one request waits for a job's end, whatever it asks for.
	longestWait = time.Minute
	// bodyWithin is how long a client may take to send a body, answerWithin to take in an answer, the longest wait apart.
	bodyWithin   = time.Minute
	answerWithin = time.Minute
	// readWithin and writeWithin bound what a request does with Redis.
	readWithin  = 5 * time.Second
	writeWithin = 50 * time.Second
	readyWithin = time.Second
	// listWithin is longer: a list looks at some ten thousands of records.
	listWithin = 30 * time.Second
)

// Config configures an API. A zero field means its documented default.
type Config struct {
	// Client takes the jobs in and reads them. Required.
	Client *producer.Client
	// Ready says whether the process can work. Defaults to Client.Ready.
	Ready func(ctx context.Context) error
	// Authenticate stands before every address but /healthz and /readyz, and says who makes the request (WithIdentity).
	// Defaults to nobody being asked: every request is an operator's that may write. Only loopback is served so.
	Authenticate func(http.Handler) http.Handler
	// Routes are served beside the API, behind Authenticate, by patterns of http.ServeMux.
	Routes map[string]http.Handler
	// Status is what GET /v1/status answers, as JSON. Defaults to no such address.
	Status func(ctx context.Context) (any, error)
	// Metrics answers GET /metrics, for operators. Defaults to no such address.
	Metrics http.Handler
	// Files keeps the files of batches. Defaults to none, and no addresses of files and batches.
	Files *files.Store
	// Heartbeat is how often a stream of events that has nothing to tell says so, and Reread how often it looks for
	// changes that are not published. Default to 15s and 5s.
	Heartbeat, Reread time.Duration
	// Log takes what went wrong inside. Of requests nothing is logged. The zero value discards it.
	Log zerolog.Logger
}

func (c Config) withDefaults() Config {
	if c.Ready == nil {
		c.Ready = c.Client.Ready
	}
	if c.Authenticate == nil {
		c.Authenticate = everybodyOperates
	}
	if c.Heartbeat == 0 {
		c.Heartbeat = 15 * time.Second
	}
	if c.Reread == 0 {
		c.Reread = 5 * time.Second
	}
	return c
}

func everybodyOperates(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(WithIdentity(r.Context(), Identity{Operator: true, Write: true})))
	})
}

// API answers requests: an http.Handler.
type API struct {
	config Config
	client *producer.Client
	calls  *calls.Book
	series *series
	hub    *hub
	// reports are of the activity. monitor tells that there is the console.
	reports reports
	monitor bool
	mux     *http.ServeMux
	open    http.Handler // of the addresses that are everybody's
	closed  http.Handler // of all others

	// draining ends with Drain.
	draining context.Context //nolint:containedctx // the life of the API, which no single request has
	drain    context.CancelFunc
}

// Handler returns the API. It sets no limits on connections: those are a Server's.
func Handler(config Config) (*API, error) {
	if config.Client == nil {
		return nil, errors.New("HTTP API: Config.Client is missing")
	}
	monitor := config.Authenticate != nil // which serves it
	config = config.withDefaults()
	a := &API{monitor: monitor, reports: reports{read: map[string]activity.Report{}}, config: config, client: config.Client, mux: http.NewServeMux(), series: newSeries(config.Client.Registerer()), calls: calls.NewBook(config.Client.Redis(), config.Client.Keys())}
	a.hub = newHub(config.Client.Redis(), config.Client.Keys(), config.Status, config.Log)
	a.draining, a.drain = context.WithCancel(context.Background())
	if err := a.register(); err != nil {
		return nil, fmt.Errorf("HTTP API: %w", err)
	}
	a.open = http.HandlerFunc(a.route)
	a.closed = config.Authenticate(a.open)
	return a, nil
}

// Drain has those who wait answered with what stands, and /readyz say that the process is ending. Other requests go on.
func (a *API) Drain() { a.drain() }

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer, begun := &answerWriter{ResponseWriter: w}, time.Now()
	r, span := a.traced(r)
	defer func() {
		a.served(answer, r, begun)
		answered(span, answer)
	}()
	defer a.contain(answer, r)
	header := answer.Header()
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", "no-store")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("X-Frame-Options", "DENY")
	header.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	limits := http.NewResponseController(w)
	// A writer that knows no deadlines is a test's, or of a server that has its own.
	_ = limits.SetWriteDeadline(time.Now().Add(longestWait + answerWithin))
	if r.Body != nil && r.Body != http.NoBody {
		_ = limits.SetReadDeadline(time.Now().Add(bodyWithin))
	}
	if r.URL.Path == healthPath || r.URL.Path == readyPath {
		a.open.ServeHTTP(answer, r)
		return
	}
	a.closed.ServeHTTP(answer, r)
}

// methods are those that some address may have.
var methods = []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}

// route hands a request to its handler. http.ServeMux would answer odd paths and methods with pages of its own.
func (a *API) route(w http.ResponseWriter, r *http.Request) {
	clean := path.Clean(r.URL.Path)
	if _, pattern := a.mux.Handler(r); pattern != "" && (clean == r.URL.Path || clean+"/" == r.URL.Path) {
		if problem := checkBody(r, pattern); problem != nil {
			writeError(w, *problem)
			return
		}
		a.mux.ServeHTTP(w, r)
		return
	}
	if allowed := a.allowed(r); clean == r.URL.Path && len(allowed) > 0 && !slices.Contains(allowed, r.Method) {
		for _, method := range allowed {
			w.Header().Add("Allow", method)
		}
		writeError(w, apiError{
			status: http.StatusMethodNotAllowed, code: "method_not_allowed",
			message: "this address has no such method; see the header Allow",
		})
		return
	}
	writeError(w, apiError{
		status: http.StatusNotFound, code: "not_found", message: "there is nothing at this address; see " + documentPath,
	})
}

// allowed are the methods that the address of a request has.
func (a *API) allowed(r *http.Request) []string {
	var allowed []string
	for _, method := range methods {
		other := *r
		other.Method = method
		if _, pattern := a.mux.Handler(&other); pattern != "" {
			allowed = append(allowed, method)
			if method == http.MethodGet {
				allowed = append(allowed, http.MethodHead)
			}
		}
	}
	return allowed
}

// contain answers a panic with an error, or by closing the connection where an answer has begun.
func (a *API) contain(w *answerWriter, r *http.Request) {
	cause := recover()
	if cause == nil {
		return
	}
	if cause == http.ErrAbortHandler { //nolint:errorlint // net/http compares so, too
		panic(cause)
	}
	// The cause may quote what the request held; the stack does not.
	a.config.Log.Error().Str("method", r.Method).Str("cause", fmt.Sprintf("%T", cause)).Bytes("stack", debug.Stack()).
		Msg("a request over HTTP panicked")
	if w.begun.Load() {
		panic(http.ErrAbortHandler)
	}
	writeError(w, apiError{status: http.StatusInternalServerError, code: "internal", message: "something is wrong inside; the log has it"})
}

// answerWriter knows whether an answer has begun.
type answerWriter struct {
	http.ResponseWriter
	begun  atomic.Bool
	status int
}

// Unwrap is for http.ResponseController.
func (w *answerWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (w *answerWriter) WriteHeader(status int) {
	w.begun.Store(true)
	if w.status < http.StatusOK { // what stands before is no answer yet
		w.status = status
	}
	if header := w.Header(); header.Get("Content-Type") == mediaJSON {
		header.Set("Content-Type", contentJSON)
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *answerWriter) Write(data []byte) (int, error) {
	w.begun.Store(true)
	return w.ResponseWriter.Write(data)
}
