package batchrun

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/forebay-queue/forebay/producer/batchlines"
	"github.com/forebay-queue/forebay/producer/files"
	"github.com/forebay-queue/forebay/producer/internal/openai"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/batches"
)

// The notes of a batch whose files are written.
const (
	// noteOutput and noteErrors are the ids of the files, noteOf the end that they are of: after a retry there is another.
	noteOutput = "output"
	noteErrors = "errors"
	noteOf     = "files_of"
	// noteWritten is noteOf once the files are there, with their ids, or empty where there is none.
	noteWritten       = "written"
	noteWrittenOutput = "written_output"
	noteWrittenErrors = "written_errors"
)

// resultsTogether is how many answers are in memory.
const resultsTogether = 64

// finish writes the files of a batch whose members have ended, and ends it.
func (r *Runner) finish(ctx context.Context, batch batches.Batch) error {
	of := strconv.FormatInt(max(batch.FinalizingAt.UnixMilli(), batch.CancellingAt.UnixMilli()), 10)
	if batch.Notes[noteWritten] != of {
		notes, err := r.write(ctx, batch, of)
		if err == nil {
			err = r.store.Note(ctx, batch.ID, notes)
		}
		if err != nil {
			return err
		}
		batch.Notes = notes
	}
	// Before the end, after which nobody works on the batch: from now on the files are read in the place of the records.
	if err := r.config.Client.ReleaseBatch(ctx, batch.ID); err != nil {
		return err
	}
	ended, err := r.store.Finish(ctx, batch.ID, batch.Notes[noteWrittenOutput], batch.Notes[noteWrittenErrors])
	if errors.Is(err, batches.ErrNotEnded) {
		return nil // a member was run again
	}
	if err != nil {
		return err
	}
	r.config.Log.Info().Str("batch", batch.ID).Str("tenant", batch.Tenant).Str("status", string(ended.Status)).
		Int("succeeded", ended.Counts.Succeeded).Int("requests", ended.Total).Msg("batch has ended")
	return nil
}

// write writes the files, and returns the notes of it.
func (r *Runner) write(ctx context.Context, batch batches.Batch, of string) (map[string]string, error) {
	notes := map[string]string{noteOf: of, noteOutput: batch.Notes[noteOutput], noteErrors: batch.Notes[noteErrors]}
	if batch.Notes[noteOf] != of {
		notes[noteOutput], notes[noteErrors] = files.NewID(), files.NewID()
		if err := r.store.Note(ctx, batch.ID, notes); err != nil {
			return nil, err
		}
	}
	w := &writing{
		Runner: r, batch: batch,
		output: &lazyFile{store: r.config.Files, id: notes[noteOutput]}, errors: &lazyFile{store: r.config.Files, id: notes[noteErrors]},
	}
	defer w.output.abort()
	defer w.errors.abort()
	if batch.Total > 0 {
		if err := w.lines(ctx); err != nil {
			return nil, err
		}
	}
	known := files.File{Tenant: batch.Tenant, Purpose: files.PurposeBatchOutput}
	notes[noteWritten], notes[noteWrittenOutput], notes[noteWrittenErrors] = of, "", ""
	for _, file := range []struct {
		lazy       *lazyFile
		note, name string
	}{{w.output, noteWrittenOutput, "_output.jsonl"}, {w.errors, noteWrittenErrors, "_error.jsonl"}} {
		known.Filename = batch.ID + file.name
		written, err := file.lazy.commit(ctx, known, batch.OutputExpiresAfter)
		if err != nil {
			return nil, err
		}
		if written {
			notes[file.note] = file.lazy.id
		}
	}
	return notes, nil
}

// writing is the files of a batch on their way.
type writing struct {
	*Runner
	batch          batches.Batch
	output, errors *lazyFile
	before         *earlier
}

// lines goes through the input and the members in step, so that nothing of a line had to be kept elsewhere.
func (w *writing) lines(ctx context.Context) error {
	states, err := w.store.Members(ctx, w.batch.ID)
	if err != nil {
		return err
	}
	reader, err := w.config.Files.Open(ctx, files.File{ID: w.batch.Notes[noteInput]})
	if err != nil {
		return err
	}
	defer reader.Close()
	if w.before, err = w.openEarlier(ctx); err != nil {
		return err
	}
	defer w.before.close()
	lines := batchlines.NewReader(reader, w.batch.Endpoint)
	for from := 0; from < w.batch.Total; from += resultsTogether {
		until := min(from+resultsTogether, w.batch.Total)
		ids := make([]string, 0, resultsTogether)
		for number := from; number < until; number++ {
			ids = append(ids, batches.MemberID(w.batch.ID, number))
		}
		results, err := w.config.Client.Results(ctx, ids)
		if err != nil {
			return err
		}
		for i, id := range ids {
			line, err := lines.Next()
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			if err != nil {
				return fmt.Errorf("its input is not what it was: %w", err)
			}
			state := batches.Unreported
			if from+i < len(states) {
				state = states[from+i]
			}
			if err := w.line(ctx, id, line, results[i], state); err != nil {
				return err
			}
		}
	}
	return nil
}

// line writes what came of one request: a response into the output, all else into the errors.
func (w *writing) line(ctx context.Context, id string, asked batchlines.Line, result tasks.Result, state batches.State) error {
	line := batchlines.Output{ID: strings.Replace(id, "batch_", "batch_req_", 1), CustomID: asked.CustomID}
	file := w.errors
	switch status := endOf(result, state); {
	case status == tasks.StatusCancelled:
		line.Error = &batchlines.Failure{Code: batchlines.CodeCancelled, Message: "This request was not executed: the batch was cancelled."}
	case status == tasks.StatusExpired:
		line.Error = &batchlines.Failure{Code: batchlines.CodeExpired, Message: "This request could not be executed before the completion window expired."}
	case result.ID == "":
		response, err := w.gone(id, line.ID, asked, state)
		if err != nil {
			return err
		}
		if line.Response = response; response != nil && state == batches.Succeeded {
			file = w.output
		}
		if response != nil {
			break
		}
		line.Error = &batchlines.Failure{Code: "answer_lost", Message: "What came of this request is not there any more: its record was deleted."}
	default:
		answer := openai.AnswerOf(result)
		line.Response = &batchlines.Response{StatusCode: answer.Status, RequestID: id, Body: answer.Body}
		if status == tasks.StatusSucceeded {
			file = w.output
		}
	}
	text, err := file.writer(ctx)
	if err != nil {
		return err
	}
	return batchlines.Write(text, line)
}

// gone is the response to a request whose record has expired, or nil: the batch's earlier output has it where there was an
// answer, and what was refused is refused again.
func (w *writing) gone(id, lineID string, asked batchlines.Line, state batches.State) (*batchlines.Response, error) {
	if state == batches.Succeeded {
		return w.before.response(lineID)
	}
	return w.refusal(id, asked), nil
}

// refusal is the response to a request that was refused, and whose record has expired: it is refused again.
func (w *writing) refusal(id string, asked batchlines.Line) *batchlines.Response {
	known := w.config.Client.Catalog()
	job, err := openai.JobOf(w.batch.Endpoint, asked.Body, known)
	if err == nil {
		_, err = known.Prepare(job, time.Now())
	}
	refusal := openai.Refusal(err)
	if refusal == nil {
		return nil
	}
	body, err := refusal.MarshalJSON()
	if err != nil {
		return nil
	}
	return &batchlines.Response{StatusCode: refusal.Status, RequestID: id, Body: body}
}

// endOf is how a member ended. The batch's word goes before the record's where the batch had counted it already, as one
// that was cancelled before it was enqueued; a success is one in any case.
func endOf(result tasks.Result, state batches.State) tasks.Status {
	switch {
	case result.Status == tasks.StatusSucceeded:
		return result.Status
	case state == batches.Cancelled:
		return tasks.StatusCancelled
	case state == batches.Expired:
		return tasks.StatusExpired
	case result.ID != "" && result.Status.Ended():
		return result.Status
	}
	return tasks.StatusFailed
}

// lazyFile is a file that is begun with its first line: one without lines is none.
type lazyFile struct {
	store *files.Store
	id    string
	file  *files.Writer
	text  *bufio.Writer
}

func (f *lazyFile) writer(ctx context.Context) (io.Writer, error) {
	if f.file == nil {
		file, err := f.store.Create(ctx, f.id, 0)
		if err != nil {
			return nil, err
		}
		f.file, f.text = file, bufio.NewWriterSize(file, 64<<10)
	}
	return f.text, nil
}

func (f *lazyFile) commit(ctx context.Context, known files.File, keep time.Duration) (bool, error) {
	if f.file == nil {
		return false, nil
	}
	if err := f.text.Flush(); err != nil {
		return false, err
	}
	_, err := f.file.Commit(ctx, known, keep)
	return err == nil, err
}

func (f *lazyFile) abort() {
	if f.file != nil {
		f.file.Abort()
	}
}
