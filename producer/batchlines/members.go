package batchlines

import (
	"bytes"
	"encoding/json"
	"iter"
)

// members goes through the members of an object that is known to be JSON, without looking into their values: a line's body
// is nearly all of it.
func members(object []byte) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		rest := object[1:]
		for {
			rest = bytes.TrimLeft(rest, " \t\r\n,")
			if rest[0] == '}' {
				return
			}
			end := skip(rest)
			name := nameOf(rest[:end])
			rest = bytes.TrimLeft(rest[end:], " \t\r\n:")
			end = skip(rest)
			if !yield(name, rest[:end]) {
				return
			}
			rest = rest[end:]
		}
	}
}

func nameOf(raw []byte) string {
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1])
	}
	var name string
	_ = json.Unmarshal(raw, &name) // it is known to be a string
	return name
}

// skip is the length of the value that a text begins with.
func skip(text []byte) int {
	depth := 0
	for at := 0; at < len(text); at++ {
		switch text[at] {
		case '"':
			at += skipString(text[at:]) - 1
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return at // of a number or a word that ends its object
			}
			depth--
		case ',', ' ', '\t', '\r', '\n', ':':
			if depth == 0 {
				return at
			}
			continue
		default:
			continue // a number or a word goes on
		}
		if depth == 0 {
			return at + 1
		}
	}
	return len(text)
}

// skipString is the length of the string that a text begins with, quotes included.
func skipString(text []byte) int {
	for at := 1; ; {
		quote := bytes.IndexByte(text[at:], '"')
		end := at + quote
		escapes := 0
		for text[end-1-escapes] == '\\' {
			escapes++
		}
		if at = end + 1; escapes%2 == 0 {
			return at
		}
	}
}
