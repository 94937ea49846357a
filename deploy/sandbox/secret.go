package sandbox

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// writeSecret makes a secret for webhooks, and returns the file that it is in. One that is kept in the folder of the data
// is the next deployment's, too.
func (s *Sandbox) writeSecret() (string, error) {
	folder := s.config.Data
	if folder == "" {
		var err error
		if folder, err = os.MkdirTemp("", "forebay-secret-"); err != nil {
			return "", fmt.Errorf("make a folder for the secret of webhooks: %w", err)
		}
		s.onClose(func(context.Context) error { return os.RemoveAll(folder) })
	}
	path, err := filepath.Abs(filepath.Join(folder, "webhook-secret"))
	if err != nil {
		return "", fmt.Errorf("find the secret of webhooks: %w", err)
	}
	random := make([]byte, 32)
	_, _ = rand.Read(random) // never fails: see its documentation
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return path, nil
	}
	if err == nil {
		_, err = file.WriteString("whsec_" + base64.StdEncoding.EncodeToString(random) + "\n")
		err = errors.Join(err, file.Close())
	}
	if err != nil {
		return "", fmt.Errorf("write the secret of webhooks: %w", err)
	}
	return path, nil
}
