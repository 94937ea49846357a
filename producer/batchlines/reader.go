// Package batchlines reads the lines of OpenAI's batches, and writes the lines that answer them. A file is read line by
// line, whatever its size: what is kept is one line, and of the others a hash of their custom_id.
//
// What makes a batch fail is the form of a line: JSON, custom_id, method, url, and that there is a body. What stands in the
// body is the request's own business, which fails alone.
package batchlines

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

const (
	// MaxLines is how many requests a batch may have.
	MaxLines = 50_000
	// MaxLineBytes is the longest line that is looked at: twice the largest job, which is refused by itself.
	MaxLineBytes = 16 << 20
	// MaxCustomID is how long a custom_id may be, in bytes.
	MaxCustomID = 512
)

// The codes of what is wrong with a line or a file, in OpenAI's words where it has them.
const (
	CodeInvalidJSON  = "invalid_json_line"
	CodeDuplicate    = "duplicate_custom_id"
	CodeURLMismatch  = "url_mismatch"
	CodeEmptyFile    = "empty_file"
	CodeTooManyTasks = "too_many_tasks"
	CodeTooLong      = "line_too_long"
	CodeMissing      = "missing_required_parameter"
	CodeInvalidType  = "invalid_type"
	CodeInvalidValue = "invalid_value"
)

const (
	fieldCustomID = "custom_id"
	fieldMethod   = "method"
	fieldURL      = "url"
	fieldBody     = "body"
)

// Problem is what is wrong with a line or, where Line is 0, with the file.
type Problem struct {
	Code, Message, Param string
	Line                 int
}

// Error implements error.
func (p *Problem) Error() string {
	if p.Line == 0 {
		return p.Message
	}
	return fmt.Sprintf("line %d: %s", p.Line, p.Message)
}

// Line is one request of a batch.
type Line struct {
	// Number is the line's in its file, from 1; lines that are empty count.
	Number   int
	CustomID string
	// Body is the body of the call, a JSON object. It is overwritten by the next line.
	Body json.RawMessage
}

// Reader reads lines one by one.
type Reader struct {
	source   *bufio.Reader
	endpoint string
	line     []byte
	number   int
}

// NewReader returns a Reader of a file whose requests are all of one endpoint, such as "/v1/chat/completions".
func NewReader(file io.Reader, endpoint string) *Reader {
	return &Reader{source: bufio.NewReaderSize(file, 64<<10), endpoint: endpoint}
}

// byteOrderMark may stand at the beginning of a file, and nowhere else.
var byteOrderMark = []byte("\xef\xbb\xbf")

// Next reads the next line that is not empty. A *Problem is the line's, and the others can still be read; io.EOF is the end.
func (r *Reader) Next() (Line, error) {
	for {
		whole, err := r.readLine()
		if err != nil {
			return Line{}, err
		}
		if !whole {
			return Line{}, r.problem(CodeTooLong, "", fmt.Sprintf("This line is longer than the %d bytes that are looked at.", MaxLineBytes))
		}
		text := r.line
		if r.number == 1 {
			text = bytes.TrimPrefix(text, byteOrderMark)
		}
		if text = bytes.Trim(text, " \t\r"); len(text) > 0 {
			return r.parse(text)
		}
	}
}

// readLine reads up to the end of a line; one that is too long is passed over.
func (r *Reader) readLine() (whole bool, err error) {
	r.line = r.line[:0]
	whole = true
	for {
		part, err := r.source.ReadSlice('\n')
		if len(part) > 0 && len(r.line)+len(part) > MaxLineBytes {
			whole = false
		}
		if whole {
			r.line = append(r.line, part...)
		}
		switch {
		case err == nil:
			r.number++
			r.line = bytes.TrimSuffix(r.line, []byte("\n"))
			return whole, nil
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && (len(r.line) > 0 || !whole):
			r.number++
			return whole, nil
		default:
			return false, err
		}
	}
}

func (r *Reader) problem(code, param, message string) *Problem {
	return &Problem{Code: code, Message: message, Param: param, Line: r.number}
}

// parse reads one line.
func (r *Reader) parse(text []byte) (Line, error) {
	if !utf8.Valid(text) {
		return Line{}, r.problem(CodeInvalidJSON, "", "This line is not valid UTF-8.")
	}
	if !json.Valid(text) {
		return Line{}, r.problem(CodeInvalidJSON, "", "This line is not parseable as valid JSON.")
	}
	if text[0] != '{' {
		return Line{}, r.problem(CodeInvalidJSON, "", "This line is not a JSON object.")
	}
	var fields [4][]byte // in the order of wanted
	for name, value := range members(text) {
		for i, wanted := range wanted {
			if name != wanted {
				continue
			}
			if fields[i] != nil {
				return Line{}, r.problem(CodeInvalidJSON, wanted, fmt.Sprintf("This line gives %s twice.", wanted))
			}
			fields[i] = value
		}
	}
	for i, wanted := range wanted {
		if fields[i] == nil {
			return Line{}, r.problem(CodeMissing, wanted, fmt.Sprintf("Missing required parameter: '%s'.", wanted))
		}
	}
	return r.check(fields)
}

// wanted are the fields of a line. Others are passed over.
var wanted = [...]string{fieldCustomID, fieldMethod, fieldURL, fieldBody}

func (r *Reader) check(fields [4][]byte) (Line, error) {
	var texts [3]string
	for i := range texts {
		if json.Unmarshal(fields[i], &texts[i]) != nil || fields[i][0] != '"' {
			return Line{}, r.problem(CodeInvalidType, wanted[i], fmt.Sprintf("Invalid type for '%s': a string is expected.", wanted[i]))
		}
	}
	customID, method, url, body := texts[0], texts[1], texts[2], fields[3]
	switch {
	case customID == "" || len(customID) > MaxCustomID:
		return Line{}, r.problem(CodeInvalidValue, fieldCustomID, fmt.Sprintf("The custom_id must have 1 to %d bytes.", MaxCustomID))
	case method != "POST":
		return Line{}, r.problem(CodeInvalidValue, fieldMethod, fmt.Sprintf("The method must be POST, got %.20q.", method))
	case url != r.endpoint:
		return Line{}, r.problem(CodeURLMismatch, fieldURL, fmt.Sprintf("The url %.100q of this request does not match the batch's endpoint %s.", url, r.endpoint))
	case body[0] != '{':
		return Line{}, r.problem(CodeInvalidType, fieldBody, "Invalid type for 'body': an object is expected.")
	}
	return Line{Number: r.number, CustomID: customID, Body: body}, nil
}
