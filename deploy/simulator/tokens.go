package simulator

import (
	"strings"
	"unicode/utf8"
)

const bytesPerToken = 4

// tokens estimates how many tokens the text has: one for every four bytes, rounded up.
func tokens(text string) int { return tokensOf(len(text)) }

func tokensOf(size int) int { return (size + bytesPerToken - 1) / bytesPerToken }

// cutWords shortens the text to at most limit bytes, after a whole word where there is one, else a whole sign.
func cutWords(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	for limit > 0 && !utf8.RuneStart(text[limit]) {
		limit--
	}
	head := text[:limit]
	if space := strings.LastIndexAny(head, " \t\n"); space > 0 && !strings.ContainsRune(" \t\n", rune(text[limit])) {
		head = head[:space]
	}
	return strings.TrimSpace(head)
}
