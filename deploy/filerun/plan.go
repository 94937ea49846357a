package filerun

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strings"

	"github.com/forebay-queue/forebay/deploy/batchio"
	"github.com/forebay-queue/forebay/tasks"
)

// plannedLine is one line of the input, as the output needs it.
type plannedLine struct {
	Line int    `json:"line"`
	File string `json:"file,omitempty"`
	Key  string `json:"key"`
	// Entry is that of its job, absent where it cannot be one.
	Entry   *int   `json:"e,omitempty"`
	Problem string `json:"problem,omitempty"`
}

// planned is an input that has been read once.
type planned struct {
	// entries are those of its lines, in order, without those that cannot be jobs.
	entries []int
	refused int
}

// chains find the entries of a fingerprint, the oldest first, each once.
type chains struct {
	first map[mark]int32
	next  []int32
}

// chain links the entries that may be taken.
func (j *Journal) chain(usable func(e *entry) bool) *chains {
	c := &chains{first: make(map[mark]int32, len(j.entries)), next: make([]int32, len(j.entries))}
	for at := len(j.entries) - 1; at >= 0; at-- {
		if e := &j.entries[at]; usable(e) {
			before, found := c.first[e.mark]
			if !found {
				before = -1
			}
			c.next[at], c.first[e.mark] = before, int32(at)
		}
	}
	return c
}

func (c *chains) take(p mark) (int, bool) {
	at, found := c.first[p]
	switch {
	case !found:
		return 0, false
	case c.next[at] < 0:
		delete(c.first, p)
	default:
		c.first[p] = c.next[at]
	}
	return int(at), true
}

// planInput reads the input, and gives each line that can be a job the entry of an earlier run that asked the same, or a
// new one. After it everything stands on the disk.
func (j *Journal) planInput(items iter.Seq2[batchio.Item, error], chains *chains, begin func() error) (*planned, error) {
	file, err := os.Create(filepath.Join(j.dir, linesName))
	if err != nil {
		return nil, err
	}
	to := bufio.NewWriterSize(file, 64<<10)
	plan, err := j.planItems(items, chains, to, begin)
	return plan, errors.Join(err, to.Flush(), file.Close(), j.syncPlan())
}

func (j *Journal) planItems(items iter.Seq2[batchio.Item, error], chains *chains, to io.Writer, begin func() error) (*planned, error) {
	plan := &planned{}
	begun := false
	lines := json.NewEncoder(to)
	for item, err := range items {
		if err != nil {
			return nil, err
		}
		line := plannedLine{Line: item.Line, File: item.File, Key: item.Key}
		if item.Problem != nil {
			line.Problem = item.Problem.Error()
			plan.refused++
		} else {
			p, err := markOf(item.Job)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", item.Place(), err)
			}
			at, found := chains.take(p)
			if !found {
				if !begun {
					if err := begin(); err != nil {
						return nil, err
					}
					begun = true
				}
				if at, err = j.add(p); err != nil {
					return nil, err
				}
			}
			line.Entry = &at
			plan.entries = append(plan.entries, at)
		}
		if err := lines.Encode(line); err != nil {
			return nil, err
		}
	}
	return plan, nil
}

func markOf(job tasks.Job) (mark, error) {
	text, err := tasks.Fingerprint(job)
	if err != nil {
		return mark{}, err
	}
	var p mark
	_, err = hex.Decode(p[:], []byte(text))
	return p, err
}

// lines are those of the input that was planned last.
func (j *Journal) lines() iter.Seq2[plannedLine, error] {
	return func(yield func(plannedLine, error) bool) {
		file, err := os.Open(filepath.Join(j.dir, linesName))
		if err != nil {
			yield(plannedLine{}, err)
			return
		}
		defer func() { _ = file.Close() }() // it is only read
		for lines := json.NewDecoder(bufio.NewReaderSize(file, 64<<10)); ; {
			var line plannedLine
			err := lines.Decode(&line)
			if errors.Is(err, io.EOF) || !yield(line, err) || err != nil {
				return
			}
		}
	}
}

// memberID is that of a member's job.
func memberID(batch string, number int) string { return fmt.Sprintf("%s-%d", batch, number) }

// oneLine joins what several lines of an error say.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }
