package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/producer/httpapi/dashboard"
	"github.com/forebay-queue/forebay/tasks/apikeys"
	"github.com/forebay-queue/forebay/tasks/jobstore"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

// AuthConfig configures an Auth. A zero field means its documented default.
type AuthConfig struct {
	// Redis holds the keys, the sessions of browsers and what tenants have taken. Required. Auth does not close it.
	Redis redis.UniversalClient
	// Prefix stands before every key. Defaults to keyspace.DefaultPrefix.
	Prefix string
	// Address is the server's, host:port. On loopback, and only there, nobody is asked for a key while there is none.
	// Required.
	Address string
	// Tenants are the limits of tenants' requests, by their names. Who is not named has none.
	Tenants map[string]TenantLimits
}

// Auth stands before the API: it finds out who makes a request, and serves what browsers need for that.
//
// A request says who makes it by "Authorization: Bearer <key>", or by the cookie that /login sets; where it does both,
// the header alone counts.
type Auth struct {
	book     *apikeys.Book
	loopback bool
	sessions sessions
	tries    *tries
	meter    *meter
	jobs     *jobstore.Store
	monitor  http.Handler
}

// NewAuth returns an Auth that knows the keys. It is an error where others than this machine can reach the address and
// there is no key: the server would let nobody in.
func NewAuth(ctx context.Context, config AuthConfig) (*Auth, error) {
	if config.Redis == nil || config.Address == "" {
		return nil, errors.New("HTTP API: AuthConfig.Redis or AuthConfig.Address is missing")
	}
	// It reads for asynq's console, which shows jobs to operators whoever they belong to, and therefore has no keys.
	jobs, err := jobstore.New(jobstore.Config{Redis: config.Redis, Prefix: config.Prefix})
	if err != nil {
		return nil, err
	}
	keys := keyspace.New(config.Prefix)
	a := &Auth{
		loopback: Loopback(config.Address), tries: newTries(), jobs: jobs,
		sessions: sessions{client: config.Redis, keys: keys},
		meter:    &meter{client: config.Redis, keys: keys},
	}
	a.SetTenants(config.Tenants)
	if a.monitor, err = newMonitor(config.Redis, jobs); err != nil {
		return nil, err
	}
	if a.book, err = apikeys.OpenBook(ctx, config.Redis, keys); err != nil {
		return nil, err
	}
	if known, err := a.book.Any(); !a.loopback && (err != nil || !known) {
		a.Close()
		return nil, errors.Join(err, fmt.Errorf("the address %s is not on loopback, and there is no API key yet, so that nobody would be let in: "+
			"create one with `forebay keys create --tenant NAME` or `--operator`, or listen on 127.0.0.1", config.Address))
	}
	return a, nil
}

// SetTenants has other limits hold of tenants' requests from now on.
func (a *Auth) SetTenants(limits map[string]TenantLimits) { a.meter.limits.Store(&limits) }

// Close forgets the keys: nobody is let in any more.
func (a *Auth) Close() {
	a.book.Close()
	_ = a.jobs.Close() // nobody waits by it
}

// Authenticate is what Config.Authenticate takes: behind it, every request has an Identity.
func (a *Auth) Authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case loginPath, logoutPath:
			a.serveLogin(w, r)
			return
		}
		if isResultLink(r) { // whoever has it may read one result: the link itself is looked at where it is served
			next.ServeHTTP(w, r)
			return
		}
		identity, problem := a.identify(r)
		if problem == nil && !identity.Write && changes(r) {
			problem = &apiError{status: http.StatusForbidden, code: "write_forbidden", message: "this key may only read"}
		}
		ctx := WithIdentity(r.Context(), identity)
		// What the dashboard is made of is everybody's, and counts for nobody: what it asks for does.
		if problem == nil && !identity.Operator && !dashboard.IsPart(r.URL.Path) {
			ctx, problem = a.meter.admit(ctx, w.Header(), identity.Tenant)
		}
		switch {
		case problem != nil && problem.status == http.StatusUnauthorized && isPage(r):
			http.Redirect(w, r, loginFor(r.URL.RequestURI()), http.StatusSeeOther)
		case problem != nil:
			refuse(w, *problem)
		case below(r.URL.Path, monitorPath):
			a.serveMonitor(w, r.WithContext(ctx), identity)
		default:
			next.ServeHTTP(w, r.WithContext(ctx))
		}
	})
}

// changes tells whether a request may change something.
func changes(r *http.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return false
	}
	return true
}

func refuse(w http.ResponseWriter, problem apiError) {
	if problem.status == http.StatusUnauthorized {
		challenge := `Bearer realm="forebay"`
		if problem.code == codeInvalidKey {
			challenge += `, error="invalid_token"`
		}
		w.Header().Set("WWW-Authenticate", challenge)
	}
	writeError(w, problem)
}

const codeInvalidKey = "invalid_api_key"

// identify finds out who makes a request.
func (a *Auth) identify(r *http.Request) (Identity, *apiError) {
	known, err := a.book.Any()
	switch {
	case err != nil:
		return Identity{}, errKeysAway()
	case !known && a.loopback:
		if problem := checkLocal(r); problem != nil {
			return Identity{}, problem
		}
		return Identity{Operator: true, Write: true}, nil
	}
	if headers := r.Header.Values("Authorization"); len(headers) > 0 {
		return a.byHeader(headers)
	}
	if cookie, err := r.Cookie(cookieName(r)); err == nil {
		return a.byCookie(r, cookie.Value)
	}
	return Identity{}, &apiError{
		status: http.StatusUnauthorized, code: "missing_api_key",
		message: "send an API key as `Authorization: Bearer <key>`, or log in at " + loginPath +
			"; `forebay keys create` makes keys",
	}
}

func (a *Auth) byHeader(headers []string) (Identity, *apiError) {
	scheme, text, _ := strings.Cut(headers[0], " ")
	if len(headers) > 1 || !strings.EqualFold(scheme, "Bearer") {
		return Identity{}, &apiError{
			status: http.StatusUnauthorized, code: codeInvalidKey,
			message: "one header `Authorization: Bearer <key>` is understood, and no other kind",
		}
	}
	key, err := a.book.Verify(strings.TrimSpace(text))
	if err != nil {
		return Identity{}, keyProblem(err)
	}
	return identityOf(key), nil
}

// byCookie finds the key with which a browser has logged in. A browser sends the cookie whoever asks it to, so that for
// what changes something its origin counts, too.
func (a *Auth) byCookie(r *http.Request, value string) (Identity, *apiError) {
	if changes(r) {
		if problem := checkOrigin(r); problem != nil {
			return Identity{}, problem
		}
	}
	id, err := a.sessions.find(r.Context(), value)
	var key apikeys.Key
	if err == nil {
		key, err = a.book.Find(id)
	}
	if err != nil {
		return Identity{}, keyProblem(err)
	}
	return identityOf(key), nil
}

func identityOf(key apikeys.Key) Identity {
	return Identity{Key: key.ID, Tenant: key.Tenant, Operator: key.Operator, Write: key.Write}
}

// keyProblem is how a request is refused whose key, or session, does not let it in.
func keyProblem(err error) *apiError {
	switch {
	case errors.Is(err, apikeys.ErrUnknown), errors.Is(err, apikeys.ErrExpired):
		return &apiError{status: http.StatusUnauthorized, code: codeInvalidKey, message: err.Error()}
	case errors.Is(err, errNoSession):
		return &apiError{status: http.StatusUnauthorized, code: "session_ended", message: err.Error()}
	}
	return errKeysAway()
}

func errKeysAway() *apiError {
	return &apiError{
		status: http.StatusServiceUnavailable, code: "store_unavailable",
		message: "it cannot be found out now whose key this is; try again",
	}
}

// below tells whether a path is a page, or one below it.
func below(path, page string) bool {
	rest, found := strings.CutPrefix(path, page)
	return found && (rest == "" || rest[0] == '/')
}

// isPage tells of a page that a browser is to show, whose user can be asked to log in.
func isPage(r *http.Request) bool {
	at := r.URL.Path
	return r.Method == http.MethodGet && (dashboard.IsPage(at) || below(at, monitorPath) || below(at, strings.TrimSuffix(pagePath, "/"))) &&
		strings.Contains(r.Header.Get("Accept"), "text/html")
}
