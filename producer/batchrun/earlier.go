package batchrun

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"

	"github.com/forebay-queue/forebay/producer/batchlines"
	"github.com/forebay-queue/forebay/producer/files"
)

// earlier reads the output that a batch had before some of its members were run again: the answers of the others stand
// there, and may stand nowhere else any more. Lines come in the order of the members.
type earlier struct {
	file  io.Closer
	lines *bufio.Reader
}

// openEarlier opens the output that the batch had. Nil is one that had none, or whose file was deleted.
func (w *writing) openEarlier(ctx context.Context) (*earlier, error) {
	if w.batch.OutputFileID == "" || w.batch.OutputFileID == w.output.id {
		return nil, nil //nolint:nilnil // there is none
	}
	file, err := w.config.Files.Get(ctx, w.batch.OutputFileID, w.batch.Tenant)
	if errors.Is(err, files.ErrNotFound) {
		return nil, nil //nolint:nilnil // there is none any more
	}
	if err != nil {
		return nil, err
	}
	reader, err := w.config.Files.Open(ctx, file)
	if err != nil {
		return nil, err
	}
	return &earlier{reader, bufio.NewReaderSize(reader, 64<<10)}, nil
}

// response is what the output had of a member, or nil. It is asked in the order of the members.
func (e *earlier) response(id string) (*batchlines.Response, error) {
	if e == nil {
		return nil, nil //nolint:nilnil // there is none
	}
	for {
		text, err := e.lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil, nil //nolint:nilnil // there is none
		}
		if err != nil {
			return nil, err
		}
		var line batchlines.Output
		if json.Unmarshal(text, &line) == nil && line.ID == id {
			return line.Response, nil
		}
	}
}

func (e *earlier) close() {
	if e != nil {
		_ = e.file.Close() // it was only read
	}
}
