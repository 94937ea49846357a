package simulator

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// span is a half-open range of bytes of a document.
type span struct{ start, end int }

func (s span) of(text string) string { return text[s.start:s.end] }

// sentence is one sentence of a document. Its text is always cut out of the document, never put together, so
// that whatever quotes it is verbatim.
type sentence struct {
	span
	closed bool // ends with a full stop, question mark or exclamation mark
}

// sentences finds the sentences of a document's prose, in order. Headings, code, tables, directives and markup
// that stands alone on its line are not prose. A sentence may run over several lines, but never over a blank one.
func sentences(text string) []sentence {
	var found []sentence
	for _, block := range paragraphs(text) {
		found = appendSentences(found, text, block)
	}
	return found
}

// appendSentences cuts one paragraph into sentences.
func appendSentences(found []sentence, text string, block span) []sentence {
	start := block.start
	for at := block.start; at < block.end; {
		r, size := utf8.DecodeRuneInString(text[at:block.end])
		at += size
		if !isTerminator(r) {
			continue
		}
		end := skipClosers(text, span{at, block.end})
		if !isWide(r) && !endsSentence(text, start, at-size, span{end, block.end}) {
			continue
		}
		found = appendTrimmed(found, text, span{start, end}, true)
		start, at = end, end
	}
	return appendTrimmed(found, text, span{start, block.end}, false)
}

// appendTrimmed appends the sentence without the white space around it, unless nothing is left.
func appendTrimmed(found []sentence, text string, s span, closed bool) []sentence {
	raw := s.of(text)
	trimmed := strings.TrimSpace(raw)
	if trimmed == "" {
		return found
	}
	start := s.start + strings.Index(raw, trimmed)
	return append(found, sentence{span{start, start + len(trimmed)}, closed})
}

func isTerminator(r rune) bool {
	return r == '.' || r == '!' || r == '?' || isWide(r)
}

// isWide tells the full stops of Chinese and Japanese, which need no space after them.
func isWide(r rune) bool {
	return r == '。' || r == '！' || r == '？'
}

// skipClosers passes over quotes, brackets, emphasis and further terminators that belong to the sentence's end.
func skipClosers(text string, rest span) int {
	at := rest.start
	for at < rest.end {
		r, size := utf8.DecodeRuneInString(text[at:rest.end])
		if !isTerminator(r) && !strings.ContainsRune("\"')]}*_`”’»」』）", r) {
			break
		}
		at += size
	}
	return at
}

// endsSentence decides whether the terminator at dot ends the sentence that began at start: the paragraph's end or
// white space and something that may begin a sentence must follow, and it must not be the dot of an abbreviation.
func endsSentence(text string, start, dot int, rest span) bool {
	after := rest.of(text)
	next := strings.TrimLeftFunc(after, unicode.IsSpace)
	if next != "" {
		if r, _ := utf8.DecodeRuneInString(next); len(next) == len(after) || unicode.IsLower(r) {
			return false
		}
	}
	return text[dot] != '.' || !isAbbreviation(lastWord(text[start:dot]))
}

// lastWord returns the word that text ends with, in lower case.
func lastWord(text string) string {
	cut := strings.LastIndexFunc(text, func(r rune) bool { return unicode.IsSpace(r) || r == '(' || r == '[' })
	return strings.ToLower(text[cut+1:])
}

var abbreviations = map[string]bool{
	"e.g": true, "i.e": true, "cf": true, "vs": true, "etc": true, "al": true, "approx": true, "resp": true,
	"mr": true, "mrs": true, "ms": true, "dr": true, "prof": true, "st": true, "no": true, "fig": true, "sec": true,
	"ver": true, "inc": true, "ltd": true, "jr": true, "sr": true, "dept": true, "est": true,
}

// isAbbreviation takes known abbreviations, single letters ("J.") and list numbers ("12.") for no end.
func isAbbreviation(word string) bool {
	if abbreviations[word] {
		return true
	}
	if utf8.RuneCountInString(word) == 1 {
		r, _ := utf8.DecodeRuneInString(word)
		return unicode.IsLetter(r) && r != 'i'
	}
	return false
}
