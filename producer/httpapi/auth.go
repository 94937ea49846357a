package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks/apikeys"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

// AuthConfig configures an Auth. A zero field means its documented default.
type AuthConfig struct {
	// Redis holds the sessions of browsers and what tenants have taken. Required.
	Redis redis.UniversalClient
	// Prefix stands before every key. Defaults to keyspace.DefaultPrefix.
	Prefix string
	// Book is the API keys. Required.
	Book *apikeys.Book
	// Loopback says that only this machine can reach the server. There, and only there, nobody is asked for a key while
	// there is none.
	Loopback bool
	// Tenants are the limits of tenants' requests, by their names. Who is not named has none.
	Tenants map[string]TenantLimits
	// Monitor is served at /monitor, to operators only; see NewMonitor. Defaults to no such address.
	Monitor http.Handler
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
	meter    meter
	monitor  http.Handler
}

// NewAuth returns an Auth.
func NewAuth(config AuthConfig) (*Auth, error) {
	if config.Redis == nil || config.Book == nil {
		return nil, errors.New("HTTP API: AuthConfig.Redis or AuthConfig.Book is missing")
	}
	keys := keyspace.New(config.Prefix)
	return &Auth{
		book: config.Book, loopback: config.Loopback, monitor: config.Monitor, tries: newTries(),
		sessions: sessions{client: config.Redis, keys: keys},
		meter:    meter{client: config.Redis, keys: keys, limits: config.Tenants},
	}, nil
}

// Authenticate is what Config.Authenticate takes: behind it, every request has an Identity.
func (a *Auth) Authenticate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case loginPath, logoutPath:
			a.serveLogin(w, r)
			return
		}
		identity, problem := a.identify(r)
		if problem == nil && !identity.Write && changes(r) {
			problem = &apiError{status: http.StatusForbidden, code: "write_forbidden", message: "this key may only read"}
		}
		ctx := WithIdentity(r.Context(), identity)
		if problem == nil && !identity.Operator {
			ctx, problem = a.meter.admit(ctx, w.Header(), identity.Tenant)
		}
		switch {
		case problem != nil && problem.status == http.StatusUnauthorized && isPage(r):
			http.Redirect(w, r, loginFor(r.URL.Path), http.StatusSeeOther)
		case problem != nil:
			refuse(w, *problem)
		case a.monitor != nil && below(r.URL.Path, monitorPath):
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
	return r.Method == http.MethodGet && (below(r.URL.Path, monitorPath) || below(r.URL.Path, strings.TrimSuffix(pagePath, "/"))) &&
		strings.Contains(r.Header.Get("Accept"), "text/html")
}

// CheckKeys refuses an address that others than this machine can reach while there is no key. Its server would let
// nobody in.
func CheckKeys(ctx context.Context, address string, book *apikeys.Book) error {
	if IsLoopback(address) {
		return nil
	}
	if err := book.Refresh(ctx); err != nil {
		return err
	}
	known, err := book.Any()
	if err == nil && !known {
		err = errors.New("the address " + address + " can be reached from other machines, and there is no API key yet: " +
			"create one with `forebay keys create --operator` or `--tenant NAME`, or listen on 127.0.0.1")
	}
	return err
}
