package corpus

import (
	"regexp"
	"strings"
	"unicode"
)

// maxSectionBytes is where a long section is cut, at the end of a paragraph.
const maxSectionBytes = 8 << 10

// section is a part of a document under one heading.
type section struct {
	heading string
	within  string // the heading above it, but for the document's title
	text    string // with the heading
}

// path tells people where in its document the section stands: " › parent › heading".
func (s section) path() string {
	var path string
	for _, step := range []string{s.within, s.heading} {
		if step != "" {
			path += " › " + step
		}
	}
	return path
}

// headings is the path of headings that leads to a section: one for each level, or "".
type headings [7]string

func (h *headings) enter(level int, title string) {
	h[level] = title
	clear(h[level+1:])
}

// leaf is the deepest heading, parent the one above it, but for the document's title.
func (h *headings) leaf() string { return h.above(len(h)) }

func (h *headings) parent() string {
	for level := len(h) - 1; level > 0; level-- {
		if h[level] != "" {
			return (&headings{2: h[2], 3: h[3], 4: h[4], 5: h[5]}).above(level)
		}
	}
	return ""
}

// above is the deepest heading of a level below the given one.
func (h *headings) above(level int) string {
	for level--; level > 0; level-- {
		if h[level] != "" {
			return h[level]
		}
	}
	return ""
}

// underlineLevel is how deep the usual underlines of headings stand.
var underlineLevel = map[byte]int{'=': 1, '-': 2, '~': 3, '^': 4}

var (
	fence     = regexp.MustCompile("^ {0,3}(```|~~~)")
	heading   = regexp.MustCompile(`^ {0,3}(#{1,6})\s+(.*?)\s*#*\s*$`)
	underline = regexp.MustCompile(`^(={3,}|-{3,}|~{3,}|\^{3,})\s*$`)
	listItem  = regexp.MustCompile(`^\s*([-*+]|\d+[.)])\s`)
	link      = regexp.MustCompile(`!?\[([^\]]*)\]\([^)]*\)|!?\[([^\]]*)\]\[[^\]]*\]`)
	noProse   = regexp.MustCompile(`^\s*(\||<|!\[|\[!|\.\. )|^ {4}|^\t`)
	stop      = regexp.MustCompile(`[.!?]["')\]*_` + "`" + `]*(\s+|$)`)
)

// sections splits a document at its headings, of Markdown (both ways) or reStructuredText. What stands before the
// first heading is a section without one.
func sections(text string) []section {
	var (
		found  []section
		path   headings
		lines  []string
		fenced bool
	)
	finish := func() {
		if body := strings.TrimSpace(strings.Join(lines, "\n")); body != "" {
			found = append(found, section{heading: path.leaf(), within: path.parent(), text: shorten(body)})
		}
		lines = nil
	}
	for line := range strings.SplitSeq(strings.ReplaceAll(withoutFrontMatter(text), "\r\n", "\n"), "\n") {
		if fence.MatchString(line) {
			fenced = !fenced
		}
		match := heading.FindStringSubmatch(line)
		switch {
		case fenced:
		case match != nil:
			finish()
			path.enter(len(match[1]), plain(match[2]))
		case underline.MatchString(line) && len(lines) > 0 && isTitle(lines[len(lines)-1]):
			above := lines[len(lines)-1]
			lines = lines[:len(lines)-1]
			finish()
			path.enter(underlineLevel[line[0]], plain(above))
			lines = []string{above}
		}
		lines = append(lines, line)
	}
	finish()
	return found
}

// withoutFrontMatter takes off the settings that site generators keep at the top of a page.
func withoutFrontMatter(text string) string {
	rest, found := strings.CutPrefix(text, "---\n")
	if !found {
		return text
	}
	if _, body, ended := strings.Cut(rest, "\n---\n"); ended {
		return body
	}
	return text
}

// isTitle tells whether a line reads as a heading when the next one underlines it.
func isTitle(line string) bool {
	line = strings.TrimSpace(line)
	return line != "" && len(line) <= 100 && !listItem.MatchString(line) && !strings.HasPrefix(line, "|")
}

// plain takes the marks of Markdown out of a heading.
func plain(title string) string {
	for range 2 { // a badge is a picture within a link
		title = link.ReplaceAllString(title, "$1$2")
	}
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if strings.ContainsRune("`*<>", r) || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, title))
}

func shorten(text string) string {
	if len(text) <= maxSectionBytes {
		return text
	}
	cut := strings.ToValidUTF8(text[:maxSectionBytes], "")
	if end := strings.LastIndex(cut, "\n\n"); end > 0 {
		cut = cut[:end]
	}
	return strings.TrimSpace(cut)
}

// proseSentences counts the sentences of a text that read as such: with an end and at least five words, outside code,
// tables and headings.
func proseSentences(text string) int {
	var prose strings.Builder
	fenced := false
	for line := range strings.SplitSeq(text, "\n") {
		if fence.MatchString(line) {
			fenced = !fenced
			continue
		}
		if fenced || noProse.MatchString(line) || heading.MatchString(line) || underline.MatchString(line) {
			continue
		}
		prose.WriteString(link.ReplaceAllString(line, "$1$2"))
		prose.WriteByte(' ')
	}
	count, rest := 0, prose.String()
	for {
		end := stop.FindStringIndex(rest)
		if end == nil {
			return count
		}
		if words(rest[:end[1]]) >= 5 {
			count++
		}
		rest = rest[end[1]:]
	}
}

// words counts the words of two letters or more.
func words(text string) int {
	count := 0
	for _, word := range strings.FieldsFunc(text, func(r rune) bool { return !unicode.IsLetter(r) }) {
		if len(word) >= 2 {
			count++
		}
	}
	return count
}
