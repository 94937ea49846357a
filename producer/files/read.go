package files

import (
	"context"
	"errors"
	"fmt"
	"io"

	"gocloud.dev/blob"
)

// Open reads a file's bytes, from any place in it; of a sealed one what is before that place is read as well. Its size is
// known where File.Bytes is. Close what it returns.
func (s *Store) Open(ctx context.Context, file File) (io.ReadSeekCloser, error) {
	bucket, err := s.bucket(ctx)
	if err != nil {
		return nil, err
	}
	r := &reader{ctx: ctx, store: s, bucket: bucket, file: file}
	if err := r.begin(); err != nil {
		return nil, err
	}
	return r, nil
}

// reader reads a file from its beginning, and begins anew when it is to go back.
type reader struct {
	ctx    context.Context //nolint:containedctx // of all its reads, as gocloud's readers have it
	store  *Store
	bucket *blob.Bucket
	file   File

	source *blob.Reader
	text   io.Reader
	// at is where text stands, next where the next Read is to read.
	at, next int64
}

func (r *reader) begin() error {
	source, err := r.bucket.NewReader(r.ctx, blobKey(r.file.ID), nil)
	if err != nil {
		return r.failed(err)
	}
	text, err := r.store.config.Sealer.NewReader(source, r.file.ID)
	if err != nil {
		_ = source.Close() // it was only read
		return r.failed(err)
	}
	if r.source != nil {
		_ = r.source.Close() // it was only read
	}
	r.source, r.text, r.at = source, text, 0
	return nil
}

func (r *reader) failed(err error) error {
	return fmt.Errorf("%w cannot read %s: %w", ErrStorage, r.file.ID, err)
}

// Read implements io.Reader.
func (r *reader) Read(into []byte) (int, error) {
	if r.next < r.at {
		if err := r.begin(); err != nil {
			return 0, err
		}
	}
	if r.next > r.at {
		skipped, err := io.CopyN(io.Discard, r.text, r.next-r.at)
		r.at += skipped
		if err != nil {
			return 0, r.ended(err)
		}
	}
	n, err := r.text.Read(into)
	r.at += int64(n)
	r.next = r.at
	return n, r.ended(err)
}

func (r *reader) ended(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return r.failed(err)
}

// Seek implements io.Seeker. Nothing is read until the next Read.
func (r *reader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.next
	case io.SeekEnd:
		offset += r.file.Bytes
	}
	if offset < 0 {
		return 0, fmt.Errorf("read %s: there is nothing before its beginning", r.file.ID)
	}
	r.next = offset
	return offset, nil
}

// Close implements io.Closer.
func (r *reader) Close() error { return r.source.Close() }
