package jobstore

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// A place in a list is that of a job, and in the list of one tenant it may be another tenant's: cursors of such lists
// are sealed, by a secret of the deployment, so that every process reads those of all.

// seals is the cipher of the deployment's cursors.
func (s *Store) seals(ctx context.Context) (cipher.AEAD, error) {
	s.sealing.Lock()
	defer s.sealing.Unlock()
	if s.seal != nil {
		return s.seal, nil
	}
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // it never fails
	key := s.keys.CursorSecret()
	var stands *redis.StringCmd
	if _, err := s.redis.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		pipe.SetNX(ctx, key, secret, 0)
		stands = pipe.Get(ctx, key)
		return nil
	}); err != nil {
		return nil, fmt.Errorf("read the secret of cursors: %w", err)
	}
	secret = []byte(stands.Val())
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil, fmt.Errorf("the secret of cursors in Redis has %d bytes instead of 32; delete %s", len(secret), key)
	}
	s.seal, err = cipher.NewGCMWithRandomNonce(block)
	return s.seal, err
}

// sealed makes a cursor of a tenant's list unreadable; that of everybody's stays as it is.
func (s *Store) sealed(ctx context.Context, cursor, tenant string) (string, error) {
	if cursor == "" || tenant == "" {
		return cursor, nil
	}
	seal, err := s.seals(ctx)
	if err != nil {
		return "", err
	}
	text := seal.Seal(nil, nil, []byte(cursor), []byte(tenant)) //nolint:gosec // this cipher makes its nonce, a random one, itself
	return base64.RawURLEncoding.EncodeToString(text), nil
}

// unsealed reads what sealed has made for the same tenant.
func (s *Store) unsealed(ctx context.Context, cursor, tenant string) (string, error) {
	if cursor == "" || tenant == "" {
		return cursor, nil
	}
	seal, err := s.seals(ctx)
	if err != nil {
		return "", err
	}
	text, err := base64.RawURLEncoding.DecodeString(cursor)
	if err == nil {
		text, err = seal.Open(nil, nil, text, []byte(tenant))
	}
	if err != nil {
		return "", errCursor()
	}
	return string(text), nil
}
