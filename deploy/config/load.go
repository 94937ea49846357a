package config

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// maxFileBytes is larger than any configuration written by hand.
const maxFileBytes = 1 << 20

// Load reads and checks a file. See Parse.
func Load(path string) (*File, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		var cause *fs.PathError
		if errors.As(err, &cause) {
			err = cause.Err
		}
		return nil, fmt.Errorf("%s cannot be read: %w; name another file with --config, or write one with `forebay config init`", path, err)
	}
	return Parse(path, data)
}

// Parse reads and checks the text of a file; name is what problems call it. It fills in every default. Secrets are
// not looked for: see Check. The error is a *ParseError that holds all problems found, each with line and column.
func Parse(name string, data []byte) (*File, error) {
	file := &File{name: name, digest: sha256.Sum256(data), places: places{}}
	body, err := file.parseYAML(data)
	if err != nil {
		return nil, err
	}
	if body != nil {
		shape := schema{file: file}
		shape.value(body, reflect.TypeFor[File](), nil)
		if len(shape.problems) > 0 {
			return nil, parseError(shape.problems)
		}
		if err := file.decode(body); err != nil {
			return nil, err
		}
	}
	zeros := file.zeros()
	problems := file.problems(file.validate())
	if problems = append(problems, file.replaced(zeros)...); len(problems) > 0 {
		return nil, parseError(problems)
	}
	return file, nil
}

// parseYAML returns the one document of a file, or nil when the file is empty.
func (f *File) parseYAML(data []byte) (body ast.Node, err error) {
	defer f.contain(&err)
	if len(data) > maxFileBytes {
		return nil, f.wholeFile(fmt.Sprintf("has %d bytes; at most %d are read", len(data), maxFileBytes))
	}
	if !utf8.Valid(data) || bytes.IndexByte(data, 0) >= 0 {
		return nil, f.wholeFile("is not text in UTF-8; save it as UTF-8 (iconv -f UTF-16 -t UTF-8 converts what Windows calls Unicode)")
	}
	data = bytes.TrimPrefix(data, []byte("\uFEFF"))
	parsed, err := parser.ParseBytes(data, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, f.yamlError(err)
	}
	for _, document := range parsed.Docs {
		switch {
		case document.Body == nil:
		case document.Body.Type() == ast.DirectiveType:
			return nil, f.at(document.Body, "directives are not supported; remove the line")
		case body != nil:
			return nil, f.at(document.Body, "a second document begins here; the file holds one")
		default:
			body = document.Body
		}
	}
	return body, nil
}

func (f *File) decode(body ast.Node) (err error) {
	defer f.contain(&err)
	if err := yaml.NodeToValue(body, f, yaml.Strict()); err != nil {
		return f.yamlError(err)
	}
	return nil
}

// contain makes an error of a panic of the YAML library: text that it cannot take is a bad file, not the end of the
// process.
func (f *File) contain(err *error) {
	if recover() != nil {
		*err = f.wholeFile("cannot be read as YAML")
	}
}

func (f *File) wholeFile(text string) error {
	return &ParseError{Problems: []Problem{{File: f.name, Line: 1, Column: 1, Text: text}}}
}

func (f *File) at(node ast.Node, text string) error {
	where := positionOf(node)
	return &ParseError{Problems: []Problem{{File: f.name, Line: where.line, Column: where.column, Text: text}}}
}

// yamlError condenses the library's many-lined errors, which show the file's text, to one line without it.
func (f *File) yamlError(err error) error {
	problem := Problem{File: f.name, Line: 1, Column: 1, Text: "not YAML: cannot be read"}
	var located yaml.Error
	if errors.As(err, &located) {
		if token := located.GetToken(); token != nil && token.Position != nil {
			problem.Line, problem.Column = max(token.Position.Line, 1), max(token.Position.Column, 1)
		}
		message, _, _ := strings.Cut(located.GetMessage(), "\n")
		problem.Text = "not YAML: " + strings.ReplaceAll(message, "\t", `\t`)
	}
	return &ParseError{Problems: []Problem{problem}}
}
