package batchio

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/forebay-queue/forebay/tasks"
)

// Style is what is written of an answer.
type Style string

// The styles.
const (
	// StyleResult is the answer with who gave it and what it cost.
	StyleResult Style = "result"
	// StyleText is the id and the text, nothing to dig for.
	StyleText Style = "text"
	// StyleResponse is the id and the provider's whole body.
	StyleResponse Style = "response"
	// StyleOpenAI are the lines of OpenAI's Batch API.
	StyleOpenAI Style = "openai"
)

// Styles lists all styles.
func Styles() []Style { return []Style{StyleResult, StyleText, StyleResponse, StyleOpenAI} }

// Answer is what came of an item.
type Answer struct {
	Key, File string
	Line      int
	// Result is the job's. It has no id where the item was never a job.
	Result tasks.Result
}

// Output is a file that stands under its name once it is whole.
type Output struct {
	path  string
	file  *os.File
	to    *bufio.Writer
	write func(Answer) error
	flush func() error
}

// partSuffix is what the name of a file has that is not whole.
const partSuffix = ".part"

// Create begins an output: CSV where the path ends in .csv, else a JSON object a line.
func Create(path string, style Style) (*Output, error) {
	table := strings.EqualFold(filepath.Ext(path), ".csv")
	if table && (style == StyleResponse || style == StyleOpenAI) {
		return nil, fmt.Errorf("%s is CSV, which has %s or %s; give another name for %s", path, StyleText, StyleResult, style)
	}
	o, err := create(path)
	if err != nil {
		return nil, err
	}
	o.write = func(a Answer) error { return o.line(a, style) }
	if table {
		rows := csv.NewWriter(o.to)
		if err := rows.Write(csvHeader(style)); err != nil {
			return nil, errors.Join(err, o.Abandon())
		}
		o.write = func(a Answer) error { return rows.Write(csvRow(a, style)) }
		o.flush = func() error {
			rows.Flush()
			return rows.Error()
		}
	}
	return o, nil
}

// CreateErrors begins the output of what did not succeed: a JSON object a line, OpenAI's where the answers are.
func CreateErrors(path string, style Style) (*Output, error) {
	o, err := create(path)
	if err != nil {
		return nil, err
	}
	o.write = func(a Answer) error { return o.errorLine(a, style) }
	return o, nil
}

func create(path string) (*Output, error) {
	file, err := os.OpenFile(path+partSuffix, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644) //nolint:gosec // results are for whoever may read the folder, as of any program
	if err != nil {
		return nil, fmt.Errorf("%s cannot be written: %w", path, cause(err))
	}
	return &Output{path: path, file: file, to: bufio.NewWriterSize(file, 64<<10), flush: func() error { return nil }}, nil
}

// Write adds an answer.
func (o *Output) Write(a Answer) error { return o.failed(o.write(a)) }

// Commit has the file stand under its name, on the disk.
func (o *Output) Commit() error {
	if err := errors.Join(o.flush(), o.to.Flush(), o.file.Sync(), o.file.Close()); err != nil {
		return o.failed(err)
	}
	if err := os.Rename(o.path+partSuffix, o.path); err != nil {
		return o.failed(err)
	}
	return o.failed(SyncFolder(filepath.Dir(o.path)))
}

// Abandon takes away what was written.
func (o *Output) Abandon() error {
	return errors.Join(o.file.Close(), os.Remove(o.path+partSuffix))
}

func (o *Output) failed(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s cannot be written: %w", o.path, cause(err))
}

// SyncFolder has the names in a folder written to the disk. Systems that cannot do it do it by themselves.
func SyncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	_ = folder.Sync()
	return folder.Close()
}

// json writes one value as a line.
func (o *Output) json(value any) error {
	text, err := tasks.Encode(value)
	if err != nil {
		return err
	}
	_, err = o.to.Write(append(text, '\n'))
	return err
}

func csvHeader(style Style) []string {
	if style == StyleText {
		return []string{"id", "text"}
	}
	return []string{"id", "text", "model", "endpoint", "prompt_tokens", "completion_tokens", "cost_usd", "job"}
}

func csvRow(a Answer, style Style) []string {
	r := a.Result
	if style == StyleText {
		return []string{a.Key, r.Text}
	}
	var usage tasks.Usage
	if r.Usage != nil {
		usage = *r.Usage
	}
	return []string{
		a.Key, r.Text, r.Model, r.Endpoint, strconv.Itoa(usage.PromptTokens), strconv.Itoa(usage.CompletionTokens),
		strconv.FormatFloat(r.CostUSD, 'f', -1, 64), r.ID,
	}
}
