package batchio

import (
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"iter"
	"os"
)

// Read yields the items of an input in their order. An error ends it: the input cannot be read any further.
func Read(config Config) iter.Seq2[Item, error] {
	config = config.withDefaults()
	return func(yield func(Item, error) bool) {
		if config.Format == FormatFolder {
			readFolder(config, yield)
			return
		}
		file, err := os.Open(config.Path)
		if err != nil {
			yield(Item{}, unreadable(config.Path, err))
			return
		}
		defer func() { _ = file.Close() }() // it is only read
		readFrom(file, config, yield)
	}
}

// readFrom reads every format but folders.
func readFrom(in io.Reader, config Config, yield func(Item, error) bool) {
	var decode func(Config, []byte) (Item, error)
	switch config.Format {
	case FormatOpenAI:
		decode = decodeCall
	case FormatJobs:
		decode = decodeJob
	case FormatJSONL:
		decode = decodeObject
	case FormatCSV, FormatTSV:
		readTable(in, config, yield)
		return
	case FormatFolder:
		fallthrough // which is no file
	default:
		yield(Item{}, fmt.Errorf("a file has no format %q; there are %v", config.Format, Formats()))
		return
	}
	seen := newIDs(config.Format)
	for lines := newLines(in); ; {
		line, err := lines.next()
		switch {
		case errors.Is(err, io.EOF):
			return
		case err != nil:
			yield(Item{}, unreadable(config.Path, err))
			return
		}
		item := Item{}
		if item.Problem = line.problem; item.Problem == nil {
			item, item.Problem = decode(config, line.text)
		}
		if item.Problem == nil {
			item.Problem = seen.add(item.Key, line.number)
		}
		if item.Line = line.number; !yield(item.named(), nil) {
			return
		}
	}
}

// ids knows which ids there were, where each may stand once: in OpenAI's lines, whose answers are told apart by them alone.
type ids struct {
	seed  maphash.Seed
	lines map[uint64]int
}

func newIDs(format Format) *ids {
	if format != FormatOpenAI {
		return nil
	}
	return &ids{maphash.MakeSeed(), map[uint64]int{}}
}

// add reports an id that an earlier line has.
func (s *ids) add(id string, line int) error {
	if s == nil {
		return nil
	}
	hash := maphash.String(s.seed, id)
	if first, found := s.lines[hash]; found {
		return fmt.Errorf("custom_id %.100q is that of line %d, too; it must be unique", id, first)
	}
	s.lines[hash] = line
	return nil
}

// named makes sure that the item has a key.
func (i Item) named() Item {
	switch {
	case i.Key == "":
		i.Key = fmt.Sprint(i.Line)
	case len(i.Key) > longestKey:
		if i.Problem == nil {
			i.Problem = fmt.Errorf("its id has %d bytes; at most %d are accepted", len(i.Key), longestKey)
		}
		i.Key = fmt.Sprint(i.Line)
	}
	return i
}
