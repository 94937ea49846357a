package httpapi

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"errors"
	"html/template"
	"math"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/forebay-queue/forebay/tasks/apikeys"
)

const (
	homePath   = "/"
	loginPath  = "/login"
	logoutPath = "/logout"

	maxLoginBytes = 4 << 10
)

//go:embed login.html
var loginSource string

//go:embed login.css
var loginStyle string

var loginTemplate = template.Must(template.New("login").Parse(loginSource))

// loginPolicy lets the page have its one style, and send its form to where it came from.
var loginPolicy = "default-src 'none'; style-src '" + cspHash([]byte(loginStyle)) + "'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

func cspHash(text []byte) string {
	digest := sha256.Sum256(text)
	return "sha256-" + base64.StdEncoding.EncodeToString(digest[:])
}

// loginPage is what the page shows.
type loginPage struct {
	Style template.CSS
	// Next is where to go on after logging in.
	Next    string
	Problem string
	// Open tells that nobody is asked for a key.
	Open bool
	// Identity is set for a browser that has logged in.
	Identity *Identity
	Monitor  bool
}

func (a *Auth) serveLogin(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == http.MethodPost:
		if crossOrigin.Check(r) != nil {
			refuse(w, *errCrossOrigin())
			return
		}
		if r.URL.Path == logoutPath {
			a.logOut(w, r)
			return
		}
		a.logIn(w, r)
	case r.URL.Path == loginPath && !changes(r):
		a.showLogin(w, r)
	default:
		w.Header().Set("Allow", http.MethodPost)
		writeError(w, apiError{
			status: http.StatusMethodNotAllowed, code: "method_not_allowed",
			message: "this address has no such method; see the header Allow",
		})
	}
}

func (a *Auth) showLogin(w http.ResponseWriter, r *http.Request) {
	page := loginPage{Next: localPath(r.URL.Query().Get("next"))}
	identity, problem := a.identify(r)
	switch {
	case problem == nil && identity.Key == "":
		page.Open = true
	case problem == nil:
		page.Identity, page.Monitor = &identity, identity.Operator
	case problem.code == "session_ended" || problem.code == codeInvalidKey:
		page.Problem = problem.message
	case problem.status != http.StatusUnauthorized:
		page.Problem = problem.message
	}
	writeLogin(w, http.StatusOK, page)
}

// logIn takes a key and begins a session of it.
func (a *Auth) logIn(w http.ResponseWriter, r *http.Request) {
	if wait := a.tries.begin(r.RemoteAddr); wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(wholeSeconds(wait)))
		writeLogin(w, http.StatusTooManyRequests, loginPage{
			Problem: "Too many logins have failed from your address. Try again in " + wait.Round(time.Second).String() + ".",
		})
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxLoginBytes)
	if err := r.ParseForm(); err != nil {
		writeLogin(w, http.StatusBadRequest, loginPage{Problem: "The form could not be read. Try again."})
		return
	}
	next := localPath(r.PostForm.Get("next"))
	key, err := a.book.Verify(strings.TrimSpace(r.PostForm.Get("key")))
	var value string
	if err == nil {
		a.tries.succeeded(r.RemoteAddr)
		value, err = a.sessions.begin(r.Context(), key.ID)
	}
	switch {
	case err == nil:
		http.SetCookie(w, sessionCookie(r, value))
		http.Redirect(w, r, next, http.StatusSeeOther)
	case errors.Is(err, apikeys.ErrUnknown), errors.Is(err, apikeys.ErrExpired):
		writeLogin(w, http.StatusUnauthorized, loginPage{Next: next, Problem: "No: " + err.Error() + "."})
	default:
		w.Header().Set("Retry-After", "1")
		writeLogin(w, http.StatusServiceUnavailable, loginPage{Next: next, Problem: "It cannot be found out now whose key this is. Try again."})
	}
}

// logOut ends the browser's session. A browser of another origin's page does not send the cookie.
func (a *Auth) logOut(w http.ResponseWriter, r *http.Request) {
	if cookie, err := r.Cookie(cookieName(r)); err == nil {
		if err := a.sessions.end(r.Context(), cookie.Value); err != nil {
			refuse(w, *errKeysAway())
			return
		}
	}
	http.SetCookie(w, sessionCookie(r, ""))
	http.Redirect(w, r, loginPath, http.StatusSeeOther)
}

func writeLogin(w http.ResponseWriter, status int, page loginPage) {
	page.Style = template.CSS(loginStyle) //nolint:gosec // our own file
	var text bytes.Buffer
	if err := loginTemplate.Execute(&text, page); err != nil {
		writeError(w, apiError{status: http.StatusInternalServerError, code: "internal", message: "the page cannot be written"})
		return
	}
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Content-Length", strconv.Itoa(text.Len()))
	header.Set("Content-Security-Policy", loginPolicy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("X-Frame-Options", "DENY")
	header.Set("Referrer-Policy", "same-origin")
	header.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(text.Bytes()) // a client that has left needs no answer
}

// plainPath is a path that means nothing else to any browser: each slash stands before a letter or digit, or at the end.
// Behind it may stand what a page was asked for.
var plainPath = regexp.MustCompile(`^(/|(/[A-Za-z0-9_~-][A-Za-z0-9_.~:-]*)+/?)(\?[A-Za-z0-9_.~:,=&%+-]*)?$`)

// localPath is a path of this server, or the dashboard's for whatever else it was. Nobody is sent to another site by a
// link to this one.
func localPath(text string) string {
	if path, _, _ := strings.Cut(text, "?"); len(text) > 512 || !plainPath.MatchString(text) || path == logoutPath {
		return homePath
	}
	return text
}

func loginFor(at string) string {
	if next := localPath(at); next != homePath {
		return loginPath + "?next=" + url.QueryEscape(next)
	}
	return loginPath
}

func wholeSeconds(d time.Duration) int { return max(1, int(math.Ceil(d.Seconds()))) }
