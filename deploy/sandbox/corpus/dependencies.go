package corpus

import (
	"cmp"
	"context"
	"fmt"
	"go/build"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"time"
	"unicode"
)

const (
	// enough is how many sections are taken where there are more.
	enough = 200
	// fewest is how many there should be: with fewer, shorter sections count too.
	fewest = 150
	// goTimeout bounds asking the go command for its settings.
	goTimeout = 5 * time.Second
)

// Default gathers the documentation of Forebay's own dependencies as it lies in Go's module cache: one document per
// section with at least three sentences of prose, READMEs first, then the further pages, then release notes, up to 200.
// Without a module cache, as on a machine without Go, it is own, the project's own documents, taken several times if
// they are few; own may be nil.
func Default(ctx context.Context, own fs.FS) (*Corpus, error) {
	cache := moduleCache(ctx)
	if info, ok := debug.ReadBuildInfo(); ok {
		if c := dependencies(cache, info.Deps); c != nil {
			return c, nil
		}
	}
	if c := ownDocuments(own); c != nil {
		return c, nil
	}
	return nil, fmt.Errorf("%w: Forebay's dependencies do not lie in the Go module cache (%s); name a folder of text files", ErrNone, cache)
}

// dependencies returns nil when no module lies in the cache.
func dependencies(cache string, modules []*debug.Module) *Corpus {
	var all []source
	present := 0
	for _, module := range modules {
		if module.Replace != nil {
			module = module.Replace
		}
		if module.Version == "" {
			continue // replaced by a folder: the user's own work
		}
		dir := filepath.Join(cache, filepath.FromSlash(escape(module.Path)+"@"+module.Version))
		found := len(all)
		_ = walk(os.DirFS(dir), &leftOut{}, func(s source) error { // a module that is not there is left out
			if rank(s.name) < ranks {
				all = append(all, source{name: path.Join(module.Path, s.name), text: s.text})
			}
			return nil
		})
		if len(all) > found {
			present++
		}
	}
	if present == 0 {
		return nil
	}
	return &Corpus{
		Documents: split(all),
		Origin:    fmt.Sprintf("sections of the documentation of %d of Forebay's own dependencies, in %s", present, cache),
	}
}

// ownDocuments repeats its sections until there are enough to show what the demonstration is about.
func ownDocuments(own fs.FS) *Corpus {
	if own == nil {
		return nil
	}
	var all []source
	err := walk(own, &leftOut{}, func(s source) error {
		all = append(all, s)
		return nil
	})
	documents := split(all)
	if err != nil || len(documents) == 0 {
		return nil
	}
	c := &Corpus{
		Documents: documents,
		Origin:    "sections of Forebay's own documentation (its dependencies do not lie in a Go module cache here)",
	}
	if len(documents) < fewest {
		c.Notes = []string{fmt.Sprintf("its sections are few (%d), so each is taken several times", len(documents))}
	}
	for round := 2; len(c.Documents) < fewest; round++ {
		for _, d := range documents {
			d.Name += fmt.Sprintf(" (time %d)", round)
			c.Documents = append(c.Documents, d)
		}
	}
	return c
}

// split makes a document of every section with enough prose: three sentences, or fewer where that leaves too few
// sections. The same text is taken once.
func split(all []source) []Document {
	slices.SortStableFunc(all, func(a, b source) int { return cmp.Compare(rank(a.name), rank(b.name)) })
	var documents []Document
	for sentences := 3; sentences > 0; sentences-- {
		documents = nil
		seen := map[string]bool{}
		for _, s := range all {
			for _, part := range sections(s.text) {
				if seen[part.text] || manners.MatchString(part.heading) || proseSentences(part.text) < sentences {
					continue
				}
				seen[part.text] = true
				documents = append(documents, Document{Name: s.name + part.path(), Text: part.text})
			}
		}
		if len(documents) >= fewest {
			break
		}
	}
	return documents[:min(len(documents), enough)]
}

// manners are the headings of sections that say the same in every project.
var manners = regexp.MustCompile(`(?i)^(licen[cs]e|copyright|contribut\w+|how to contribute|sponsor\w*|looking for sponsors|credits|authors?|` +
	`report(ing)? issues.*)$`)

// ranks is the number of sorts of pages that are worth a summary.
const ranks = 3

// rank orders pages by what a reader would look at first. The rank "ranks" is for what is left out: pages about a
// project's manners, which hardly differ from one to the next, and files of its tests.
func rank(name string) int {
	base := strings.ToLower(path.Base(name))
	base = strings.TrimSuffix(base, path.Ext(base))
	switch {
	case strings.Contains(name, "testdata/"):
		return ranks
	case strings.HasPrefix(base, "readme"):
		return 0
	case strings.HasPrefix(base, "changelog"), strings.HasPrefix(base, "release"), strings.HasPrefix(base, "history"):
		return 2
	case strings.Contains(base, "conduct"), strings.HasPrefix(base, "license"), strings.HasPrefix(base, "security"),
		strings.HasPrefix(base, "contribut"), strings.HasPrefix(base, "agents"), strings.HasPrefix(base, "claude"),
		strings.HasPrefix(base, "todo"), strings.HasSuffix(name, ".txt"):
		return ranks
	}
	return 1
}

// escape writes a module's path as the module cache does: "!a" for "A" (golang.org/ref/mod#module-cache).
func escape(module string) string {
	var escaped strings.Builder
	for _, r := range module {
		if unicode.IsUpper(r) {
			escaped.WriteByte('!')
			r = unicode.ToLower(r)
		}
		escaped.WriteRune(r)
	}
	return escaped.String()
}

// moduleCache is the folder of Go's module cache: what the environment says, what the go command says, where it is
// by default.
func moduleCache(ctx context.Context) string {
	if dir := os.Getenv("GOMODCACHE"); dir != "" {
		return dir
	}
	ctx, cancel := context.WithTimeout(ctx, goTimeout)
	defer cancel()
	if output, err := exec.CommandContext(ctx, "go", "env", "GOMODCACHE").Output(); err == nil {
		if dir := strings.TrimSpace(string(output)); dir != "" {
			return dir
		}
	}
	paths := filepath.SplitList(build.Default.GOPATH)
	if len(paths) == 0 {
		return ""
	}
	return filepath.Join(paths[0], "pkg", "mod")
}
