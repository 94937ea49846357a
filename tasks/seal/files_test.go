package seal

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const file = "file-1"

func sealedFile(t testing.TB, s *Sealer, content string) []byte {
	t.Helper()
	var written bytes.Buffer
	w, err := s.NewWriter(&written, file)
	require.NoError(t, err)
	for part := range strings.SplitAfterSeq(content, "\n") {
		_, err = io.WriteString(w, part)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return written.Bytes()
}

func readFile(s *Sealer, written []byte, name string) (string, error) {
	r, err := s.NewReader(bytes.NewReader(written), name)
	if err != nil {
		return "", err
	}
	content, err := io.ReadAll(r)
	return string(content), err
}

func TestFiles(t *testing.T) {
	t.Parallel()
	s := sealer(t, "k1")
	for _, content := range []string{"", "a line\n", "\x00forebay sealed v1", strings.Repeat("a line of some length\n", 20_000)} {
		written := sealedFile(t, s, content)
		assert.NotContains(t, string(written), "a line")
		read, err := readFile(sealer(t, "k2", "k1"), written, file)
		require.NoError(t, err)
		assert.Equal(t, content, read)

		plain := sealedFile(t, nil, content)
		assert.Equal(t, content, string(plain))
		read, err = readFile(s, plain, file)
		require.NoError(t, err, "what was there before encryption is read on")
		assert.Equal(t, content, read)
	}
}

func TestFilesThatDoNotOpen(t *testing.T) {
	t.Parallel()
	s := sealer(t, "k1")
	content := strings.Repeat("a line of some length\n", 20_000)
	written := sealedFile(t, s, content)
	damaged := bytes.Clone(written)
	damaged[len(damaged)/2] ^= 1
	other, err := New(Key{ID: "k1", Secret: secret(200)})
	require.NoError(t, err)
	for what, read := range map[string]func() (string, error){
		"damaged":           func() (string, error) { return readFile(s, damaged, file) },
		"cut off":           func() (string, error) { return readFile(s, written[:len(written)/2], file) },
		"cut at a segment":  func() (string, error) { return readFile(s, written[:len(fileMark)+3+2*segment], file) },
		"nothing but a key": func() (string, error) { return readFile(s, written[:len(fileMark)+3], file) },
		"no key":            func() (string, error) { return readFile(s, written[:len(fileMark)+1], file) },
		"another file's":    func() (string, error) { return readFile(s, written, "file-2") },
		"a missing key":     func() (string, error) { return readFile(sealer(t, "k2"), written, file) },
		"another key":       func() (string, error) { return readFile(other, written, file) },
		"no keys":           func() (string, error) { return readFile(nil, written, file) },
	} {
		got, err := read()
		require.ErrorIs(t, err, ErrUnreadable, what)
		assert.Less(t, len(got), len(content), what)
		assert.NotContains(t, err.Error(), "a line", what)
	}
	broken := errors.New("the storage is away")
	r, err := s.NewReader(io.MultiReader(bytes.NewReader(written[:100_000]), iotest.ErrReader(broken)), file)
	require.NoError(t, err)
	_, err = io.ReadAll(r)
	require.ErrorIs(t, err, broken, "that is no fault of the file's")
	require.NotErrorIs(t, err, ErrUnreadable)
}

func FuzzReadFile(f *testing.F) {
	s := sealer(f, "k1")
	f.Add([]byte("a line"))
	f.Add(sealedFile(f, s, "a line"))
	f.Add([]byte(fileMark + "k1\n"))
	f.Add([]byte(fileMark + "k9\n....................................................."))
	f.Fuzz(func(t *testing.T, written []byte) {
		content, err := readFile(s, written, file)
		if err != nil {
			require.ErrorIs(t, err, ErrUnreadable)
		} else if !bytes.HasPrefix(written, []byte(fileMark)) {
			require.Equal(t, string(written), content)
		}
	})
}
