package corpus

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const prose = "The first sentence has more than five words. The second one has as many of them. And a third one makes it prose."

// tree writes files, by their paths, and returns their folder.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	return dir
}

func names(documents []Document) []string {
	list := make([]string, len(documents))
	for i, d := range documents {
		list[i] = d.Name
	}
	return list
}

func TestFolderTakesEachTextFile(t *testing.T) {
	t.Parallel()
	dir := tree(t, map[string]string{
		"b.md": "text", "a.txt": "\uFEFFtext with a mark", "deep/er/c.rst": "text", "README": "text", "program.go": "package x",
		".git/d.md": "text", "node_modules/e.md": "text", "latin1.txt": "caf\xe9", "other.md": "\xff", "empty.md": " \n",
		"long.txt": strings.Repeat("a", maxFileBytes+1), "zero.txt": "a\x00b",
	})
	c, err := Folder(dir)
	require.NoError(t, err)
	assert.Equal(t, []string{"README", "a.txt", "b.md", "deep/er/c.rst"}, names(c.Documents))
	assert.Equal(t, "text with a mark", c.Documents[1].Text)
	assert.Equal(t, []string{
		"empty.md is left out: empty",
		"latin1.txt and 1 more are left out: not UTF-8",
		"long.txt is left out: larger than 512 KB",
		"zero.txt is left out: binary",
	}, c.Notes)
	assert.Contains(t, c.Origin, dir)
}

func TestFolderRefusals(t *testing.T) {
	t.Parallel()
	file := filepath.Join(tree(t, map[string]string{"a.md": "x"}), "a.md")
	_, err := Folder(file)
	require.ErrorContains(t, err, "is a file; name the folder that it lies in")
	_, err = Folder(filepath.Join(filepath.Dir(file), "missing"))
	require.ErrorContains(t, err, "missing cannot be read: no such file or directory; name a folder of text files")
	_, err = Folder(tree(t, map[string]string{"a.go": "x"}))
	require.ErrorIs(t, err, ErrNone)
}

func TestFolderIsBounded(t *testing.T) {
	t.Parallel()
	files := map[string]string{}
	for i := range maxDocuments + 3 {
		files[fmt.Sprintf("%05d.md", i)] = "text"
	}
	c, err := Folder(tree(t, files))
	require.NoError(t, err)
	assert.Len(t, c.Documents, maxDocuments)
	assert.Equal(t, []string{"the first 2000 of 2003 files are taken"}, c.Notes)
}

func TestSections(t *testing.T) {
	t.Parallel()
	text := strings.Join([]string{
		"---", "weight: 3", "---", "before", "# Title of `it`", "intro", "```sh", "# a comment", "---", "```",
		"## Part [one](https://x) ##", "one", "### Detail", "detail", "Part two", "--------", "two",
		"- item", "---", "after a rule",
	}, "\n")
	var got []string
	for _, s := range sections(text) {
		got = append(got, fmt.Sprintf("%s|%s|%s", s.within, s.heading, s.text))
	}
	assert.Equal(t, []string{
		"||before",
		"|Title of it|# Title of `it`\nintro\n```sh\n# a comment\n---\n```",
		"|Part one|## Part [one](https://x) ##\none",
		"Part one|Detail|### Detail\ndetail",
		"|Part two|Part two\n--------\ntwo\n- item\n---\nafter a rule",
	}, got)
	assert.Equal(t, " › Part one › Detail", section{heading: "Detail", within: "Part one"}.path())
	assert.Empty(t, section{}.path())
}

func TestLongSectionsAreCutAtAParagraph(t *testing.T) {
	t.Parallel()
	found := sections("# A\n\n" + strings.Repeat(prose+"\n\n", 200))
	require.Len(t, found, 1)
	assert.LessOrEqual(t, len(found[0].text), maxSectionBytes)
	assert.True(t, strings.HasSuffix(found[0].text, "makes it prose."))
	assert.True(t, strings.HasPrefix(shorten(strings.Repeat("é", maxSectionBytes)), "éé"), "no character is cut in two")
}

func TestProseSentences(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		text string
		want int
	}{
		{prose, 3},
		{"Too short. No. Five words are just enough here!", 1},
		{"```\n" + prose + "\n```\n", 0},
		{"    " + prose, 0},
		{"| " + prose, 0},
		{"# " + prose, 0},
		{"A [link with a dot. In its text](https://example.com/a.b) counts as its own text does.", 1},
		{"Version v1.2.3 of example.com is one sentence only, whatever its dots say.", 1},
		{"", 0},
	} {
		assert.Equal(t, test.want, proseSentences(test.text), test.text)
	}
}

func TestDependencies(t *testing.T) {
	t.Parallel()
	section := func(title string) string { return "## " + title + "\n\n" + prose + " " + title + ".\n\n" }
	cache := tree(t, map[string]string{
		"github.com/!big!corp/tool@v1.0.0/CHANGELOG.md":       section("Released"),
		"github.com/!big!corp/tool@v1.0.0/docs/guide.md":      section("Guide") + section("Contributing") + "## Short\n\nToo little.\n",
		"github.com/!big!corp/tool@v1.0.0/README.md":          section("Tool"),
		"github.com/!big!corp/tool@v1.0.0/CODE_OF_CONDUCT.md": section("Manners"),
		"github.com/!big!corp/tool@v1.0.0/testdata/README.md": section("Testdata"),
		"example.com/other@v2.0.0/README.md":                  section("Other") + section("Tool"),
		"example.com/new@v3.0.0/README.md":                    section("Replaced"),
	})
	modules := []*debug.Module{
		{Path: "github.com/BigCorp/tool", Version: "v1.0.0"},
		{Path: "example.com/other", Version: "v2.0.0"},
		{Path: "example.com/old", Version: "v1.0.0", Replace: &debug.Module{Path: "example.com/new", Version: "v3.0.0"}},
		{Path: "example.com/local", Version: "v1.0.0", Replace: &debug.Module{Path: "../local"}},
		{Path: "example.com/absent", Version: "v1.0.0"},
	}
	c := dependencies(cache, modules)
	require.NotNil(t, c)
	assert.Equal(t, []string{
		"github.com/BigCorp/tool/README.md › Tool",
		"example.com/other/README.md › Other",
		"example.com/new/README.md › Replaced",
		"github.com/BigCorp/tool/docs/guide.md › Guide",
		"github.com/BigCorp/tool/CHANGELOG.md › Released",
	}, names(c.Documents), "READMEs first; the same text once; manners, tests and what is too short are left out")
	assert.Contains(t, c.Origin, "3 of Forebay's own dependencies")
	assert.Nil(t, dependencies(filepath.Join(cache, "nowhere"), modules))
}

func TestFewSectionsAreTakenShorter(t *testing.T) {
	t.Parallel()
	var long, short strings.Builder
	for i := range enough + 50 {
		fmt.Fprintf(&long, "# Section %d\n\n%s\n\n", i, prose)
		fmt.Fprintf(&short, "# Section %d\n\nA single sentence of more than five words.\n\n", i)
	}
	assert.Len(t, split([]source{{"README.md", long.String()}}), enough)
	assert.Len(t, split([]source{{"README.md", short.String()}}), enough)
}

func TestOwnDocumentsStandIn(t *testing.T) {
	t.Parallel()
	assert.Nil(t, ownDocuments(nil))
	assert.Nil(t, ownDocuments(fstest.MapFS{}))
	c := ownDocuments(fstest.MapFS{"docs/a.md": {Data: []byte("# A\n\n" + prose)}})
	require.NotNil(t, c)
	require.Len(t, c.Documents, fewest, "few sections are repeated, and it is said")
	assert.Equal(t, []string{"docs/a.md › A", "docs/a.md › A (time 2)"}, names(c.Documents)[:2])
	assert.Equal(t, []string{"its sections are few (1), so each is taken several times"}, c.Notes)
}

// TestDefaultOfTheRealModules reads what go.mod requires from the module cache of this machine.
func TestDefaultOfTheRealModules(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../../go.mod")
	require.NoError(t, err)
	var modules []*debug.Module
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); strings.HasPrefix(line, "\t") && len(fields) > 1 {
			modules = append(modules, &debug.Module{Path: fields[0], Version: fields[1]})
		}
	}
	c := dependencies(moduleCache(t.Context()), modules)
	require.NotNil(t, c)
	assert.GreaterOrEqual(t, len(c.Documents), fewest)
	for _, d := range c.Documents {
		assert.GreaterOrEqual(t, proseSentences(d.Text), 3, d.Name)
		assert.LessOrEqual(t, len(d.Text), maxSectionBytes, d.Name)
	}
}
