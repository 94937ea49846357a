package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/forebay-queue/forebay/tasks/catalog"
)

// Problem is what is wrong at one place of the file.
type Problem struct {
	// File is the file's name as it was given.
	File string `json:"file"`
	// Line and Column count from 1. What is missing has the place of what it is missing from.
	Line   int `json:"line"`
	Column int `json:"column"`
	// Path leads to the place: "endpoints.official.timeout". Empty for the whole file.
	Path string `json:"path,omitempty"`
	// Text says what is wrong and what would be right.
	Text string `json:"text"`
}

// String writes the problem on one line, as compilers do:
// "forebay.yaml:12:5: endpoints.official.timout: unknown field, did you mean timeout?".
func (p Problem) String() string {
	text := p.Text
	if p.Path != "" {
		text = p.Path + ": " + text
	}
	return oneLine(fmt.Sprintf("%s:%d:%d: %s", p.File, p.Line, p.Column, text))
}

// ParseError is all that is wrong with a file, in the order of its lines.
type ParseError struct{ Problems []Problem }

// Error implements error: one line per problem.
func (e *ParseError) Error() string {
	lines := make([]string, len(e.Problems))
	for i, problem := range e.Problems {
		lines[i] = problem.String()
	}
	return strings.Join(lines, "\n")
}

func parseError(problems []Problem) error {
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), strings.Compare(a.Path, b.Path))
	})
	return &ParseError{Problems: problems}
}

// problems gives each part of a joined error its place in the file.
func (f *File) problems(err error) []Problem {
	if err == nil {
		return nil
	}
	var found []Problem
	for _, part := range parts(err) {
		var located *catalog.PathError
		if errors.As(part, &located) {
			found = append(found, f.problem(located.Path, located.Problem))
		} else {
			found = append(found, f.problem(nil, part.Error()))
		}
	}
	return found
}

// parts takes a joined error apart.
func parts(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}

func (f *File) problem(path []string, text string) Problem {
	where := f.places.find(path)
	return Problem{File: f.name, Line: where.line, Column: where.column, Path: catalog.JoinPath(path), Text: text}
}

// position is a place in the file, counted from 1.
type position struct{ line, column int }

// place is where something of the file stands.
type place struct {
	key, value position
	// scalar: a problem with it is shown at its value, one with a mapping or list at its key.
	scalar bool
}

// places finds what stands where, by path.
type places map[string]place

const pathSeparator = "\x00" // in no key: see schema.mapping

func (p places) put(path []string, at place) { p[strings.Join(path, pathSeparator)] = at }

func (p places) has(path ...string) bool {
	_, found := p[strings.Join(path, pathSeparator)]
	return found
}

// find is where a path stands, or the nearest that it would stand in.
func (p places) find(path []string) position {
	for length := len(path); length > 0; length-- {
		at, found := p[strings.Join(path[:length], pathSeparator)]
		switch {
		case found && at.scalar && length == len(path):
			return at.value
		case found:
			return at.key
		}
	}
	return position{1, 1}
}

// oneLine replaces what would break a line of a terminal or a log.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\u0085' || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
}
