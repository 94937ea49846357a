package seal

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	streaming "github.com/tink-crypto/tink-go/v2/streamingaead/subtle"
)

const (
	// fileMark begins a sealed file; the id of its key and a line break follow, and then what tink has written: AES-256-GCM
	// in segments, under keys derived by HKDF-SHA-256 (its AES256_GCM_HKDF). No text begins with a NUL.
	fileMark    = "\x00forebay sealed v1 "
	fileMarkEnd = '\n'
	// segment is how much of a file is in memory.
	segment = 64 << 10
)

func (k *key) stream() (*streaming.AESGCMHKDF, error) {
	return streaming.NewAESGCMHKDF(k.streams, "SHA256", KeyBytes, segment, 0)
}

// NewWriter seals what is written to it into w, as the content of what is called name. Close ends it, and leaves w open; a
// file without its end does not open. Without keys it writes to w.
func (s *Sealer) NewWriter(w io.Writer, name string) (io.WriteCloser, error) {
	if s == nil {
		return open{w}, nil
	}
	by := &s.keys[0]
	cipher, err := by.stream()
	if err != nil {
		return nil, fmt.Errorf("seal %s: %w", name, err)
	}
	if _, err := io.WriteString(w, fileMark+by.id+string(fileMarkEnd)); err != nil {
		return nil, err
	}
	return cipher.NewEncryptingWriter(w, []byte(name))
}

// open is a writer without an end.
type open struct{ io.Writer }

// Close implements io.Closer.
func (open) Close() error { return nil }

// NewReader reads what NewWriter has written for the same name; what is not sealed is read as it stands. An *Error, of
// NewReader or of a Read, says that it cannot be opened.
func (s *Sealer) NewReader(r io.Reader, name string) (io.Reader, error) {
	buffered := bufio.NewReaderSize(r, segment)
	mark, err := buffered.Peek(len(fileMark))
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if string(mark) != fileMark {
		return buffered, nil
	}
	line, err := buffered.ReadSlice(fileMarkEnd)
	id := strings.TrimSuffix(strings.TrimPrefix(string(line), fileMark), string(fileMarkEnd))
	if err != nil || !ValidID(id) {
		return nil, &Error{Problem: "it cannot be read by which key: it was damaged"}
	}
	known := s.find(id)
	if known == nil {
		return nil, s.missing(id)
	}
	cipher, err := known.stream()
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	source := &failing{Reader: buffered}
	opened, err := cipher.NewDecryptingReader(source, []byte(name))
	if err != nil {
		return nil, source.orUnreadable(id, err)
	}
	return &streamReader{opened, source, id}, nil
}

// failing keeps the error of a reader, to tell it from what a cipher says.
type failing struct {
	io.Reader
	err error
}

// Read implements io.Reader.
func (f *failing) Read(into []byte) (int, error) {
	n, err := f.Reader.Read(into)
	if err != nil && !errors.Is(err, io.EOF) {
		f.err = err
	}
	return n, err
}

func (f *failing) orUnreadable(id string, err error) error {
	if f.err != nil {
		return f.err
	}
	return &Error{KeyID: id, Problem: "and does not open with it (" + err.Error() + "): it was damaged, cut off or belongs to another place, or the key of that id is another one"}
}

type streamReader struct {
	opened io.Reader
	source *failing
	id     string
}

// Read implements io.Reader.
func (r *streamReader) Read(into []byte) (int, error) {
	n, err := r.opened.Read(into)
	if err != nil && !errors.Is(err, io.EOF) {
		err = r.source.orUnreadable(r.id, err)
	}
	return n, err
}
