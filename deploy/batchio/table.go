package batchio

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// readTable reads CSV with a header.
func readTable(in io.Reader, config Config, yield func(Item, error) bool) {
	bounded := &boundedReader{in: in, left: mostBytes}
	reader := csv.NewReader(newLines(bounded).in)
	if config.Format == FormatTSV {
		reader.Comma = '\t'
	}
	header, err := reader.Read()
	if err != nil {
		yield(Item{}, headerProblem(config.Path, err))
		return
	}
	columns, err := columnsOf(config, header)
	if err != nil {
		yield(Item{}, err)
		return
	}
	for last := 1; ; {
		bounded.left = mostBytes
		row, err := reader.Read()
		switch {
		case errors.Is(err, io.EOF):
			return
		case bounded.exceeded:
			yield(Item{}, fmt.Errorf("%s: the row after that of line %d has more than %d bytes; look for a quote that is not closed", config.Path, last, mostBytes))
			return
		}
		item, fatal := columns.item(config, reader, row, err)
		if fatal != nil {
			yield(Item{}, unreadable(config.Path, fatal))
			return
		}
		if last = item.Line; !yield(item.named(), nil) {
			return
		}
	}
}

func headerProblem(path string, err error) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%s is empty; its first line must name its columns", path)
	}
	return fmt.Errorf("%s: the first line, which names the columns, cannot be read: %w", path, err)
}

// columns are the places of what is read of a row; id is -1 where there is none.
type columns struct{ text, id int }

func columnsOf(config Config, header []string) (columns, error) {
	idField, required := config.idField()
	for _, name := range []string{config.TextField, idField} {
		if at := slices.Index(header, name); at >= 0 && slices.Contains(header[at+1:], name) {
			return columns{}, fmt.Errorf("%s has two columns %q; rename one of them", config.Path, name)
		}
	}
	found := columns{slices.Index(header, config.TextField), slices.Index(header, idField)}
	switch {
	case found.text < 0:
		return found, fmt.Errorf("%s has no column %q; name the one of the text with --text-field: %s", config.Path, config.TextField, listed(slices.Clone(header)))
	case found.id < 0 && required:
		return found, fmt.Errorf("%s has no column %q; name the one of the ids with --id-field: %s", config.Path, idField, listed(slices.Clone(header)))
	}
	return found, nil
}

// item is what a row asks for, or why it cannot be read. The second error is one of reading the file.
func (c columns) item(config Config, reader *csv.Reader, row []string, err error) (Item, error) {
	var item Item
	var parse *csv.ParseError
	switch {
	case errors.As(err, &parse):
		item.Line = parse.StartLine
		if item.Problem = parse.Err; parse.Line != parse.StartLine {
			item.Problem = fmt.Errorf("%w in line %d", parse.Err, parse.Line)
		}
	case err != nil:
		return item, err
	default:
		item.Line, _ = reader.FieldPos(0)
	}
	if len(row) > max(c.text, c.id) && c.id >= 0 && utf8.ValidString(row[c.id]) {
		item.Key = strings.Clone(row[c.id])
	}
	if item.Problem != nil {
		return item, nil //nolint:nilerr // what is wrong with one row is the item's problem, and no end of the file
	}
	text := strings.Clone(row[c.text]) // without the rest of its row
	if !utf8.ValidString(text) || c.id >= 0 && !utf8.ValidString(row[c.id]) {
		item.Problem = errors.New("not valid UTF-8")
		return item, nil
	}
	line := item.Line
	if item, err = item.asking(config, text); err != nil {
		item.Problem = err
	}
	item.Line = line
	return item, nil
}

// boundedReader ends when one row takes too much, such as all that follows a quote that nobody closed.
type boundedReader struct {
	in       io.Reader
	left     int
	exceeded bool
}

func (b *boundedReader) Read(into []byte) (int, error) {
	if b.left <= 0 {
		b.exceeded = true
		return 0, errors.New("a row is too long")
	}
	n, err := b.in.Read(into)
	b.left -= n
	return n, err
}
