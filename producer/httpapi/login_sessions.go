package httpapi

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks/keyspace"
)

const (
	// sessionFor is how long a browser stays logged in.
	sessionFor = 12 * time.Hour
	// sessionWithin bounds a look at a session.
	sessionWithin = 2 * time.Second
)

var errNoSession = errors.New("the session has ended; log in again at " + loginPath)

// sessions say with which key a browser has logged in. The cookie is a random text and says nothing; Redis holds its
// digest with the key's id, so that neither holds what could be used in the other's place. A session ends with its time,
// its key, or by logging out.
type sessions struct {
	client redis.UniversalClient
	keys   keyspace.Keyspace
}

// begin makes a session of a key and returns the cookie's value.
func (s sessions) begin(ctx context.Context, key string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, sessionWithin)
	defer cancel()
	value := rand.Text() + rand.Text()
	return value, s.client.Set(ctx, s.key(value), key, sessionFor).Err()
}

// find returns the id of the key of a session, or errNoSession.
func (s sessions) find(ctx context.Context, value string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, sessionWithin)
	defer cancel()
	id, err := s.client.Get(ctx, s.key(value)).Result()
	if errors.Is(err, redis.Nil) {
		err = errNoSession
	}
	return id, err
}

func (s sessions) end(ctx context.Context, value string) error {
	ctx, cancel := context.WithTimeout(ctx, sessionWithin)
	defer cancel()
	return s.client.Del(ctx, s.key(value)).Err()
}

func (s sessions) key(value string) string {
	digest := sha256.Sum256([]byte(value))
	return s.keys.Session(hex.EncodeToString(digest[:]))
}

// secure tells whether the browser speaks TLS, to us or to a proxy before us. What a client lies about here concerns its
// own cookie only.
func secure(r *http.Request) bool {
	return r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https"
}

// cookieName is bound to this very host where the browser can be told so.
func cookieName(r *http.Request) string {
	if secure(r) {
		return "__Host-forebay"
	}
	return "forebay"
}

// sessionCookie is the cookie of a session; an empty value takes it away.
func sessionCookie(r *http.Request, value string) *http.Cookie {
	cookie := &http.Cookie{
		Name: cookieName(r), Value: value, Path: "/", MaxAge: int(sessionFor.Seconds()),
		HttpOnly: true, Secure: secure(r), SameSite: http.SameSiteStrictMode,
	}
	if value == "" {
		cookie.MaxAge = -1
	}
	return cookie
}
