// Package batchio reads what `forebay batch run` is to do from files, and writes what came of it into one.
//
// Read yields one Item for each line, row or file of an input. What cannot be read is an Item with a Problem that names
// its place, and everything else goes on. Nothing is held but the line at hand, however long the input.
//
// Create writes a file that appears under its name, whole, when it is committed.
package batchio

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/forebay-queue/forebay/tasks"
)

// Format is how an input is written.
type Format string

// The formats.
const (
	// FormatOpenAI are lines of OpenAI's Batch API: custom_id, method, url, body.
	FormatOpenAI Format = "openai"
	// FormatJobs are jobs of Forebay, one a line.
	FormatJobs Format = "jobs"
	// FormatJSONL are any JSON objects, one a line, with a text in one of their fields.
	FormatJSONL Format = "jsonl"
	// FormatCSV is RFC 4180, with a header, and a text in one of its columns. FormatTSV is the same with tabs.
	FormatCSV Format = "csv"
	FormatTSV Format = "tsv"
	// FormatFolder are the text, Markdown and HTML files below a folder.
	FormatFolder Format = "folder"
)

// Formats lists all formats.
func Formats() []Format {
	return []Format{FormatOpenAI, FormatJobs, FormatJSONL, FormatCSV, FormatTSV, FormatFolder}
}

// Brings tells whether the lines of the format are whole jobs, which need no task type beside them.
func (f Format) Brings() bool { return f == FormatOpenAI || f == FormatJobs }

// Config says what is read, and how. A zero field means its documented default.
type Config struct {
	// Path is a file or a folder. Required.
	Path string
	// Format defaults to what the name and the first lines of the input tell, see Detect.
	Format Format
	// TextField is the field or column of the text. Defaults to "text". IDField is that of the name that the answer is
	// found by; it defaults to "id" where there is one, else to the number of the line.
	TextField, IDField string
	// JobOfText makes a job of a text. Required but for the formats that bring jobs.
	JobOfText func(text string) tasks.Job
	// JobOfCall makes a job of a call to OpenAI's API: the path of its URL and its body. Required for FormatOpenAI.
	JobOfCall func(url string, body json.RawMessage) (tasks.Job, error)
}

// Item is one line, row or file of an input.
type Item struct {
	// Line is where it begins, counted from 1; in a folder it is the number of the file.
	Line int
	// File is the path of the file below its folder; empty for all other formats.
	File string
	// Key is what its answer is found by: the custom_id, the job's id, the value of the id field, the path of the file, or
	// the number of the line. It may be there beside a Problem.
	Key string
	// Job is what it asks for, without an id.
	Job tasks.Job
	// Problem says why it cannot be asked for; nil where it can.
	Problem error
}

// Place names an item's line or file for people.
func (i Item) Place() string {
	if i.File != "" {
		return i.File
	}
	return fmt.Sprintf("line %d", i.Line)
}

const (
	defaultTextField = "text"
	defaultIDField   = "id"
	// longestKey is what a key may have; OpenAI's custom_id has no documented bound, and nobody needs more.
	longestKey = 512
	// mostBytes bounds a line, a row or a file. A text grows as JSON, so that a job may still be too large.
	mostBytes = tasks.MaxJobBytes
)

func (c Config) withDefaults() Config {
	if c.TextField == "" {
		c.TextField = defaultTextField
	}
	return c
}

// idField is the field of the id, and whether every line has to have it.
func (c Config) idField() (name string, required bool) {
	if c.IDField != "" {
		return c.IDField, true
	}
	return defaultIDField, false
}

var errEmptyText = errors.New("its text is empty; there is nothing to ask for")
