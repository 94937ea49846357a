package files

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"

	"gocloud.dev/blob"
	"gocloud.dev/blob/fileblob"
	_ "gocloud.dev/blob/s3blob" // s3:// is among the URLs
)

const (
	schemeFile = "file"
	schemeS3   = "s3"
)

// URLForms are the URLs that CheckURL takes.
const URLForms = "file:///folder, file://./folder below where the process is started, or s3://bucket?region=name"

// CheckURL refuses what is no place for files. A folder is file:///path, or file://./path; a bucket of S3, or of what speaks
// its protocol, is s3://name with the options of gocloud.dev/blob/s3blob behind it (region, endpoint, use_path_style,
// prefix). The credentials for it are in the environment, as AWS's own programs have them.
func CheckURL(text string) error {
	_, err := parseURL(text)
	return err
}

func parseURL(text string) (*url.URL, error) {
	wrong := errors.New("must be " + URLForms)
	parsed, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, wrong
	case parsed.User != nil:
		return nil, errors.New("holds a user or a password; the credentials of S3 are in the environment, such as AWS_ACCESS_KEY_ID")
	case parsed.Scheme == schemeFile:
		if (parsed.Host != "" && parsed.Host != ".") || len(parsed.Path) < 2 || parsed.RawQuery != "" {
			return nil, wrong
		}
	case parsed.Scheme == schemeS3:
		if parsed.Host == "" || (parsed.Path != "" && parsed.Path != "/") {
			return nil, wrong
		}
	default:
		return nil, wrong
	}
	return parsed, nil
}

// bucket opens the storage when it is first needed, and after each time that it could not be opened.
func (s *Store) bucket(ctx context.Context) (*blob.Bucket, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.opened != nil {
		return s.opened, nil
	}
	opened, err := openBucket(ctx, s.config.URL)
	if err != nil {
		return nil, fmt.Errorf("%w cannot be opened: %w; see files.url of the configuration", ErrStorage, err)
	}
	s.opened = opened
	return opened, nil
}

func openBucket(ctx context.Context, text string) (*blob.Bucket, error) {
	parsed, err := parseURL(text)
	if err != nil {
		return nil, err
	}
	if parsed.Scheme != schemeFile {
		return blob.OpenBucket(context.WithoutCancel(ctx), text)
	}
	return fileblob.OpenBucket(folderOf(parsed), &fileblob.Options{
		CreateDir: true, DirFileMode: 0o700, Metadata: fileblob.MetadataDontWrite,
		// What is half-written stands beside what it will be: a rename works, and the sweep finds what a crash has left.
		NoTempDir: true,
	})
}

// Folder is that of a URL, as the process that opens it sees it; a bucket has none.
func Folder(text string) (folder string, local bool) {
	parsed, err := parseURL(text)
	if err != nil || parsed.Scheme != schemeFile {
		return "", false
	}
	return folderOf(parsed), true
}

func folderOf(parsed *url.URL) string {
	folder := filepath.FromSlash(parsed.Path)
	if parsed.Host == "." {
		folder = "." + folder
	}
	return folder
}

// blobKey is where the bytes of a file are.
func blobKey(id string) string { return "files/" + id }
