// Package corpus gathers real documents to work on: the text files of a folder, or the documentation of Forebay's own
// dependencies as it lies in Go's module cache.
package corpus

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"unicode/utf8"
)

const (
	// maxFileBytes is the largest file that is read. What is longer is no document that somebody summarises whole.
	maxFileBytes = 512 << 10
	// maxDocuments bounds a folder: its records are kept in memory.
	maxDocuments = 2000
)

// ErrNone is wrapped by the errors that say that there is nothing to work on.
var ErrNone = errors.New("no documents")

// Document is one text to work on.
type Document struct {
	// Name tells people where the text comes from: a path, and the heading of a section.
	Name string
	// Text is what is sent, as it stands in its file.
	Text string
}

// Corpus is a set of documents.
type Corpus struct {
	Documents []Document
	// Origin says for people what the documents are.
	Origin string
	// Notes say what was left out, and why: one clause each.
	Notes []string
}

// source is a file that documents are made of.
type source struct {
	name string
	text string
}

// readable tells whether a file holds a document: Markdown, reStructuredText or plain text, by its name.
func readable(name string) bool {
	switch strings.ToLower(path.Ext(name)) {
	case ".md", ".markdown", ".mdx", ".rst", ".adoc", ".txt", ".text":
		return true
	case "":
		return strings.HasPrefix(strings.ToLower(name), "readme")
	}
	return false
}

// hidden tells whether a folder holds nothing that its user wrote for readers.
func hidden(name string) bool {
	return len(name) > 1 && strings.HasPrefix(name, ".") || name == "node_modules"
}

// unfit says why a text cannot be worked on, or "".
func unfit(text string) string {
	switch {
	case !utf8.ValidString(text):
		return "not UTF-8"
	case strings.TrimSpace(text) == "":
		return "empty"
	case strings.ContainsRune(text, 0):
		return "binary"
	}
	return ""
}

// leftOut counts files that are no documents, by the reason, and remembers one of each.
type leftOut struct {
	reasons []string
	count   map[string]int
	first   map[string]string
}

func (l *leftOut) add(name, reason string) {
	if l.count == nil {
		l.count, l.first = map[string]int{}, map[string]string{}
	}
	if l.count[reason] == 0 {
		l.reasons = append(l.reasons, reason)
		l.first[reason] = name
	}
	l.count[reason]++
}

func (l *leftOut) notes() []string {
	var notes []string
	for _, reason := range l.reasons {
		note := fmt.Sprintf("%s is left out: %s", l.first[reason], reason)
		if more := l.count[reason] - 1; more > 0 {
			note = fmt.Sprintf("%s and %d more are left out: %s", l.first[reason], more, reason)
		}
		notes = append(notes, note)
	}
	return notes
}

// walk calls visit with every readable file of a file system, in lexical order. Folders that cannot be read are left
// out, but for the root.
func walk(fsys fs.FS, skipped *leftOut, visit func(source) error) error {
	return fs.WalkDir(fsys, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil && name == ".":
			return err
		case err != nil:
			skipped.add(name, "cannot be read")
			return nil //nolint:nilerr // the rest of the folder can be
		case entry.IsDir() && hidden(entry.Name()):
			return fs.SkipDir
		case entry.IsDir() || !entry.Type().IsRegular() || !readable(entry.Name()):
			return nil
		}
		text, reason := read(fsys, name)
		if reason != "" {
			skipped.add(name, reason)
			return nil
		}
		return visit(source{name: name, text: text})
	})
}

// read returns a file's text, or why it is no document.
func read(fsys fs.FS, name string) (text, reason string) {
	info, err := fs.Stat(fsys, name)
	if err == nil && info.Size() > maxFileBytes {
		return "", fmt.Sprintf("larger than %d KB", maxFileBytes>>10)
	}
	data, err := fs.ReadFile(fsys, name)
	if err != nil {
		return "", "cannot be read"
	}
	text = strings.TrimPrefix(string(data), "\uFEFF")
	return text, unfit(text)
}
