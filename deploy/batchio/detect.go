package batchio

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// linesLookedAt is how many lines may be unreadable before one that tells the format.
const linesLookedAt = 1000

// Detect tells the format of an input: a folder is one, .csv and .tsv are what they say, and of lines the first that is
// an object tells: one with custom_id, url and body is a call, one with task_type, request, or input is a job. All others
// are FormatJSONL, and so are jobs without any of their own models where byText says that a task type was given beside
// them.
func Detect(path string, byText bool) (Format, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return "", unreadable(path, err)
	case info.IsDir():
		return FormatFolder, nil
	}
	switch strings.ToLower(filepath.Ext(path)) {
	case ".csv":
		return FormatCSV, nil
	case ".tsv":
		return FormatTSV, nil
	}
	file, err := os.Open(path)
	if err != nil {
		return "", unreadable(path, err)
	}
	defer func() { _ = file.Close() }() // it is only read
	lines := newLines(file)
	for range linesLookedAt {
		line, err := lines.next()
		if err != nil {
			break // at its end, or where Read will say what is wrong
		}
		var fields map[string]json.RawMessage
		if line.problem == nil && json.Unmarshal(line.text, &fields) == nil && fields != nil {
			return formatOf(fields, byText), nil
		}
	}
	return FormatJSONL, nil
}

func formatOf(fields map[string]json.RawMessage, byText bool) Format {
	has := func(names ...string) bool {
		for _, name := range names {
			if _, found := fields[name]; !found {
				return false
			}
		}
		return true
	}
	switch {
	case has("custom_id", "body"), has("url", "body"):
		return FormatOpenAI
	case has("task_type"), has("request"), has("input") && !byText:
		return FormatJobs
	}
	return FormatJSONL
}

func unreadable(path string, err error) error {
	var cause *fs.PathError
	if errors.As(err, &cause) {
		err = cause.Err
	}
	return fmt.Errorf("%s cannot be read: %w; name a file or a folder that is there", path, err)
}
