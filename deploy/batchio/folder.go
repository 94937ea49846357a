package batchio

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"unicode/utf8"
)

// The names of files that are read, in lower case; those of htmlNames are HTML.
var (
	textNames = []string{".txt", ".text", ".md", ".markdown"}
	htmlNames = []string{".html", ".htm", ".xhtml"}
)

// readFolder yields an item for each text file below a folder, in the order of their paths. Files and folders whose names
// begin with a dot are left out, and links are not followed.
func readFolder(config Config, yield func(Item, error) bool) {
	folder := os.DirFS(config.Path)
	number := 0
	err := fs.WalkDir(folder, ".", func(name string, entry fs.DirEntry, err error) error {
		hidden := strings.HasPrefix(path.Base(name), ".") && name != "."
		switch {
		case err != nil && name == ".":
			return unreadable(config.Path, err)
		case hidden && entry.IsDir():
			return fs.SkipDir
		case err == nil && (hidden || !entry.Type().IsRegular() || !isText(name)):
			return nil
		}
		number++
		item := Item{Line: number, File: name, Key: name}
		if !utf8.ValidString(name) {
			item.File = strings.ToValidUTF8(name, "\uFFFD")
			item.Key = item.File
		}
		var text string
		if item.Problem = err; err == nil {
			text, item.Problem = readText(folder, name)
		}
		if item.Problem == nil {
			item, item.Problem = item.asking(config, text)
		}
		if !yield(item.named(), nil) {
			return fs.SkipAll
		}
		return nil
	})
	switch {
	case err != nil:
		yield(Item{}, err)
	case number == 0:
		yield(Item{}, fmt.Errorf("%s holds no files %s", config.Path, strings.Join(slices.Concat(textNames, htmlNames), ", ")))
	}
}

func isText(name string) bool {
	extension := strings.ToLower(path.Ext(name))
	return slices.Contains(textNames, extension) || slices.Contains(htmlNames, extension)
}

// readText reads a file, and takes the text out of HTML.
func readText(folder fs.FS, name string) (string, error) {
	file, err := folder.Open(name)
	if err != nil {
		return "", cause(err)
	}
	defer func() { _ = file.Close() }() // it is only read
	data, err := io.ReadAll(io.LimitReader(file, mostBytes+1))
	switch {
	case err != nil:
		return "", cause(err)
	case len(data) > mostBytes:
		return "", fmt.Errorf("has more than %d bytes; divide it", mostBytes)
	case !utf8.Valid(data) || bytes.IndexByte(data, 0) >= 0:
		return "", errors.New("is not text in UTF-8; convert it first, for example with iconv")
	}
	data = bytes.TrimPrefix(data, byteOrderMark)
	if slices.Contains(htmlNames, strings.ToLower(path.Ext(name))) {
		return textOfHTML(data), nil
	}
	return string(data), nil
}

// cause is an error without the path, which its item names.
func cause(err error) error {
	var of *fs.PathError
	if errors.As(err, &of) {
		return of.Err
	}
	return err
}
