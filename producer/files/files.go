// Package files keeps files for the HTTP interface: their bytes in blob storage, a folder or S3, and what is known of
// them in Redis. All producers of a deployment share both. Bytes are streamed in and out; none is kept in memory.
//
// A file belongs to a tenant and expires. Its id sorts by its age, so that a list goes on where it was even when the file
// at which it stood has gone.
package files

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"gocloud.dev/blob"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/seal"
)

// The purposes of files, in OpenAI's words.
const (
	// PurposeBatch is a batch's input, PurposeBatchOutput what a batch has written.
	PurposeBatch       = "batch"
	PurposeBatchOutput = "batch_output"
)

const (
	// DefaultURL is a folder beside where the process was started.
	DefaultURL = "file://./forebay-files"
	// DefaultRetention is how long a file is kept that says nothing else.
	DefaultRetention = 30 * 24 * time.Hour
	// DefaultMaxBytes is OpenAI's limit of a batch's input.
	DefaultMaxBytes = 200 << 20
)

var (
	// ErrNotFound says that there is no such file, no longer, or it is another tenant's.
	ErrNotFound = errors.New("there is no such file: the id is wrong, or it was deleted or has expired")
	// ErrTooLarge says that more was written to a file than its Limit.
	ErrTooLarge = errors.New("the file is too large")
	// ErrStorage says that the blob storage failed, which is none of the client's fault.
	ErrStorage = errors.New("the storage of files")
)

// File is what is known of a file.
type File struct {
	ID       string `json:"id"`
	Tenant   string `json:"tenant"`
	Filename string `json:"filename"`
	Purpose  string `json:"purpose"`
	Bytes    int64  `json:"bytes"`
	// CreatedAt and ExpiresAt are whole seconds, as they are told.
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at"`
}

// Config configures a Store. A zero field means its documented default.
type Config struct {
	// Redis is where it is kept what is known of files. Required. The Store does not close it.
	Redis redis.UniversalClient
	// Prefix stands before every key. Defaults to keyspace.DefaultPrefix.
	Prefix string
	// URL is where the bytes are: see CheckURL. Defaults to DefaultURL.
	URL string
	// Sealer encrypts the bytes; what is known of a file, its name and size too, stays readable. Defaults to none.
	Sealer *seal.Sealer
	// Retention is how long a file is kept that says nothing else. Defaults to DefaultRetention.
	Retention time.Duration
	// MaxBytes bounds a file that is sent; what batches write is not bounded. Defaults to DefaultMaxBytes.
	MaxBytes int64
}

// Store keeps files. It may be used by any number of goroutines.
type Store struct {
	config Config
	redis  redis.UniversalClient
	keys   keyspace.Keyspace

	mu     sync.Mutex
	opened *blob.Bucket // once it was needed
}

// New returns a Store. It opens nothing yet: a folder is made when the first file comes.
func New(config Config) (*Store, error) {
	if config.Redis == nil {
		return nil, errors.New("files: Config.Redis is missing; give it a client of go-redis")
	}
	if config.URL == "" {
		config.URL = DefaultURL
	}
	if err := CheckURL(config.URL); err != nil {
		return nil, fmt.Errorf("files: %w", err)
	}
	if config.Retention == 0 {
		config.Retention = DefaultRetention
	}
	if config.MaxBytes == 0 {
		config.MaxBytes = DefaultMaxBytes
	}
	return &Store{config: config, redis: config.Redis, keys: keyspace.New(config.Prefix)}, nil
}

// MaxBytes bounds a file that is sent.
func (s *Store) MaxBytes() int64 { return s.config.MaxBytes }

// Close lets go of the blob storage.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opened == nil {
		return nil
	}
	err := s.opened.Close()
	s.opened = nil
	return err
}

const idPrefix = "file-"

// NewID makes an id: 32 hexadecimal digits of a UUIDv7, which sort by time.
func NewID() string {
	id := uuid.Must(uuid.NewV7())
	return idPrefix + strings.ReplaceAll(id.String(), "-", "")
}

// ValidID tells whether a text can be a file's id.
func ValidID(id string) bool {
	digits, found := strings.CutPrefix(id, idPrefix)
	return found && len(digits) == 32 && strings.Trim(digits, "0123456789abcdef") == ""
}

// Get reads what is known of a file. The tenant "" is the operator's, who sees all.
func (s *Store) Get(ctx context.Context, id, tenant string) (File, error) {
	if !ValidID(id) {
		return File{}, ErrNotFound
	}
	text, err := s.redis.Get(ctx, s.keys.File(id)).Result()
	if errors.Is(err, redis.Nil) {
		return File{}, ErrNotFound
	}
	if err != nil {
		return File{}, fmt.Errorf("read what is known of %s: %w", id, err)
	}
	file, err := decode(id, text)
	if err != nil {
		return File{}, err
	}
	if !file.shown(tenant, time.Now()) {
		return File{}, ErrNotFound
	}
	return file, nil
}

func decode(id, text string) (File, error) {
	var file File
	if err := json.Unmarshal([]byte(text), &file); err != nil || file.ID != id {
		return File{}, fmt.Errorf("what is known of %s cannot be read", id)
	}
	return file, nil
}

// shown tells whether a tenant sees a file. One that has expired is gone, however late its bytes are swept away.
func (f File) shown(tenant string, now time.Time) bool {
	return (tenant == "" || f.Tenant == tenant) && now.Before(f.ExpiresAt)
}

// record writes what is known of a file, and where it is found.
func (s *Store) record(ctx context.Context, file File) error {
	text, err := tasks.Encode(file)
	if err == nil {
		err = s.redis.Set(ctx, s.keys.File(file.ID), text, 0).Err()
	}
	if err == nil {
		err = s.index(ctx, file)
	}
	if err != nil {
		return fmt.Errorf("write down what is known of %s: %w", file.ID, err)
	}
	return nil
}

// index has lists show a file, and the sweep look at it when it has expired.
func (s *Store) index(ctx context.Context, file File) error {
	_, err := s.redis.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		pipe.ZAdd(ctx, s.keys.Files(), redis.Z{Member: file.ID})
		pipe.ZAdd(ctx, s.keys.TenantFiles(file.Tenant), redis.Z{Member: file.ID})
		pipe.ZAdd(ctx, s.keys.FilesExpiring(), redis.Z{Score: float64(file.ExpiresAt.UnixMilli()), Member: file.ID})
		return nil
	})
	return err
}
