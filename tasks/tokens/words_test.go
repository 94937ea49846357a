package tokens

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Words are counted as the text that they stand in is, the first time and every other.
func FuzzWords(f *testing.F) {
	for _, text := range []string{
		"A forebay is the pool where water waits. ", "  two  blanks \n\n and lines ", "ÄÖÜ ß… 你好 世界 🙂 don't I'LL", "1234567 12 3",
		"a\u00a0b \u2003c d\te", strings.Repeat("x", 60) + " y", "/path/to/it\n/\n //",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > maxSpan/2 {
			text = text[:maxSpan/2]
		}
		text = strings.ToValidUTF8(strings.ReplaceAll(text, "\x7f", ""), "?")
		want, err := vocabulary().Count(text)
		require.NoError(t, err)
		for range 2 {
			if got := Text(text); got < want || got > want+want/50+2*strings.Count(text, "\n")+1 {
				require.Equal(t, want, got, "%q", text)
			}
		}
	})
}
