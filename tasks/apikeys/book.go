package apikeys

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks/keyspace"
)

const (
	// ReadEvery is how often a Book reads the keys.
	ReadEvery = 2 * time.Second
	// StaleAfter is how long what a Book has read holds: when Redis has not answered for longer, nobody is let in by
	// keys that may have been revoked since.
	StaleAfter = 5 * time.Second

	readWithin = 2 * time.Second
)

var (
	// ErrUnknown is of a key that there is not: mistyped, revoked, or never made.
	ErrUnknown = errors.New("this API key is not known; it may have been revoked")
	// ErrExpired is of a key whose time is over.
	ErrExpired = errors.New("this API key has expired")
	// ErrStale is of a Book that could not read the keys for StaleAfter.
	ErrStale = errors.New("the API keys cannot be read now")
)

// Book is a copy of all keys in the process, so that a request costs no round trip: neither one with a key nor one with
// a guess. It is read again every ReadEvery, and at once when a key is created or revoked. It holds the keys that there
// are and remembers nothing of those that were asked for.
type Book struct {
	client redis.UniversalClient
	keys   keyspace.Keyspace

	mu     sync.Mutex // of reading
	page   atomic.Pointer[page]
	cancel context.CancelFunc
	ended  chan struct{}
}

// page is what was read at one time.
type page struct {
	read    time.Time
	any     bool
	entries map[string]entry
}

type entry struct {
	key    Key
	digest Digest
	value  string // as it stands in Redis
}

// OpenBook reads the keys, and keeps its copy of them fresh until Close.
func OpenBook(ctx context.Context, client redis.UniversalClient, keys keyspace.Keyspace) (*Book, error) {
	b := &Book{client: client, keys: keys, ended: make(chan struct{})}
	b.page.Store(&page{})
	if err := b.Refresh(ctx); err != nil {
		return nil, err
	}
	follow, cancel := context.WithCancel(context.WithoutCancel(ctx))
	b.cancel = cancel
	go b.follow(follow)
	return b, nil
}

// Close ends the reading. It may be called again.
func (b *Book) Close() {
	b.cancel()
	<-b.ended
}

// Refresh reads the keys now.
func (b *Book) Refresh(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, readWithin)
	defer cancel()
	// The copy is as old as the question: the answer may have been on its way for a while.
	next := &page{read: time.Now(), entries: map[string]entry{}}
	values, err := b.client.HGetAll(ctx, b.keys.Keys()).Result()
	if err != nil {
		return fmt.Errorf("read the API keys: %w", err)
	}
	before := b.page.Load().entries
	// What cannot be read is nobody's key, but there is one: the door stays shut.
	next.any = len(values) > 0
	for id, value := range values {
		known, found := before[id]
		if found && known.value == value {
			next.entries[id] = known
			continue
		}
		if key, digest, err := decode(id, value); err == nil {
			next.entries[id] = entry{key: key, digest: digest, value: value}
		}
	}
	b.page.Store(next)
	return nil
}

func (b *Book) follow(ctx context.Context) {
	defer close(b.ended)
	changes := b.client.Subscribe(ctx, b.keys.KeysChanged())
	defer changes.Close()
	told := changes.Channel()
	ticker := time.NewTicker(ReadEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-told:
		}
		_ = b.Refresh(ctx) // StaleAfter says what follows when it goes on failing
	}
}

// Any tells whether there is any key, be it one that has expired.
func (b *Book) Any() (bool, error) {
	page := b.page.Load()
	if time.Since(page.read) > StaleAfter {
		return false, ErrStale
	}
	return page.any, nil
}

// Verify finds the key of a text: ErrUnknown, ErrExpired, or ErrStale where there is none now. No error repeats the text.
func (b *Book) Verify(text string) (Key, error) {
	page := b.page.Load()
	id, digest, ok := parseText(text)
	// An id that is not known is compared with zeros, which no secret's digest is, and costs the same.
	known := page.entries[id]
	same := subtle.ConstantTimeCompare(digest[:], known.digest[:]) == 1
	switch {
	case time.Since(page.read) > StaleAfter:
		return Key{}, ErrStale
	case !ok || !same || known.key.ID == "":
		return Key{}, ErrUnknown
	case known.key.Expired(time.Now()):
		return Key{}, ErrExpired
	}
	return known.key, nil
}

// Find finds a key by its id, for those who have shown its secret before: the same errors as Verify's.
func (b *Book) Find(id string) (Key, error) {
	page := b.page.Load()
	known, found := page.entries[id]
	switch {
	case time.Since(page.read) > StaleAfter:
		return Key{}, ErrStale
	case !found:
		return Key{}, ErrUnknown
	case known.key.Expired(time.Now()):
		return Key{}, ErrExpired
	}
	return known.key, nil
}
