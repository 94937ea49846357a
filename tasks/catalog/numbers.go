package catalog

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
)

// numbersIn reads the numbers that stand at the top of a JSON object. A request is read for every delivery, and its
// prompt may be long: whatever is a text or lies deeper is passed over, which takes a twentieth of decoding it.
func numbersIn(object []byte) func(yield func(name string, value float64) bool) {
	return func(yield func(string, float64) bool) {
		depth, name := 0, ""
		for i := 0; i < len(object); i++ {
			switch c := object[i]; {
			case c == '"':
				end := textEnd(object, i)
				if depth == 1 {
					name = nameIn(object[i:min(end+1, len(object))])
				}
				i = end
			case c == '{' || c == '[':
				depth++
			case c == '}' || c == ']':
				depth--
			case depth == 1 && (c >= '0' && c <= '9' || c == '-'):
				end := i
				for end < len(object) && strings.IndexByte("0123456789+-.eE", object[end]) >= 0 {
					end++
				}
				if value, err := strconv.ParseFloat(string(object[i:end]), 64); err == nil && !yield(name, value) {
					return
				}
				i = end - 1
			}
		}
	}
}

// nameIn reads a text in quotes.
func nameIn(quoted []byte) string {
	var name string
	if bytes.IndexByte(quoted, '\\') >= 0 && json.Unmarshal(quoted, &name) == nil {
		return name
	}
	return strings.Trim(string(quoted), `"`)
}

// textEnd is where the text ends that begins at a quote: the closing quote.
func textEnd(object []byte, begin int) int {
	for i := begin + 1; i < len(object); {
		quote := bytes.IndexByte(object[i:], '"')
		if quote < 0 {
			break
		}
		i += quote
		escapes := 0
		for object[i-1-escapes] == '\\' {
			escapes++
		}
		if escapes%2 == 0 {
			return i
		}
		i++
	}
	return len(object)
}
