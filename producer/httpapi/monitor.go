package httpapi

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"path"
	"regexp"
	"strings"

	"github.com/hibiken/asynqmon"
	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks/jobstore"
)

const monitorPath = "/monitor"

// maxMonitorBytes bounds what the console may send: lists of ids of tasks.
const maxMonitorBytes = 1 << 20

// monitor is asynqmon, asynq's console, with what it lacks here: it shows the jobs behind the tasks, loads nothing from
// elsewhere, and lets those who may only read do no more. Who may see it is Auth's to say.
type monitor struct {
	writes, reads consoleView
	jobs          taskJobs
}

// consoleView is asynqmon for those who may write, or may not.
type consoleView struct {
	console http.Handler
	page    []byte
	policy  string
}

// newMonitor returns asynq's console over the queues of a Redis. The Store reads the jobs.
func newMonitor(client redis.UniversalClient, store *jobstore.Store) (http.Handler, error) {
	m := &monitor{jobs: newTaskJobs(store)}
	for view, readOnly := range map[*consoleView]bool{&m.writes: false, &m.reads: true} {
		console := asynqmon.New(asynqmon.Options{RootPath: monitorPath, RedisConnOpt: givenClient{client}, ReadOnly: readOnly})
		page, err := monitorPage(console)
		if err != nil {
			return nil, err
		}
		*view = consoleView{console: console, page: page, policy: monitorPolicy(page)}
	}
	return m, nil
}

// givenClient lets asynqmon use a client that is there. Nobody closes it by closing the console, which nobody does.
type givenClient struct{ client redis.UniversalClient }

// MakeRedisClient implements asynq.RedisConnOpt.
func (g givenClient) MakeRedisClient() any { return g.client }

func (a *Auth) serveMonitor(w http.ResponseWriter, r *http.Request, identity Identity) {
	if !identity.Operator {
		refuse(w, apiError{status: http.StatusForbidden, code: "operator_only", message: "this is for operators' keys"})
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxMonitorBytes)
	a.monitor.ServeHTTP(w, r)
}

// ServeHTTP implements http.Handler.
func (m *monitor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	view := &m.reads
	if IdentityOf(r.Context()).Write {
		view = &m.writes
	}
	header := w.Header()
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Content-Security-Policy", view.policy)
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("X-Frame-Options", "DENY")
	header.Set("Cache-Control", "no-store")
	within := strings.TrimPrefix(path.Clean(r.URL.Path), monitorPath)
	switch {
	case below(within, "/api"):
		m.serveAPI(w, r, view.console)
	case path.Ext(within) == ".map" || !assetPath.MatchString(within):
		// Every other address is the page, which draws by it.
		header.Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(view.page) // a client that has left needs no answer
	default:
		kept := &keptAnswer{header: http.Header{}}
		view.console.ServeHTTP(kept, r)
		contentType := kept.header.Get("Content-Type")
		if path.Ext(within) == ".css" { // asynqmon guesses by the content, and takes styles for a text
			contentType = "text/css; charset=utf-8"
		}
		header.Set("Content-Type", contentType)
		_, _ = w.Write(kept.body.Bytes())
	}
}

var assetPath = regexp.MustCompile(`^/(static/(js|css|media)/)?[A-Za-z0-9_.-]+\.[a-z0-9]+$`)

// serveAPI answers what the console asks, with the jobs of the tasks in the place of their ids.
func (m *monitor) serveAPI(w http.ResponseWriter, r *http.Request, console http.Handler) {
	kept := &keptAnswer{header: http.Header{}, status: http.StatusOK}
	console.ServeHTTP(kept, r)
	body := kept.body.Bytes()
	if r.Method == http.MethodGet && kept.status == http.StatusOK {
		body = m.jobs.show(r.Context(), body)
	}
	if contentType := kept.header.Get("Content-Type"); contentType != "" {
		w.Header().Set("Content-Type", contentType)
	} else {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	}
	w.WriteHeader(kept.status)
	_, _ = w.Write(body)
}

// keptAnswer keeps an answer to be changed.
type keptAnswer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

// Header implements http.ResponseWriter.
func (k *keptAnswer) Header() http.Header { return k.header }

// WriteHeader implements http.ResponseWriter.
func (k *keptAnswer) WriteHeader(status int) { k.status = status }

// Write implements http.ResponseWriter.
func (k *keptAnswer) Write(data []byte) (int, error) { return k.body.Write(data) }

var (
	_ io.Writer = (*keptAnswer)(nil)

	// foreignStyles are fonts that the page would fetch from elsewhere; it does without them.
	foreignStyles = regexp.MustCompile(`<link rel="stylesheet" href="https?://[^"]*"/?>`)
	inlineScripts = regexp.MustCompile(`(?s)<script>(.*?)</script>`)
)

// monitorPage is the console's one page as asynqmon writes it, without what comes from elsewhere.
func monitorPage(console http.Handler) ([]byte, error) {
	request, err := http.NewRequest(http.MethodGet, monitorPath, http.NoBody) //nolint:noctx // it goes nowhere
	if err != nil {
		return nil, err
	}
	kept := &keptAnswer{header: http.Header{}, status: http.StatusOK}
	console.ServeHTTP(kept, request)
	page := foreignStyles.ReplaceAll(kept.body.Bytes(), nil)
	if kept.status != http.StatusOK || !inlineScripts.Match(page) || bytes.Contains(page, []byte("//fonts.")) {
		return nil, errors.New("the console's page is not what it was in asynqmon v0.7.2")
	}
	return page, nil
}

// monitorPolicy lets the page run its own scripts, and talk to where it came from. Its library writes styles into the page.
func monitorPolicy(page []byte) string {
	scripts := "'self'"
	for _, script := range inlineScripts.FindAllSubmatch(page, -1) {
		scripts += " '" + cspHash(script[1]) + "'"
	}
	return "default-src 'none'; script-src " + scripts + "; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; " +
		"manifest-src 'self'; connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
}
