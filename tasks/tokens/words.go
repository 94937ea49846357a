package tokens

import (
	"hash/maphash"
	"strings"
	"sync/atomic"
	"unicode"
	"unicode/utf8"
)

const (
	// longestWord is how many bytes a word has at most whose count is remembered.
	longestWord = 40
	// places is how many words are remembered, each at the one place that its hash has: some 3 MB when all places are taken.
	places = 1 << 15
)

// words remembers the counts of words that were met: in a text of any language most have been, and to look one up
// takes a twentieth of the time in which it is counted.
var words struct {
	seed maphash.Seed
	at   [places]atomic.Pointer[word]
}

func init() { words.seed = maphash.MakeSeed() }

type word struct {
	text  string
	count int
}

// nextWord counts the word at the beginning of a text. It answers how many bytes that has; 0 for one that is longer than
// what is looked at together.
func nextWord(text string) (size, count int) {
	switch size = wordEnd(text); {
	case size == 0:
		return 0, 0
	case size > longestWord:
		return size, counted(text[:size])
	}
	return size, remembered(text[:size])
}

// wordEnd is where the next word begins: at a space that follows something else, which always begins a piece of its own,
// so that a cut there changes no count. It is 0 where there is none within maxSpan.
func wordEnd(text string) int {
	for at := 1; at < min(len(text), maxSpan+1); at++ {
		if text[at] != ' ' {
			continue
		}
		before := rune(text[at-1])
		if before >= utf8.RuneSelf {
			before, _ = utf8.DecodeLastRuneInString(text[:at])
		}
		if !unicode.IsSpace(before) {
			return at
		}
	}
	if len(text) <= maxSpan {
		return len(text)
	}
	return 0
}

func remembered(text string) int {
	place := &words.at[maphash.String(words.seed, text)%places]
	if found := place.Load(); found != nil && found.text == text {
		return found.count
	}
	count := counted(text)
	place.Store(&word{strings.Clone(text), count})
	return count
}

// counted is what the library counts; a token for every byte is the most there can be.
func counted(text string) int {
	count, err := vocabulary().Count(text)
	if err != nil {
		return len(text)
	}
	return count
}
