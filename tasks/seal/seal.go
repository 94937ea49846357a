// Package seal encrypts what Forebay keeps of requests and results (encryption at rest). A Sealer has a list of keys:
// the first one seals, all of them open, which is how keys are rotated.
//
// A sealed text is JSON, so that a reader in any language sees what it is:
//
//	{"sealed":"<key id>:<base64>"}
//
// What is in the base64 is XChaCha20-Poly1305's nonce and ciphertext, as tink writes them, under a key that is derived
// (HKDF-SHA-256) from the configured one. The place of the text, its key in Redis and its field, is authenticated with
// it: put anywhere else, it does not open. Nonces are random and of 24 bytes, so that any number of texts may be sealed
// under one key.
//
// A text that is not sealed is read as it stands, so that encryption can be turned on while jobs are queued. It follows
// that sealing hides texts from whoever reads Redis, and is no proof that one who may write there has not replaced them.
package seal

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"

	aead "github.com/tink-crypto/tink-go/v2/aead/subtle"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// KeyBytes is the length of a key.
const KeyBytes = 32

// checkBytes are so few that a check cannot be turned into anything else.
const checkBytes = 4

// fewestDistinct is how many different bytes a key must have: of random ones, fewer are met never, of placeholders and
// repeated words always.
const fewestDistinct = 12

// ErrUnreadable is wrapped by every error of a text that is sealed and cannot be opened here.
var ErrUnreadable = errors.New("it is sealed, and cannot be opened here")

// Error says why a sealed text cannot be opened. It holds nothing of the text.
type Error struct {
	// KeyID names the key that it is sealed under; empty where that cannot be read.
	KeyID string
	// Problem says what is wrong, and what to do.
	Problem string
}

// Error implements error.
func (e *Error) Error() string {
	if e.KeyID == "" {
		return "sealed, and " + e.Problem
	}
	return "sealed under the key " + e.KeyID + ", " + e.Problem
}

// Unwrap makes it an ErrUnreadable.
func (e *Error) Unwrap() error { return ErrUnreadable }

// Key is one key and the name by which texts say that it sealed them.
type Key struct {
	// ID is 1 to 64 characters of A-Z a-z 0-9 _ . -, the first of them a letter or a digit. It is no secret.
	ID string
	// Secret is KeyBytes random bytes.
	Secret []byte
}

var idPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)

// ValidID tells whether a text can be a key's id.
func ValidID(id string) bool { return idPattern.MatchString(id) }

// NewKey makes a key, as ParseKey reads it: 44 characters.
func NewKey() string {
	secret := make([]byte, KeyBytes)
	_, _ = rand.Read(secret) // it never fails
	return base64.StdEncoding.EncodeToString(secret)
}

// ParseKey reads a key: 32 random bytes in base64, of either alphabet, with padding or without. The error says what is
// wrong with it and repeats nothing of it.
func ParseKey(text string) ([]byte, error) {
	text = strings.TrimRight(strings.TrimRight(text, "\r\n"), "=")
	encoding := base64.RawStdEncoding.Strict()
	if strings.ContainsAny(text, "-_") {
		encoding = base64.RawURLEncoding.Strict()
	}
	secret, err := encoding.DecodeString(text)
	switch {
	case text == "":
		return nil, errors.New("is not set or empty")
	case err != nil:
		return nil, errors.New("holds what is no base64")
	case len(secret) != KeyBytes:
		return nil, fmt.Errorf("holds %d bytes in base64, and a key has %d", len(secret), KeyBytes)
	}
	return secret, checkSecret(secret)
}

func checkSecret(secret []byte) error {
	distinct := map[byte]bool{}
	for _, b := range secret {
		distinct[b] = true
	}
	if len(distinct) < fewestDistinct {
		return errors.New("holds a placeholder, or a key that is not random")
	}
	return nil
}

// Sealer seals and opens. Nil is one without keys, which leaves texts as they are and opens none. It may be used by any
// number of goroutines.
type Sealer struct {
	keys []key // the first one seals
}

// key is what is derived from a Key.
type key struct {
	id      string
	texts   tink.AEAD
	prints  []byte
	streams []byte
	check   string
}

// New returns a Sealer. The first of the keys seals, and all of them open.
func New(keys ...Key) (*Sealer, error) {
	if len(keys) == 0 {
		return nil, errors.New("seal: there must be a key")
	}
	s := &Sealer{}
	secrets := map[string]string{}
	for _, k := range keys {
		switch other, again := secrets[string(k.Secret)]; {
		case !ValidID(k.ID):
			return nil, fmt.Errorf("seal: the id of a key must be 1 to 64 characters of A-Z a-z 0-9 _ . -, the first a letter or a digit, got %.70q", k.ID)
		case s.find(k.ID) != nil:
			return nil, fmt.Errorf("seal: two keys have the id %s", k.ID)
		case len(k.Secret) != KeyBytes:
			return nil, fmt.Errorf("seal: the key %s has %d bytes instead of %d", k.ID, len(k.Secret), KeyBytes)
		case again:
			return nil, fmt.Errorf("seal: the keys %s and %s are the same", other, k.ID)
		}
		secrets[string(k.Secret)] = k.ID
		derived, err := derive(k)
		if err != nil {
			return nil, fmt.Errorf("seal: the key %s: %w", k.ID, err)
		}
		s.keys = append(s.keys, derived)
	}
	return s, nil
}

// derive makes one key for each use of a secret, so that none of them tells anything about another.
func derive(from Key) (key, error) {
	if err := checkSecret(from.Secret); err != nil {
		return key{}, err
	}
	var derived [3][]byte
	for i, use := range []string{"forebay texts v1", "forebay fingerprints v1", "forebay files v1"} {
		var err error
		if derived[i], err = hkdf.Key(sha256.New, from.Secret, nil, use, KeyBytes); err != nil {
			return key{}, err
		}
	}
	check, err := hkdf.Key(sha256.New, from.Secret, nil, "forebay checks v1", checkBytes)
	if err != nil {
		return key{}, err
	}
	texts, err := aead.NewXChaCha20Poly1305(derived[0])
	return key{id: from.ID, texts: texts, prints: derived[1], streams: derived[2], check: hex.EncodeToString(check)}, err
}

func (s *Sealer) find(id string) *key {
	if s == nil {
		return nil
	}
	for i := range s.keys {
		if s.keys[i].id == id {
			return &s.keys[i]
		}
	}
	return nil
}

// Checks are short values by which the keys of two Sealers can be compared, by their ids: other values are other keys. They
// tell nothing of the keys.
func (s *Sealer) Checks() map[string]string {
	if s == nil {
		return nil
	}
	checks := map[string]string{}
	for _, k := range s.keys {
		checks[k.id] = k.check
	}
	return checks
}

// IDs are those of the keys, the one that seals first.
func (s *Sealer) IDs() []string {
	if s == nil {
		return nil
	}
	ids := make([]string, len(s.keys))
	for i, k := range s.keys {
		ids[i] = k.id
	}
	return ids
}

const (
	opening = `{"sealed":"`
	closing = `"}`
	// unsealedID stands for a text that is not sealed and only looks as if it were.
	unsealedID = "-"
)

// Sealed tells whether a text is sealed, or claims to be.
func Sealed(text string) bool { return strings.HasPrefix(text, opening) }

// Seal seals the text that is to stand in a field of a key of Redis; an empty one stays empty. Without keys it returns
// the text itself. The key's name must stay what it is: a record that was renamed cannot be opened.
func (s *Sealer) Seal(name, field, text string) (string, error) {
	switch {
	case text == "":
		return "", nil
	case s != nil:
		sealed, err := s.keys[0].texts.Encrypt([]byte(text), place(name, field))
		if err != nil {
			return "", fmt.Errorf("seal field %s: %w", field, err)
		}
		return written(s.keys[0].id, sealed), nil
	case Sealed(text):
		return written(unsealedID, []byte(text)), nil // or it would be taken for sealed when it is read
	}
	return text, nil
}

// Open returns what Seal was given for the same place; a text that is not sealed is returned as it stands. The error is
// an *Error.
func (s *Sealer) Open(name, field, text string) (string, error) {
	if !Sealed(text) {
		return text, nil
	}
	id, encoded, found := strings.Cut(strings.TrimSuffix(text[len(opening):], closing), ":")
	if !found || !strings.HasSuffix(text, closing) || id != unsealedID && !ValidID(id) {
		return "", &Error{Problem: "it cannot be read by which key: it was damaged, or written by something else"}
	}
	sealed, err := base64.RawStdEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return "", &Error{KeyID: id, Problem: "and damaged: what is sealed is no base64"}
	}
	if id == unsealedID {
		return string(sealed), nil
	}
	known := s.find(id)
	if known == nil {
		return "", s.missing(id)
	}
	opened, err := known.texts.Decrypt(sealed, place(name, field))
	if err != nil {
		return "", &Error{KeyID: id, Problem: "and does not open with it: it was damaged or belongs to another place, or the key of that id is another one"}
	}
	return string(opened), nil
}

// missing says that a key is not there.
func (s *Sealer) missing(id string) *Error {
	has := "which this process does not have, nor any other"
	if ids := s.IDs(); len(ids) > 0 {
		has = "which this process does not have (it has " + strings.Join(ids, ", ") + ")"
	}
	return &Error{KeyID: id, Problem: has + "; name it under encryption.keys in the configuration"}
}

// place is what is authenticated with a text. No name of a key or field has a NUL in it.
func place(name, field string) []byte { return []byte(name + "\x00" + field) }

func written(id string, sealed []byte) string {
	text := make([]byte, 0, len(opening)+len(id)+1+base64.RawStdEncoding.EncodedLen(len(sealed))+len(closing))
	text = append(append(append(text, opening...), id...), ':')
	text = base64.RawStdEncoding.AppendEncode(text, sealed)
	return string(append(text, closing...))
}

// Fingerprint is what is kept of a hash, so that it does not tell whether somebody has guessed what was hashed: an HMAC
// of it and of the key of Redis that it is kept under. Others are the same under the further keys, and the hash itself:
// what may have been kept of it before the keys were rotated, or turned on. Without keys it is the hash.
func (s *Sealer) Fingerprint(name, hash string) (kept string, others []string) {
	if s == nil {
		return hash, nil
	}
	for i, k := range s.keys {
		mac := hmac.New(sha256.New, k.prints)
		mac.Write(place(name, hash))
		text := k.id + ":" + hex.EncodeToString(mac.Sum(nil)[:16])
		if i == 0 {
			kept = text
			continue
		}
		others = append(others, text)
	}
	return kept, append(others, hash)
}
