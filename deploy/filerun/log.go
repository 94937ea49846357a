package filerun

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/forebay-queue/forebay/tasks"
)

// log is a file of JSON lines that is only ever added to.
type log struct {
	file *os.File
	to   *bufio.Writer
	size int64 // with what is not written yet
}

// openLog opens a log, hands over its lines with their places, and takes away what a crash has left of the last ones.
func openLog(path string, each func(text []byte, at int64) error) (*log, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	l := &log{file: file, to: bufio.NewWriterSize(file, 64<<10)}
	if err := l.read(each); err != nil {
		return nil, errors.Join(fmt.Errorf("read %s: %w", filepath.Base(path), err), file.Close())
	}
	if err := file.Truncate(l.size); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	_, err = file.Seek(l.size, io.SeekStart)
	return l, err
}

func (l *log) read(each func(text []byte, at int64) error) error {
	for in := bufio.NewReaderSize(l.file, 256<<10); ; {
		text, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil // what has no end was cut off
		}
		if err != nil {
			return err
		}
		if line := bytes.TrimSuffix(text, []byte("\n")); !json.Valid(line) {
			return nil
		} else if err := each(line, l.size); err != nil {
			return err
		}
		l.size += int64(len(text))
	}
}

// add adds a value as a line, and returns its place. It is on the disk after sync.
func (l *log) add(value any) (at int64, size int, err error) {
	text, err := tasks.Encode(value)
	if err != nil {
		return 0, 0, err
	}
	at = l.size
	if _, err := l.to.Write(append(text, '\n')); err != nil {
		return 0, 0, err
	}
	l.size += int64(len(text)) + 1
	return at, len(text), nil
}

func (l *log) sync() error {
	return errors.Join(l.to.Flush(), l.file.Sync())
}

// readAt reads a line that has been written.
func (l *log) readAt(at int64, size int) ([]byte, error) {
	if err := l.to.Flush(); err != nil {
		return nil, err
	}
	text := make([]byte, size)
	_, err := l.file.ReadAt(text, at)
	return text, err
}

func (l *log) close() error { return errors.Join(l.to.Flush(), l.file.Close()) }
