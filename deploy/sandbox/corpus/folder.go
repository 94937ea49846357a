package corpus

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// Folder makes one document of each text file below a folder: Markdown, reStructuredText or plain text, in UTF-8, up
// to 512 KB. Hidden folders are left out. At most 2,000 are taken, in the order of their paths.
func Folder(dir string) (*Corpus, error) {
	info, err := os.Stat(dir)
	var cause *fs.PathError
	switch {
	case errors.As(err, &cause):
		return nil, fmt.Errorf("the folder %s cannot be read: %w; name a folder of text files", dir, cause.Err)
	case err != nil:
		return nil, fmt.Errorf("the folder %s cannot be read: %w; name a folder of text files", dir, err)
	case !info.IsDir():
		return nil, fmt.Errorf("%s is a file; name the folder that it lies in", dir)
	}
	c := &Corpus{}
	var skipped leftOut
	found := 0
	err = walk(os.DirFS(dir), &skipped, func(s source) error {
		if found++; found <= maxDocuments {
			c.Documents = append(c.Documents, Document{Name: s.name, Text: s.text})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("the folder %s cannot be read: %w", dir, err)
	}
	if found == 0 {
		return nil, fmt.Errorf("%w: %s holds no text files (.md, .rst, .adoc, .txt) in UTF-8; name another folder, or none for the documents that come with Forebay", ErrNone, dir)
	}
	c.Origin = fmt.Sprintf("the text files of %s", dir)
	c.Notes = skipped.notes()
	if found > maxDocuments {
		c.Notes = append(c.Notes, fmt.Sprintf("the first %d of %d files are taken", maxDocuments, found))
	}
	return c, nil
}
