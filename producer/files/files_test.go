package files_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/forebay-queue/forebay/producer/files"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

// bundle is a Store over a folder.
type bundle struct {
	*files.Store
	t      testing.TB
	redis  *redis.Client
	folder string
}

func newBundle(t testing.TB, client *redis.Client) bundle {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "deep", "files")
	store, err := files.New(files.Config{Redis: client, URL: "file://" + folder, Retention: 48 * time.Hour, MaxBytes: 100})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	return bundle{Store: store, t: t, redis: client, folder: folder}
}

func embedded(t testing.TB) bundle {
	t.Helper()
	client, _ := redistest.Embedded(t)
	return newBundle(t, client)
}

func (b bundle) put(tenant, purpose, text string, keep time.Duration) files.File {
	b.t.Helper()
	w, err := b.Create(b.t.Context(), "", 0)
	require.NoError(b.t, err)
	defer w.Abort()
	_, err = io.Copy(w, strings.NewReader(text))
	require.NoError(b.t, err)
	file, err := w.Commit(b.t.Context(), files.File{Tenant: tenant, Filename: "in.jsonl", Purpose: purpose}, keep)
	require.NoError(b.t, err)
	return file
}

func (b bundle) text(file files.File) string {
	b.t.Helper()
	reader, err := b.Open(b.t.Context(), file)
	require.NoError(b.t, err)
	defer reader.Close()
	text, err := io.ReadAll(reader)
	require.NoError(b.t, err)
	return string(text)
}

// onDisk lists the files of the folder.
func (b bundle) onDisk() []string {
	b.t.Helper()
	var names []string
	err := filepath.WalkDir(b.folder, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			names = append(names, filepath.Base(path))
		}
		return err
	})
	if !errors.Is(err, fs.ErrNotExist) {
		require.NoError(b.t, err)
	}
	return names
}

func TestAFileIsKeptAsItCame(t *testing.T) {
	t.Parallel()
	client, _ := redistest.Real(t)
	for name, b := range map[string]bundle{"embedded": embedded(t), "real": newBundle(t, client)} {
		text := strings.Repeat("{\"a\": \"\u00e9\"}\r\n", 10_000)
		file := b.put("acme", files.PurposeBatch, text, 0)
		require.True(t, files.ValidID(file.ID), name)
		require.Equal(t, int64(len(text)), file.Bytes)
		require.Equal(t, 48*time.Hour, file.ExpiresAt.Sub(file.CreatedAt))
		require.Equal(t, text, b.text(file))
		read, err := b.Get(t.Context(), file.ID, "acme")
		require.NoError(t, err)
		require.Equal(t, file, read)

		for _, tenant := range []string{"other"} {
			_, err = b.Get(t.Context(), file.ID, tenant)
			require.ErrorIs(t, err, files.ErrNotFound)
			require.ErrorIs(t, b.Delete(t.Context(), file.ID, tenant), files.ErrNotFound)
		}
		_, err = b.Get(t.Context(), file.ID, "")
		require.NoError(t, err, "the operator sees all")
		require.NoError(t, b.Delete(t.Context(), file.ID, "acme"))
		_, err = b.Get(t.Context(), file.ID, "")
		require.ErrorIs(t, err, files.ErrNotFound)
		require.Empty(t, b.onDisk())
		require.Empty(t, client.Keys(t.Context(), "*").Val(), name)
		for _, id := range []string{"", "file-", "file-../../../etc/passwd", "file-" + strings.Repeat("g", 32), strings.ToUpper(file.ID)} {
			_, err = b.Get(t.Context(), id, "")
			require.ErrorIs(t, err, files.ErrNotFound, id)
		}
	}
}

func TestAFileThatIsNotCommittedIsNotThere(t *testing.T) {
	t.Parallel()
	b := embedded(t)
	w, err := b.Create(t.Context(), "", b.MaxBytes())
	require.NoError(t, err)
	_, err = io.Copy(w, io.LimitReader(zeros{}, 100))
	require.NoError(t, err, "as large as may be")
	_, err = w.Write([]byte{0})
	require.ErrorIs(t, err, files.ErrTooLarge)
	w.Abort()
	w.Abort()
	require.Empty(t, b.onDisk())

	w, err = b.Create(t.Context(), "", 0)
	require.NoError(t, err)
	_, err = io.Copy(w, iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader("cut off"))))
	require.Error(t, err)
	w.Abort()
	require.Empty(t, b.onDisk())
	list, more, err := b.List(t.Context(), files.Query{Limit: 10})
	require.NoError(t, err)
	require.Empty(t, list)
	require.False(t, more)
}

type zeros struct{}

func (zeros) Read(data []byte) (int, error) {
	clear(data)
	return len(data), nil
}

// Only what is named by a whole id is deleted: the bytes of a file are found by a prefix.
func TestNothingElseIsDeleted(t *testing.T) {
	t.Parallel()
	b := embedded(t)
	file := b.put("acme", files.PurposeBatch, "kept", 0)
	for _, id := range []string{"", "file-", file.ID[:len(file.ID)-1]} {
		require.ErrorIs(t, b.LetGo(t.Context(), id), files.ErrNotFound, id)
	}
	require.Equal(t, "kept", b.text(file))
	held := files.NewID()
	require.NoError(t, b.Hold(t.Context(), file, held, time.Now().Add(time.Hour)))
	require.NoError(t, b.Delete(t.Context(), file.ID, "acme"))
	require.Equal(t, "kept", b.text(files.File{ID: held}), "a copy stays")
	require.NoError(t, b.LetGo(t.Context(), held))
	require.Empty(t, b.onDisk())
}

// What is interrupted is written again under the same id.
func TestAFileIsWrittenAnew(t *testing.T) {
	t.Parallel()
	b := embedded(t)
	first := b.put("acme", files.PurposeBatchOutput, "first", 0)
	w, err := b.Create(t.Context(), first.ID, 0)
	require.NoError(t, err)
	_, err = io.WriteString(w, "second")
	require.NoError(t, err)
	require.Equal(t, "first", b.text(first), "until it is whole the other stands")
	again, err := w.Commit(t.Context(), first, 0)
	require.NoError(t, err)
	require.Equal(t, first.ID, again.ID)
	require.Equal(t, "second", b.text(again))
	require.Equal(t, []string{first.ID}, b.onDisk())
	list, _, err := b.List(t.Context(), files.Query{Limit: 10})
	require.NoError(t, err)
	require.Len(t, list, 1)
}

func TestLists(t *testing.T) {
	t.Parallel()
	b := embedded(t)
	var acme, outputs []string
	for i := range 25 {
		purpose := files.PurposeBatch
		if i%5 == 0 {
			purpose = files.PurposeBatchOutput
		}
		id := b.put("acme", purpose, "x", 0).ID
		acme = append(acme, id)
		if i%5 == 0 {
			outputs = append(outputs, id)
		}
		b.put("other", files.PurposeBatch, "x", 0)
	}
	walk := func(query files.Query) (ids []string) {
		t.Helper()
		for {
			list, more, err := b.List(t.Context(), query)
			require.NoError(t, err)
			for _, file := range list {
				ids = append(ids, file.ID)
			}
			if !more {
				return ids
			}
			require.Len(t, list, query.Limit)
			query.After = ids[len(ids)-1]
		}
	}
	for _, limit := range []int{1, 3, 5, 24, 25, 26, files.MaxListed} {
		require.Equal(t, acme, walk(files.Query{Tenant: "acme", OldestFirst: true, Limit: limit}), limit)
		require.Equal(t, backwards(acme), walk(files.Query{Tenant: "acme", Limit: limit}), limit)
		require.Equal(t, outputs, walk(files.Query{Tenant: "acme", Purpose: files.PurposeBatchOutput, OldestFirst: true, Limit: limit}))
		require.Len(t, walk(files.Query{Limit: limit}), 50)
	}
	// A list goes on where a file was that has been deleted.
	require.NoError(t, b.Delete(t.Context(), acme[10], "acme"))
	require.Equal(t, acme[11:], walk(files.Query{Tenant: "acme", OldestFirst: true, After: acme[10], Limit: 4}))
}

func backwards(list []string) []string {
	var turned []string
	for i := range list {
		turned = append(turned, list[len(list)-1-i])
	}
	return turned
}

// What has expired is gone at once, and its bytes with the next sweep; what a crash has left goes, too.
func TestTheSweep(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client, _ := redistest.InBubble(t)
		b := newBundle(t, client)
		short, long := b.put("acme", files.PurposeBatch, "short", time.Hour), b.put("acme", files.PurposeBatch, "long", 0)
		swept := func() int {
			t.Helper()
			n, err := b.Sweep(t.Context())
			require.NoError(t, err)
			return n
		}
		require.Zero(t, swept())
		time.Sleep(time.Hour)
		_, err := b.Get(t.Context(), short.ID, "acme")
		require.ErrorIs(t, err, files.ErrNotFound)
		list, _, err := b.List(t.Context(), files.Query{Limit: 10})
		require.NoError(t, err)
		require.Equal(t, []files.File{long}, list)
		require.Len(t, b.onDisk(), 2)
		require.Equal(t, 1, swept())
		require.Equal(t, []string{long.ID}, b.onDisk())

		// Killed while it wrote: half a file lies beside, and nothing is known of it but that it was begun.
		w, err := b.Create(t.Context(), "", 0)
		require.NoError(t, err)
		_, err = w.Write([]byte("half"))
		require.NoError(t, err)
		require.Len(t, b.onDisk(), 2)
		left, err := filepath.Glob(filepath.Join(b.folder, "files", w.ID()+"*"))
		require.NoError(t, err)
		require.Len(t, left, 1)
		require.NoError(t, os.WriteFile(left[0]+".kept", []byte("half"), 0o600)) // Abort takes only its own
		w.Abort()
		time.Sleep(11 * time.Hour)
		require.Zero(t, swept(), "it may still be written")
		time.Sleep(2 * time.Hour)
		require.Equal(t, 1, swept())
		require.Equal(t, []string{long.ID}, b.onDisk())

		// Killed when it had written what is known, and nothing else: it is found again.
		require.NoError(t, client.ZRem(t.Context(), "forebay:files", long.ID).Err())
		require.NoError(t, client.ZRem(t.Context(), "forebay:{tenant:acme}:files", long.ID).Err())
		require.NoError(t, client.ZAdd(t.Context(), "forebay:files:expiring", redis.Z{Score: 1, Member: long.ID}).Err())
		require.Zero(t, swept())
		list, _, err = b.List(t.Context(), files.Query{Tenant: "acme", Limit: 10})
		require.NoError(t, err)
		require.Equal(t, []files.File{long}, list)
		time.Sleep(48 * time.Hour)
		require.Equal(t, 1, swept())
		require.Empty(t, b.onDisk())
	})
}

func TestPlaces(t *testing.T) {
	t.Parallel()
	for _, good := range []string{
		"file:///var/lib/forebay", "file://./files", "s3://bucket", "s3://bucket?region=eu-central-1&endpoint=https://minio:9000&use_path_style=true",
	} {
		require.NoError(t, files.CheckURL(good), good)
	}
	for _, bad := range []string{
		"", "/var/lib", "file://host/path", "file://", "file:///", "http://x/y", "s3://", "s3://user:secret@bucket", "gs://bucket", "file:///a?create_dir=1", "://", "s3://bucket/path",
	} {
		err := files.CheckURL(bad)
		require.Error(t, err, bad)
		require.NotContains(t, err.Error(), "secret")
	}
	client, _ := redistest.Embedded(t)
	_, err := files.New(files.Config{Redis: client, URL: "nowhere"})
	require.ErrorContains(t, err, files.URLForms)

	// A folder that cannot be made is said when it is needed, and the next file tries again.
	blocked := filepath.Join(t.TempDir(), "blocked")
	require.NoError(t, os.WriteFile(blocked, nil, 0o600))
	store, err := files.New(files.Config{Redis: client, URL: "file://" + blocked + "/in"})
	require.NoError(t, err)
	_, err = store.Create(t.Context(), "", 0)
	require.ErrorIs(t, err, files.ErrStorage)
	require.NoError(t, os.Remove(blocked))
	w, err := store.Create(t.Context(), "", 0)
	require.NoError(t, err)
	_, err = io.Copy(w, bytes.NewReader(nil))
	require.NoError(t, err)
	_, err = w.Commit(t.Context(), files.File{Tenant: "acme"}, 0)
	require.NoError(t, err, "an empty file is a file")
}
