package files_test

import (
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/producer/files"
	"github.com/forebay-queue/forebay/tasks/redistest"
	"github.com/forebay-queue/forebay/tasks/seal"
)

func testKey(id string) seal.Key {
	secret := sha256.Sum256([]byte(id))
	return seal.Key{ID: id, Secret: secret[:]}
}

// sealing is a Store over the folder of another one.
func (b bundle) sealing(keys ...seal.Key) bundle {
	b.t.Helper()
	sealer, err := seal.New(keys...)
	require.NoError(b.t, err)
	store, err := files.New(files.Config{Redis: b.redis, URL: "file://" + b.folder, Sealer: sealer})
	require.NoError(b.t, err)
	b.t.Cleanup(func() { require.NoError(b.t, store.Close()) })
	return bundle{Store: store, t: b.t, redis: b.redis, folder: b.folder}
}

func TestSealedFiles(t *testing.T) {
	t.Parallel()
	client, _ := redistest.Embedded(t)
	plain := newBundle(t, client)
	b := plain.sealing(testKey("k1"))
	var content strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&content, "line %05d\n", i)
	}
	file := b.put("acme", files.PurposeBatch, content.String(), time.Hour)
	assert.Equal(t, int64(content.Len()), file.Bytes, "its size is that of what was written")
	require.NoError(t, filepath.WalkDir(b.folder, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			var bytes []byte
			bytes, err = os.ReadFile(path)
			assert.NotContains(t, string(bytes), "line 0")
		}
		return err
	}))
	assert.Equal(t, content.String(), b.text(file))

	// From any place, forwards and back, as for a Range of HTTP.
	reader, err := b.Open(t.Context(), file)
	require.NoError(t, err)
	defer reader.Close()
	size, err := reader.Seek(0, io.SeekEnd)
	require.NoError(t, err)
	assert.Equal(t, file.Bytes, size)
	for _, place := range []int64{199_989, 11, 100_001, 0} {
		_, err = reader.Seek(place, io.SeekStart)
		require.NoError(t, err)
		part := make([]byte, 11)
		_, err = io.ReadFull(reader, part)
		require.NoError(t, err)
		assert.Equal(t, content.String()[place:place+11], string(part))
	}
	_, err = reader.Seek(-1, io.SeekStart)
	require.Error(t, err)

	// The copy that a batch is worked from is sealed for its own id, under the newest key.
	rotated := b.sealing(testKey("k2"), testKey("k1"))
	copied := files.File{ID: files.NewID()}
	require.NoError(t, rotated.Hold(t.Context(), file, copied.ID, time.Now().Add(time.Hour)))
	require.NoError(t, b.Delete(t.Context(), file.ID, "acme"))
	assert.Equal(t, content.String(), b.sealing(testKey("k2")).text(copied))
	_, err = b.Open(t.Context(), copied)
	require.ErrorIs(t, err, seal.ErrUnreadable)
	require.ErrorIs(t, err, files.ErrStorage)
	require.ErrorContains(t, err, copied.ID+": sealed under the key k2, which this process does not have (it has k1)")

	// What was there before is read on.
	old := plain.put("acme", files.PurposeBatch, "plain\n", time.Hour)
	assert.Equal(t, "plain\n", b.text(old))
}
