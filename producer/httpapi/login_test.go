package httpapi_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/producer/httpapi"
	"github.com/forebay-queue/forebay/tasks/apikeys"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

func withCookie(cookie *http.Cookie) func(r *http.Request) {
	return func(r *http.Request) { r.AddCookie(cookie) }
}

func from(name, value string) func(r *http.Request) {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

var sameOrigin = from("Origin", "http://forebay.example")

// tryLogin sends the form.
func (d *door) tryLogin(form url.Values, edit ...func(r *http.Request)) *httptest.ResponseRecorder {
	asForm := from("Content-Type", "application/x-www-form-urlencoded")
	return d.ask("POST", "/login", "", form.Encode(), append([]func(r *http.Request){asForm, sameOrigin}, edit...)...)
}

func (d *door) logIn(key string) *http.Cookie {
	d.t.Helper()
	answer := d.tryLogin(url.Values{"key": {d.keys[key]}})
	require.Equal(d.t, http.StatusSeeOther, answer.Code, answer.Body)
	cookies := answer.Result().Cookies()
	require.Len(d.t, cookies, 1)
	return cookies[0]
}

func TestLogin(t *testing.T) {
	t.Parallel()
	d, server := embeddedDoor(t)
	page := d.ask("GET", "/login?next=/monitor", "", "")
	require.Equal(t, 200, page.Code)
	require.Contains(t, page.Body.String(), `name="next" value="/monitor"`)
	require.NotRegexp(t, `(src|href)="(https?:)?//|<script`, page.Body.String(), "nothing from elsewhere")
	policy := page.Header().Get("Content-Security-Policy")
	require.Contains(t, policy, "default-src 'none'")
	require.NotContains(t, policy, "unsafe")

	answer := d.tryLogin(url.Values{"key": {" " + d.keys["acme"] + "\n"}, "next": {"/docs/"}})
	require.Equal(t, 303, answer.Code)
	require.Equal(t, "/docs/", answer.Header().Get("Location"))
	cookie := answer.Result().Cookies()[0]
	require.True(t, cookie.HttpOnly)
	require.Equal(t, http.SameSiteStrictMode, cookie.SameSite)
	require.Equal(t, "/", cookie.Path)
	require.False(t, cookie.Secure, "over plain HTTP it would be dropped")
	key := d.keys["acme"]
	for part := range len(key) - 12 {
		require.NotContains(t, cookie.Value, key[part:part+12], "the key does not lie in the cookie")
	}
	require.NotContains(t, server.Dump(), cookie.Value, "nor the cookie in Redis")

	answer = d.ask("GET", "/login", "", "", withCookie(cookie))
	require.Contains(t, answer.Body.String(), d.ids["acme"])
	require.Contains(t, answer.Body.String(), "<b>acme</b>")
	require.Equal(t, 200, d.ask("GET", "/v1/jobs", "", "", withCookie(cookie)).Code)
	require.Equal(t, 401, d.ask("GET", "/v1/jobs", "bad", "", withCookie(cookie)).Code, "the header alone counts")
	require.Equal(t, 403, d.ask("GET", "/monitor", "", "", withCookie(cookie)).Code)

	// What changes something comes from our own pages.
	for _, row := range []struct {
		edit   func(r *http.Request)
		status int
	}{
		{sameOrigin, 201},
		{from("Sec-Fetch-Site", "same-origin"), 201},
		{func(*http.Request) {}, 403},
		{from("Origin", "http://evil.example"), 403},
		{from("Origin", "http://forebay.example:81"), 403},
		{from("Origin", "null"), 403},
		{from("Sec-Fetch-Site", "cross-site"), 403},
		{from("Sec-Fetch-Site", "same-site"), 403},
	} {
		answer := d.ask("POST", "/v1/jobs", "", someJob, withCookie(cookie), row.edit)
		require.Equal(t, row.status, answer.Code, answer.Body)
	}
	require.Equal(t, 403, d.tryLogin(url.Values{"key": {key}}, from("Origin", "http://evil.example")).Code)

	answer = d.ask("POST", "/logout", "", "", withCookie(cookie), from("Origin", "http://evil.example"))
	require.Equal(t, 403, answer.Code)
	answer = d.ask("POST", "/logout", "", "", withCookie(cookie), sameOrigin)
	require.Equal(t, 303, answer.Code)
	require.Negative(t, answer.Result().Cookies()[0].MaxAge)
	answer = d.ask("GET", "/v1/jobs", "", "", withCookie(cookie))
	require.Equal(t, 401, answer.Code, "the session has ended, whoever kept the cookie")
	require.Equal(t, "session_ended", codeOf(answer))
}

func TestSessionsEnd(t *testing.T) {
	t.Parallel()
	d, server := embeddedDoor(t)
	acme, operator := d.logIn("acme"), d.logIn("operator")
	_, err := d.store.Revoke(t.Context(), d.ids["acme"])
	require.NoError(t, err)
	require.Eventually(t, func() bool { return d.ask("GET", "/v1/jobs", "", "", withCookie(acme)).Code == 401 }, 10*time.Second, time.Millisecond,
		"with their key")
	require.Equal(t, 200, d.ask("GET", "/v1/jobs", "", "", withCookie(operator)).Code)
	server.FastForward(12*time.Hour + time.Second)
	require.Equal(t, 401, d.ask("GET", "/v1/jobs", "", "", withCookie(operator)).Code, "and by themselves")
	require.Equal(t, 401, d.ask("GET", "/v1/jobs", "", "", withCookie(&http.Cookie{Name: "forebay", Value: d.ids["operator"]})).Code)
}

func TestCookieUnderTLS(t *testing.T) {
	t.Parallel()
	d, _ := embeddedDoor(t)
	behindTLS := from("X-Forwarded-Proto", "https")
	answer := d.tryLogin(url.Values{"key": {d.keys["operator"]}}, behindTLS, from("Sec-Fetch-Site", "same-origin"))
	cookie := answer.Result().Cookies()[0]
	require.True(t, cookie.Secure)
	require.Equal(t, "__Host-forebay", cookie.Name)
	require.Equal(t, 200, d.ask("GET", "/v1/jobs", "", "", withCookie(cookie), behindTLS).Code)
	require.Equal(t, 401, d.ask("GET", "/v1/jobs", "", "", withCookie(cookie)).Code)
}

func TestPagesLeadToLogin(t *testing.T) {
	t.Parallel()
	d, _ := embeddedDoor(t)
	html := from("Accept", "text/html,*/*")
	answer := d.ask("GET", "/monitor/queues/default", "", "", html)
	require.Equal(t, 303, answer.Code)
	require.Equal(t, "/login?next=%2Fmonitor%2Fqueues%2Fdefault", answer.Header().Get("Location"))
	require.Equal(t, 401, d.ask("GET", "/v1/jobs", "", "", html).Code, "programs and what they ask are told")
	require.Equal(t, 401, d.ask("GET", "/monitor", "", "").Code)
}

// Whoever follows a link to the login page comes to no other site.
func TestNoOpenRedirect(t *testing.T) {
	t.Parallel()
	d, _ := embeddedDoor(t)
	for _, next := range []string{
		"https://evil.example", "//evil.example", "/\\evil.example", "\\\\evil.example", "/\t/evil.example", "/%2f/evil.example",
		"/%5cevil.example", "///evil.example", "/.//evil.example", "/..//evil.example", "javascript:alert(1)", "data:text/html,x", "", "/", ".", "/logout", "/logout?x=1",
		"/@evil.example", " /monitor", "/monitor\r\nSet-Cookie: a=b", "/?//evil.example", "/monitor?x=<", "/monitor#x", strings.Repeat("/x", 400), "http:/evil.example",
	} {
		answer := d.tryLogin(url.Values{"key": {d.keys["operator"]}, "next": {next}})
		require.Equal(t, 303, answer.Code)
		require.Equal(t, "/", answer.Header().Get("Location"), "%q", next)
	}
	for _, next := range []string{"/monitor", "/jobs?status=failed&code=a_b", "/monitor?x=1", "/monitor/queues/default/tasks/a-b_c:2", "/docs/"} {
		require.Equal(t, next, d.tryLogin(url.Values{"key": {d.keys["operator"]}, "next": {next}}).Header().Get("Location"))
	}
}

func FuzzNoOpenRedirect(f *testing.F) {
	for _, next := range []string{"/monitor", "//evil.example", "/\\evil.example", "/monitor/../..//evil.example", "/a:b@c"} {
		f.Add(next)
	}
	base, _ := url.Parse("http://forebay.example/login")
	// A browser drops tabs and line breaks, and takes a backslash for a slash.
	asBrowser := strings.NewReplacer("\t", "", "\n", "", "\r", "", "\\", "/")
	f.Fuzz(func(t *testing.T, next string) {
		to, err := base.Parse(asBrowser.Replace(httpapi.LocalPath(next)))
		require.NoError(t, err)
		require.Equal(t, "forebay.example", to.Host)
		require.Equal(t, "http", to.Scheme)
	})
}

// Logins that fail are slowed down by the address they come from, and nobody else's are.
func TestFailingLogins(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client, _ := redistest.InBubble(t)
		_, text, err := apikeys.New(client, keyspace.New("")).Create(t.Context(), apikeys.Key{Operator: true})
		require.NoError(t, err)
		auth, err := httpapi.NewAuth(t.Context(), httpapi.AuthConfig{Redis: client, Address: onNetwork})
		require.NoError(t, err)
		defer auth.Close()
		d := &door{t: t, handler: auth.Authenticate(http.NotFoundHandler()), keys: map[string]string{}}
		try := func(remote, key string) *httptest.ResponseRecorder {
			return d.tryLogin(url.Values{"key": {key}}, func(r *http.Request) { r.RemoteAddr = remote })
		}
		for range 30 {
			require.Equal(t, 303, try("192.0.2.1:1", text).Code, "those that succeed are not counted")
		}
		for i := range 10 {
			answer := try(fmt.Sprintf("192.0.2.1:%d", i+1), "fbk_guess")
			require.Equal(t, 401, answer.Code)
			require.NotContains(t, answer.Body.String(), "fbk_guess")
		}
		answer := try("192.0.2.1:99", text)
		require.Equal(t, 429, answer.Code, "and the right key is not looked at, either")
		require.Equal(t, "60", answer.Header().Get("Retry-After"))
		require.Contains(t, codesOf(try, text, "192.0.2.2:1", "192.0.2.3:1", "192.0.2.4:1"), 303, "others are not kept out")
		for i := range 10 {
			try(fmt.Sprintf("[2001:db8::%x]:1", i+1), "x")
		}
		require.Equal(t, 429, try("[2001:db8::ffff]:1", text).Code, "one network of IPv6 is one client")
		require.Contains(t, codesOf(try, text, "[2001:db8:0:1::1]:1", "[2001:db8:0:2::1]:1", "[2001:db8:0:3::1]:1"), 303)
		time.Sleep(time.Minute)
		require.Equal(t, 303, try("192.0.2.1:1", text).Code)
	})
}

// codesOf are the answers to logins from several addresses: one in some thousands shares the tries of another by chance.
func codesOf(try func(remote, key string) *httptest.ResponseRecorder, key string, remotes ...string) []int {
	var codes []int
	for _, remote := range remotes {
		codes = append(codes, try(remote, key).Code)
	}
	return codes
}

func TestLoginForms(t *testing.T) {
	t.Parallel()
	d, _ := embeddedDoor(t)
	for name, body := range map[string]string{
		"empty": "", "no key": "next=/monitor", "large": "key=" + strings.Repeat("x", 1<<20), "broken": "key=%zz",
	} {
		answer := d.ask("POST", "/login", "", body, from("Content-Type", "application/x-www-form-urlencoded"), sameOrigin)
		require.Contains(t, []int{400, 401}, answer.Code, name)
		require.Contains(t, answer.Body.String(), `role="alert"`, name)
	}
	answer := d.tryLogin(url.Values{"key": {`"><script>alert(1)</script>`}, "next": {`"><script>`}})
	assert.NotContains(t, answer.Body.String(), "<script>")
	answer = d.ask("POST", "/login?key="+d.keys["operator"], "", "", sameOrigin)
	assert.Equal(t, 401, answer.Code, "a key in an address would lie in logs and histories")
}
