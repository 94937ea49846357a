// Package tokens estimates, without asking anybody, how many tokens a text or a request has: what a provider counts
// against its limits on arrival, and bills. The vocabulary is OpenAI's o200k_base, for every model: a job may go to
// several models, and not all providers publish theirs. Where it is the model's own (gpt-4o and later), texts are counted
// exactly, but for what Text says; elsewhere the count is a guess, which an answer's usage corrects.
package tokens

import (
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"github.com/tiktoken-go/tokenizer/codec"
)

// maxSpan is how many bytes are looked at together. The library's split of runs of white space that hold line breaks
// is quadratic in their length (1 MB of them: over 10 minutes), and it holds 20 bytes for every byte of a piece.
const maxSpan = 512

// vocabulary is loaded by the first text that is counted: about 20 ms and 7 MB. It is not changed afterwards.
var vocabulary = sync.OnceValue(codec.NewO200kBase)

// Text is the number of tokens of a text.
//
// It is exact for words, and takes time in proportion to the text's length for every text. What has no space to cut at
// for 512 bytes is cut anyway, which adds at most a token or two at each cut: under 1 % in all. Of white space that
// holds several line breaks with blanks between them some tokens more are counted than there are.
func Text(text string) int {
	text = strings.ToValidUTF8(text, string(utf8.RuneError))
	text = strings.ReplaceAll(text, "\x7f", "\x00") // of which the library's split loses the first
	count := 0
	for text != "" {
		size, found := nextWord(text)
		if size == 0 {
			size = span(text)
			found = counted(text[:size])
		}
		count += found
		text = text[size:]
	}
	return count
}

// span is how many bytes of the text are counted next. A space that follows something else always begins a piece of
// its own, so that a cut before it changes no count; without one in the second half of maxSpan a piece is cut.
func span(text string) int {
	if len(text) <= maxSpan {
		return len(text)
	}
	for at := maxSpan; at > maxSpan/2; at-- {
		if text[at] != ' ' {
			continue
		}
		if before, _ := utf8.DecodeLastRuneInString(text[:at]); !unicode.IsSpace(before) {
			return at
		}
	}
	at := maxSpan
	for !utf8.RuneStart(text[at]) {
		at--
	}
	return at
}
