package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/redis/go-redis/v9"
	"gocloud.dev/blob"
)

const (
	// writeWithin is how long a file may take to be written. The sweep takes what is there of one that has not ended after
	// pendingFor for what a crash has left.
	writeWithin = 6 * time.Hour
	pendingFor  = 2 * writeWithin
)

// Writer writes the bytes of one file, which is there with Commit and not before. End it with Commit or Abort; Abort
// after Commit does nothing.
type Writer struct {
	store  *Store
	id     string
	limit  int64
	bytes  int64
	blob   *blob.Writer
	text   io.WriteCloser  // into blob
	ctx    context.Context //nolint:containedctx // of the write as a whole, as gocloud's writers have it
	cancel context.CancelFunc
	sync   func() error
}

// Create begins a file. An empty id makes one; one that is given is written anew, which is how what was interrupted is
// repeated. More than limit bytes are ErrTooLarge; 0 is no limit. The context is the whole write's.
func (s *Store) Create(ctx context.Context, id string, limit int64) (*Writer, error) {
	if id == "" {
		id = NewID()
	}
	bucket, err := s.bucket(ctx)
	if err != nil {
		return nil, err
	}
	// First: whatever a crash leaves of the rest is found by it.
	until := time.Now().Add(pendingFor).UnixMilli()
	if err := s.redis.ZAdd(ctx, s.keys.FilesExpiring(), redis.Z{Score: float64(until), Member: id}).Err(); err != nil {
		return nil, fmt.Errorf("begin the file %s: %w", id, err)
	}
	return s.write(ctx, bucket, id, limit)
}

// write begins the bytes of a file.
func (s *Store) write(ctx context.Context, bucket *blob.Bucket, id string, limit int64) (w *Writer, err error) {
	w = &Writer{store: s, id: id, limit: limit, sync: func() error { return nil }}
	w.ctx, w.cancel = context.WithTimeout(ctx, writeWithin)
	w.blob, err = bucket.NewWriter(w.ctx, blobKey(id), &blob.WriterOptions{
		ContentType: "application/jsonl",
		BeforeWrite: func(as func(any) bool) error {
			var file *os.File
			if as(&file) {
				w.sync = file.Sync
			}
			return nil
		},
	})
	if err != nil {
		w.cancel()
		return nil, fmt.Errorf("%w cannot write %s: %w", ErrStorage, id, err)
	}
	if w.text, err = s.config.Sealer.NewWriter(w.blob, id); err != nil {
		w.Abort()
		return nil, fmt.Errorf("%w cannot write %s: %w", ErrStorage, id, err)
	}
	return w, nil
}

// ID is the file's id.
func (w *Writer) ID() string { return w.id }

// Bytes is how much was written.
func (w *Writer) Bytes() int64 { return w.bytes }

// Write implements io.Writer.
func (w *Writer) Write(data []byte) (int, error) {
	if w.limit > 0 && w.bytes+int64(len(data)) > w.limit {
		return 0, ErrTooLarge
	}
	n, err := w.text.Write(data)
	w.bytes += int64(n)
	if err != nil {
		err = fmt.Errorf("%w cannot write %s: %w", ErrStorage, w.id, err)
	}
	return n, err
}

// Commit makes the file one that is there. Of what is known of it the tenant, the name and the purpose are asked for;
// keep is how long it is kept, and 0 the Store's retention.
func (w *Writer) Commit(ctx context.Context, known File, keep time.Duration) (File, error) {
	defer w.cancel()
	if err := w.end(); err != nil {
		return File{}, err
	}
	if keep == 0 {
		keep = w.store.config.Retention
	}
	known.ID, known.Bytes = w.id, w.bytes
	known.CreatedAt = time.Now().UTC().Truncate(time.Second)
	known.ExpiresAt = known.CreatedAt.Add(keep).Truncate(time.Second)
	return known, w.store.record(ctx, known)
}

// end has the bytes stand.
func (w *Writer) end() error {
	err := w.text.Close()
	if err != nil { // what is there has no end
		w.Abort()
		return fmt.Errorf("%w cannot write %s: %w", ErrStorage, w.id, err)
	}
	if err := errors.Join(w.sync(), w.blob.Close()); err != nil {
		return fmt.Errorf("%w cannot write %s: %w", ErrStorage, w.id, err)
	}
	w.blob = nil
	return nil
}

// Abort leaves no bytes of a file that was not committed. The sweep will look at its id, and find nothing.
func (w *Writer) Abort() {
	if w.blob == nil {
		return
	}
	w.cancel() // before Close, which would have it stand
	_ = w.blob.Close()
	w.blob = nil
}

// Hold keeps a copy of a file's bytes under an id of its own, until a time or until it is let go. Nobody finds it in a list,
// and it stays when the file is deleted or expires. It is read by Open, and holding it again repeats nothing but the copy.
func (s *Store) Hold(ctx context.Context, file File, id string, until time.Time) error {
	bucket, err := s.bucket(ctx)
	if err != nil {
		return err
	}
	if err := s.redis.ZAdd(ctx, s.keys.FilesExpiring(), redis.Z{Score: float64(until.UnixMilli()), Member: id}).Err(); err != nil {
		return fmt.Errorf("hold %s: %w", file.ID, err)
	}
	if s.config.Sealer != nil { // what is sealed belongs to its own id
		return s.rewrite(ctx, bucket, file, id)
	}
	if err := bucket.Copy(ctx, blobKey(id), blobKey(file.ID), nil); err != nil {
		return fmt.Errorf("%w cannot copy %s: %w", ErrStorage, file.ID, err)
	}
	return nil
}

// rewrite writes the bytes of a file under another id.
func (s *Store) rewrite(ctx context.Context, bucket *blob.Bucket, file File, id string) error {
	from, err := s.Open(ctx, file)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := s.write(ctx, bucket, id, 0)
	if err != nil {
		return err
	}
	defer to.cancel()
	if _, err := io.Copy(to, from); err != nil {
		to.Abort()
		return err
	}
	return to.end()
}

// LetGo deletes what was held.
func (s *Store) LetGo(ctx context.Context, id string) error { return s.remove(ctx, id, "") }
