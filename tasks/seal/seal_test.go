package seal

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// secret is a key that is the same in every run.
func secret(first byte) []byte {
	bytes := make([]byte, KeyBytes)
	for i := range bytes {
		bytes[i] = first + byte(i)*7
	}
	return bytes
}

func sealer(t testing.TB, ids ...string) *Sealer {
	t.Helper()
	keys := make([]Key, len(ids))
	for i, id := range ids {
		keys[i] = Key{ID: id, Secret: secret(id[len(id)-1])}
	}
	s, err := New(keys...)
	require.NoError(t, err)
	return s
}

const (
	name = "forebay:{job:7}"
	text = `{"input":"a prompt that nobody else reads"}`
)

func TestSealAndOpen(t *testing.T) {
	t.Parallel()
	s := sealer(t, "k1")
	for _, plain := range []string{text, "a word", "\x00\xff", `{"sealed":"k1:AAAA"}`, strings.Repeat("long ", 1<<16)} {
		sealed, err := s.Seal(name, "job", plain)
		require.NoError(t, err)
		assert.True(t, Sealed(sealed))
		assert.NotContains(t, sealed, plain)
		var shown struct{ Sealed string }
		require.NoError(t, json.Unmarshal([]byte(sealed), &shown), "it is JSON")
		assert.True(t, strings.HasPrefix(shown.Sealed, "k1:"))
		opened, err := s.Open(name, "job", sealed)
		require.NoError(t, err)
		assert.Equal(t, plain, opened)

		again, err := s.Seal(name, "job", plain)
		require.NoError(t, err)
		assert.NotEqual(t, sealed, again, "what is the same is not seen to be")
	}
	empty, err := s.Seal(name, "job", "")
	require.NoError(t, err)
	assert.Empty(t, empty)
}

// What was sealed once is opened by every later version.
func TestSealedGolden(t *testing.T) {
	t.Parallel()
	const golden = `{"sealed":"k1:NSW8NLY2Sf6Z5JzWcUQSpIPwR4V7RbWENqdwcefRVSJ9ixNRCj/Vw2/olANk"}`
	opened, err := sealer(t, "k1").Open(name, "job", golden)
	require.NoError(t, err)
	assert.Equal(t, "plain", opened)
	kept, others := sealer(t, "k1").Fingerprint(name, "0123")
	assert.Equal(t, "k1:62950f8dd2178ba388c925b13b3c00a8", kept)
	assert.Equal(t, []string{"0123"}, others)
}

func TestRotation(t *testing.T) {
	t.Parallel()
	before, both, after := sealer(t, "k1"), sealer(t, "k2", "k1"), sealer(t, "k2")
	assert.Equal(t, []string{"k2", "k1"}, both.IDs())
	old, err := before.Seal(name, "job", text)
	require.NoError(t, err)
	opened, err := both.Open(name, "job", old)
	require.NoError(t, err)
	assert.JSONEq(t, text, opened)

	fresh, err := both.Seal(name, "job", text)
	require.NoError(t, err)
	assert.True(t, strings.HasPrefix(fresh, `{"sealed":"k2:`), "the first key seals")
	opened, err = after.Open(name, "job", fresh)
	require.NoError(t, err)
	assert.JSONEq(t, text, opened)

	_, err = after.Open(name, "job", old)
	require.ErrorIs(t, err, ErrUnreadable)
	require.EqualError(t, err, "sealed under the key k1, which this process does not have (it has k2); name it under encryption.keys in the configuration")
	_, err = (*Sealer)(nil).Open(name, "job", old)
	require.ErrorIs(t, err, ErrUnreadable)
	require.ErrorContains(t, err, "the key k1, which this process does not have, nor any other")
}

// A sealed text belongs to its place.
func TestMovedAndDamaged(t *testing.T) {
	t.Parallel()
	s := sealer(t, "k1")
	sealed, err := s.Seal(name, "job", text)
	require.NoError(t, err)
	damaged := []byte(sealed)
	damaged[len(damaged)/2] ^= 1
	other, err := New(Key{ID: "k1", Secret: secret(200)})
	require.NoError(t, err)
	for what, open := range map[string]func() (string, error){
		"another field":      func() (string, error) { return s.Open(name, "result", sealed) },
		"another job":        func() (string, error) { return s.Open("forebay:{job:8}", "job", sealed) },
		"another deployment": func() (string, error) { return s.Open("other:{job:7}", "job", sealed) },
		"damaged":            func() (string, error) { return s.Open(name, "job", string(damaged)) },
		"cut off":            func() (string, error) { return s.Open(name, "job", sealed[:len(sealed)/2]) },
		"cut short":          func() (string, error) { return s.Open(name, "job", sealed[:20]+`"}`) },
		"no key":             func() (string, error) { return s.Open(name, "job", `{"sealed":"AAAA"}`) },
		"another key":        func() (string, error) { return other.Open(name, "job", sealed) },
	} {
		opened, err := open()
		require.ErrorIs(t, err, ErrUnreadable, what)
		var known *Error
		require.ErrorAs(t, err, &known, what)
		assert.Empty(t, opened, what)
	}
}

// Without keys texts stay as they are, also those that look sealed.
func TestWithoutKeys(t *testing.T) {
	t.Parallel()
	var none *Sealer
	for _, plain := range []string{"", text, `{"sealed":"k1:AAAA"}`, `{"sealed":"`} {
		kept, err := none.Seal(name, "response", plain)
		require.NoError(t, err)
		if !Sealed(plain) {
			assert.Equal(t, plain, kept)
		}
		for _, reader := range []*Sealer{none, sealer(t, "k1")} { // also once encryption is turned on
			opened, err := reader.Open(name, "response", kept)
			require.NoError(t, err)
			assert.Equal(t, plain, opened)
		}
	}
	assert.Empty(t, none.IDs())
}

func TestFingerprint(t *testing.T) {
	t.Parallel()
	const hash = "0123456789abcdef0123456789abcdef"
	kept, others := (*Sealer)(nil).Fingerprint(name, hash)
	assert.Equal(t, hash, kept)
	assert.Empty(t, others)

	one, _ := sealer(t, "k1").Fingerprint(name, hash)
	assert.Regexp(t, `^k1:[0-9a-f]{32}$`, one)
	two, others := sealer(t, "k2", "k1").Fingerprint(name, hash)
	assert.Regexp(t, `^k2:[0-9a-f]{32}$`, two)
	assert.Equal(t, []string{one, hash}, others, "what older keys have written, and what was written without keys, is known again")
	elsewhere, _ := sealer(t, "k1").Fingerprint("forebay:{job:8}", hash)
	assert.NotEqual(t, one, elsewhere, "two jobs that ask the same are not seen to")
	another, _ := sealer(t, "k1").Fingerprint(name, strings.Repeat("0", 32))
	assert.NotEqual(t, one, another)
}

func TestKeys(t *testing.T) {
	t.Parallel()
	made := NewKey()
	assert.Len(t, made, 44)
	assert.NotEqual(t, made, NewKey())
	parsed, err := ParseKey(made)
	require.NoError(t, err)
	for _, form := range []string{made + "\n", made + "\r\n", strings.TrimRight(made, "="), base64.URLEncoding.EncodeToString(parsed)} {
		again, err := ParseKey(form)
		require.NoError(t, err)
		assert.Equal(t, parsed, again)
	}
	for wrong, problem := range map[string]string{
		"":                      "is not set or empty",
		"\n":                    "is not set or empty",
		"<your key>":            "is no base64",
		made + " ":              "is no base64",
		made[:43] + "*":         "is no base64",
		strings.Repeat("A", 22): "holds 16 bytes in base64, and a key has 32",
		strings.Repeat("A", 43): "placeholder",
		strings.Repeat("x", 44): "holds 33 bytes in base64, and a key has 32",
		"changemechangemechangemechangemechangemechg": "placeholder",
	} {
		_, err := ParseKey(wrong)
		require.ErrorContains(t, err, problem, wrong)
		if len(wrong) > 8 {
			assert.NotContains(t, err.Error(), wrong[:8], "nothing of a key is repeated")
		}
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	good := Key{ID: "k1", Secret: secret(1)}
	for problem, keys := range map[string][]Key{
		"there must be a key":               nil,
		"the id of a key must be":           {{ID: "-", Secret: secret(1)}},
		`got "a:b"`:                         {{ID: "a:b", Secret: secret(1)}},
		"two keys have the id k1":           {good, {ID: "k1", Secret: secret(2)}},
		"the key k2 has 5 bytes instead":    {good, {ID: "k2", Secret: []byte("short")}},
		"the keys k1 and k2 are the same":   {good, {ID: "k2", Secret: secret(1)}},
		"the key k2: holds a placeholder, ": {good, {ID: "k2", Secret: bytes.Repeat([]byte("ab"), 16)}},
	} {
		_, err := New(keys...)
		require.ErrorContains(t, err, problem)
	}
}

func FuzzOpen(f *testing.F) {
	s := sealer(f, "k1")
	sealed, err := s.Seal(name, "job", text)
	require.NoError(f, err)
	for _, seed := range []string{"", text, sealed, sealed[:30], `{"sealed":"`, `{"sealed":"-:`, `{"sealed":"-:QUJD"}`, `{"sealed":"k1:"}`, `{"sealed":"k9:AAAA"}`, `{"sealed":"}`} {
		f.Add(seed)
	}
	var none *Sealer
	f.Fuzz(func(t *testing.T, kept string) {
		for _, reader := range []*Sealer{s, none} {
			opened, err := reader.Open(name, "job", kept)
			switch {
			case err != nil:
				require.ErrorIs(t, err, ErrUnreadable)
				require.Empty(t, opened)
				require.Less(t, len(err.Error()), 300)
			case !Sealed(kept):
				require.Equal(t, kept, opened)
			}
		}
		// Whatever it is, it is kept and read again.
		for _, writer := range []*Sealer{s, none} {
			written, err := writer.Seal(name, "response", kept)
			require.NoError(t, err)
			opened, err := s.Open(name, "response", written)
			require.NoError(t, err)
			require.Equal(t, kept, opened)
		}
	})
}

func BenchmarkSealer(b *testing.B) {
	s := sealer(b, "k1")
	for _, size := range []int{4 << 10, 64 << 10} {
		plain := strings.Repeat("x", size)
		sealed, err := s.Seal(name, "job", plain)
		require.NoError(b, err)
		b.Run(fmt.Sprintf("seal/%dKB", size>>10), func(b *testing.B) {
			b.SetBytes(int64(size))
			for b.Loop() {
				_, _ = s.Seal(name, "job", plain)
			}
		})
		b.Run(fmt.Sprintf("open/%dKB", size>>10), func(b *testing.B) {
			b.SetBytes(int64(size))
			for b.Loop() {
				_, _ = s.Open(name, "job", sealed)
			}
		})
	}
}

// Checks tell keys apart, and are the same in every process and version.
func TestChecksTellKeysApart(t *testing.T) {
	t.Parallel()
	checks := sealer(t, "k1", "k2").Checks()
	require.Len(t, checks, 2)
	assert.NotEqual(t, checks["k1"], checks["k2"])
	assert.Equal(t, checks["k1"], sealer(t, "other1").Checks()["other1"], "it is of the key, not of its name")
	assert.Len(t, checks["k1"], 2*checkBytes)
	assert.Empty(t, (*Sealer)(nil).Checks())
}
