package simulator

import "strings"

// paragraphs finds the paragraphs and list items of a plain text, Markdown or reStructuredText document, in order.
// When it finds none (all of the document is fenced or indented, say), the document is read as plain text.
func paragraphs(text string) []span {
	found := (&blockReader{text: text}).read()
	if len(found) == 0 {
		found = (&blockReader{text: text, plain: true}).read()
	}
	return found
}

// blockReader walks over the lines of a document and gathers those of one paragraph.
type blockReader struct {
	text    string
	plain   bool // every line is prose but for blank ones and fences
	found   []span
	open    span // the paragraph being gathered; empty when there is none
	lines   int  // of the open paragraph
	fence   string
	literal int // lines indented by more than this many spaces are literal; -1: none are
}

func (b *blockReader) read() []span {
	b.literal = -1
	for at := 0; at < len(b.text); {
		end := at + strings.IndexByte(b.text[at:], '\n') + 1
		if end == at {
			end = len(b.text)
		}
		b.line(span{at, end})
		at = end
	}
	b.flush()
	return b.found
}

func (b *blockReader) line(s span) {
	raw := strings.TrimRight(s.of(b.text), " \t\r\n")
	content := strings.TrimLeft(raw, " \t")
	indent := len(raw) - len(content)
	switch {
	case content == "":
		b.flush()
	case b.plain && !strings.HasPrefix(content, "```"):
		b.add(s, indent)
	case b.plain || b.inFence(content):
		b.flush()
	case b.literal >= 0 && indent > b.literal:
		b.flush()
	case isRule(content):
		b.underline()
	case isMarkup(content):
		b.flush()
		b.literal = -1
		if strings.HasPrefix(content, ".. ") {
			b.literal = indent
		}
	default:
		b.literal = -1
		b.prose(s, content, indent)
	}
}

// prose takes up a line of text: a list item or an indented block begins a paragraph, all else continues one.
func (b *blockReader) prose(s span, content string, indent int) {
	marker := listMarker(content)
	if marker > 0 {
		b.flush()
	}
	if b.lines == 0 && marker == 0 && indent >= 4 {
		return
	}
	b.add(s, indent+marker)
	if strings.HasSuffix(content, "::") {
		b.flush()
		b.literal = indent
	}
}

func (b *blockReader) add(s span, skip int) {
	if b.lines == 0 {
		b.open.start = s.start + skip
	}
	b.open.end = s.end
	b.lines++
}

// flush ends the open paragraph.
func (b *blockReader) flush() {
	if b.lines > 0 {
		b.found = append(b.found, b.open)
	}
	b.open, b.lines = span{}, 0
}

// underline drops the open paragraph when it is one line long: the rule makes a heading of it.
func (b *blockReader) underline() {
	if b.lines == 1 {
		b.open, b.lines = span{}, 0
	}
	b.flush()
	b.literal = -1
}

// inFence tells whether the line opens, closes or stands in a fenced code block.
func (b *blockReader) inFence(content string) bool {
	for _, fence := range []string{"```", "~~~"} {
		if !strings.HasPrefix(content, fence) || b.fence != "" && b.fence != fence {
			continue
		}
		if b.fence == fence {
			b.fence = ""
		} else {
			b.fence = fence
		}
		return true
	}
	return b.fence != ""
}

// isRule tells lines of one repeated sign, which underline headings and divide sections.
func isRule(content string) bool {
	if len(content) < 3 || !strings.ContainsRune("=-~^\"'`#*+._:", rune(content[0])) {
		return false
	}
	return strings.Trim(content, content[:1]) == ""
}

// isMarkup tells lines that carry no prose: headings, tables, directives, HTML, images, field lists, separators.
func isMarkup(content string) bool {
	switch {
	case strings.HasPrefix(strings.TrimLeft(content, "#"), " "), strings.HasPrefix(content, "|"), strings.HasPrefix(content, "+-"),
		strings.HasPrefix(content, ".. "), content == "..", strings.HasPrefix(content, "[!["),
		strings.HasPrefix(content, "!["), strings.HasPrefix(content, "<") && strings.HasSuffix(content, ">"),
		strings.HasPrefix(content, ">>> "):
		return true
	}
	return isField(content)
}

// isField tells a reStructuredText field (":Author: ...") from a role (":pep:`8`").
func isField(content string) bool {
	if content[0] != ':' {
		return false
	}
	end := strings.IndexByte(content[1:], ':')
	if end <= 0 {
		return false
	}
	rest := content[end+2:]
	return rest == "" || rest[0] == ' '
}

// listMarker returns the length of the list marker that the line begins with, 0 when there is none.
func listMarker(content string) int {
	end := strings.IndexByte(content, ' ')
	if end <= 0 || end > 4 {
		return 0
	}
	switch marker := content[:end]; marker {
	case "-", "*", "+", "•", "#.":
		return end + 1
	default:
		digits := strings.TrimRight(marker, ".)")
		if digits == marker || digits == "" || strings.Trim(digits, "0123456789") != "" {
			return 0
		}
		return end + 1
	}
}
