package sandbox

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/forebay-queue/forebay/producer/batchrun"
	"github.com/forebay-queue/forebay/producer/files"
)

// startFiles opens where files are kept, and begins to work on batches.
func (s *Sandbox) startFiles(context.Context) error {
	url, err := s.filesURL()
	if err != nil {
		return err
	}
	s.files, err = files.New(files.Config{
		Redis: s.Redis, Prefix: s.config.Prefix, Sealer: s.config.Sealer, URL: url, Retention: s.config.FilesRetention, MaxBytes: s.config.MaxFileBytes,
	})
	if err != nil {
		return err
	}
	s.onClose(func(context.Context) error { return s.files.Close() })
	if s.config.BatchesOff {
		return nil
	}
	runner, err := batchrun.New(batchrun.Config{
		Client: s.Client, Files: s.files, AtOnce: s.config.BatchesAtOnce, Log: s.config.Log,
	})
	if err != nil {
		return fmt.Errorf("start the work on batches: %w", err)
	}
	running, stop := context.WithCancel(context.Background())
	stopped := make(chan error, 1)
	go func() { stopped <- runner.Run(running) }()
	s.onClose(func(context.Context) error {
		stop()
		return <-stopped
	})
	return nil
}

// filesURL is where files are kept: as long as what is known of them.
func (s *Sandbox) filesURL() (string, error) {
	folder := filepath.Join(s.config.Data, "files")
	switch {
	case s.config.FilesURL != "":
		return s.config.FilesURL, nil
	case s.config.Data == "":
		var err error
		if folder, err = os.MkdirTemp("", "forebay-files-"); err != nil {
			return "", fmt.Errorf("make a folder for files: %w", err)
		}
		s.onClose(func(context.Context) error { return os.RemoveAll(folder) })
	}
	folder, err := filepath.Abs(folder)
	if err != nil {
		return "", fmt.Errorf("find the folder for files: %w", err)
	}
	return "file://" + filepath.ToSlash(folder), nil
}
