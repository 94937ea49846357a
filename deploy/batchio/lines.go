package batchio

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// lines reads a file line by line. A line that is too long is passed over without being held.
type lines struct {
	in     *bufio.Reader
	number int
}

// line is one that is not blank, without its end.
type line struct {
	number  int
	text    []byte
	problem error
}

// byteOrderMark is what some programs of Windows put before UTF-8.
var byteOrderMark = []byte("\xef\xbb\xbf")

func newLines(in io.Reader) *lines {
	reader := bufio.NewReaderSize(in, 64<<10)
	if start, err := reader.Peek(len(byteOrderMark)); err == nil && bytes.Equal(start, byteOrderMark) {
		_, _ = reader.Discard(len(byteOrderMark)) // it has been read
	}
	return &lines{in: reader}
}

// next returns the next line that is not blank, or io.EOF after the last one.
func (l *lines) next() (line, error) {
	for {
		text, tooLong, err := l.read()
		if err != nil {
			return line{}, err
		}
		l.number++
		switch {
		case tooLong > 0:
			return line{number: l.number, problem: fmt.Errorf("has %d bytes; at most %d are accepted", tooLong, mostBytes)}, nil
		case len(bytes.TrimSpace(text)) == 0:
			continue
		case !utf8.Valid(text):
			return line{number: l.number, problem: fmt.Errorf("not valid UTF-8 at byte %d", invalidUTF8At(text)+1)}, nil
		}
		return line{number: l.number, text: text}, nil
	}
}

// read returns one line that nothing else holds, or how long it is where that is too long.
func (l *lines) read() (text []byte, tooLong int, err error) {
	size := 0
	for {
		part, err := l.in.ReadSlice('\n')
		size += len(part)
		if size <= mostBytes+2 { // with the ends of Unix and Windows
			text = append(text, part...)
		} else {
			text = nil
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && size > 0, err == nil:
			text = bytes.TrimSuffix(bytes.TrimSuffix(text, []byte("\n")), []byte("\r"))
			if size > mostBytes+2 || len(text) > mostBytes {
				return nil, size, nil
			}
			return text, 0, nil
		}
		return nil, 0, err
	}
}

func invalidUTF8At(data []byte) int {
	for at := 0; at < len(data); {
		r, size := utf8.DecodeRune(data[at:])
		if r == utf8.RuneError && size == 1 {
			return at
		}
		at += size
	}
	return len(data)
}
