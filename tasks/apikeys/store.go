package apikeys

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

const (
	maxName = 100
	// maxKeys bounds what every process of a fleet reads every few seconds.
	maxKeys = 10_000
)

// Key is what is known of a key. Its secret is not.
type Key struct {
	ID string `json:"id"`
	// Tenant is whose jobs the key sees and makes; empty for an Operator's, which sees all.
	Tenant   string `json:"tenant,omitempty"`
	Operator bool   `json:"operator,omitempty"`
	// Write tells that the key may change something.
	Write     bool      `json:"write"`
	Name      string    `json:"name,omitempty"`
	CreatedAt time.Time `json:"created_at"`
	// ExpiresAt is nil for a key that holds until it is revoked.
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
}

// Expired tells whether the key's time was over at a time.
func (k Key) Expired(at time.Time) bool { return k.ExpiresAt != nil && !at.Before(*k.ExpiresAt) }

func (k Key) validate() error {
	switch {
	case k.Operator && k.Tenant != "":
		return errors.New("a key is an operator's or a tenant's, not both")
	case !k.Operator && !tasks.ValidName(k.Tenant):
		return fmt.Errorf("the tenant of a key must be 1 to 64 characters of A-Z a-z 0-9 _ . -, got %.70q", k.Tenant)
	case utf8.RuneCountInString(k.Name) > maxName || !utf8.ValidString(k.Name) || containsControl(k.Name):
		return fmt.Errorf("the name of a key must be a text of one line, up to %d characters", maxName)
	case k.Expired(k.CreatedAt):
		return errors.New("the key would have expired before it is made")
	}
	return nil
}

func containsControl(text string) bool { return slices.ContainsFunc([]rune(text), unicode.IsControl) }

// stored is a key at rest.
type stored struct {
	Hash string `json:"hash"`
	Key
}

// Store creates, lists and revokes keys. It may be used by any number of goroutines.
type Store struct {
	client redis.UniversalClient
	keys   keyspace.Keyspace
}

// New returns the Store of the deployment whose keyspace this is.
func New(client redis.UniversalClient, keys keyspace.Keyspace) *Store {
	return &Store{client: client, keys: keys}
}

// Create makes a key of what is asked for; ID and CreatedAt are set here. The text is what its owner sends. It is
// returned this once, and nobody can find it again.
func (s *Store) Create(ctx context.Context, asked Key) (made Key, text string, err error) {
	asked.CreatedAt = time.Now().UTC().Truncate(time.Second)
	if err := asked.validate(); err != nil {
		return Key{}, "", err
	}
	id, text, digest := newText()
	asked.ID = id
	value, err := tasks.Encode(stored{Hash: hex.EncodeToString(digest[:]), Key: asked})
	if err != nil {
		return Key{}, "", fmt.Errorf("create a key: %w", err)
	}
	count, err := s.client.HLen(ctx, s.keys.Keys()).Result()
	if err == nil && count >= maxKeys {
		return Key{}, "", fmt.Errorf("there are %d API keys, and no more are kept: revoke some first", count)
	}
	if err == nil {
		err = s.client.HSet(ctx, s.keys.Keys(), id, value).Err()
	}
	if err != nil {
		return Key{}, "", fmt.Errorf("create a key: %w", err)
	}
	s.publish(ctx)
	return asked, text, nil
}

// List lists all keys, the newest first. What is no key is an error that names it.
func (s *Store) List(ctx context.Context) ([]Key, error) {
	entries, err := s.client.HGetAll(ctx, s.keys.Keys()).Result()
	if err != nil {
		return nil, fmt.Errorf("list the API keys: %w", err)
	}
	list := make([]Key, 0, len(entries))
	var problems []error
	for id, value := range entries {
		key, _, err := decode(id, value)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		list = append(list, key)
	}
	slices.SortFunc(list, func(a, b Key) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	return list, errors.Join(problems...)
}

// Revoke takes a key away. It tells whether there was one. Processes that run Books know at once, or within StaleAfter
// where Pub/Sub has lost the message.
func (s *Store) Revoke(ctx context.Context, id string) (bool, error) {
	removed, err := s.client.HDel(ctx, s.keys.Keys(), id).Result()
	if err != nil {
		return false, fmt.Errorf("revoke the API key %.20s: %w", id, err)
	}
	s.publish(ctx)
	return removed > 0, nil
}

// publish tells the Books of a change that was written; they find what it misses by themselves.
func (s *Store) publish(ctx context.Context) {
	_ = s.client.Publish(ctx, s.keys.KeysChanged(), "").Err()
}

// decode reads a key at rest. Its errors show nothing of the value.
func decode(id, value string) (Key, Digest, error) {
	var kept stored
	var digest Digest
	if err := json.Unmarshal([]byte(value), &kept); err != nil {
		return Key{}, digest, fmt.Errorf("the API key %.20q cannot be read; revoke it and create another", id)
	}
	n, err := hex.Decode(digest[:], []byte(kept.Hash[:min(len(kept.Hash), 2*len(digest))]))
	if kept.ID != id || err != nil || n != len(digest) || kept.validate() != nil {
		return Key{}, Digest{}, fmt.Errorf("the API key %.20q cannot be read; revoke it and create another", id)
	}
	return kept.Key, digest, nil
}
