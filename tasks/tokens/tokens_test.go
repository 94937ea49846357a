package tokens_test

import (
	"encoding/base64"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tiktoken-go/tokenizer/codec"
	"pgregory.net/rapid"

	"github.com/forebay-queue/forebay/tasks/tokens"
)

// The counts are those of js-tiktoken 1.0.21, another implementation of the same vocabulary; the first six stand in
// tiktoken-go's own tests, too.
func TestKnownCounts(t *testing.T) {
	t.Parallel()
	for text, count := range map[string]int{
		"'RE":                  2,
		"hello world":          2,
		"hello  world":         3,
		"hello   world":        3,
		"supercalifragilistic": 6,
		"We know what we are, but know not what we may be.": 14,

		"":                             0,
		"tiktoken is great!":           6,
		"antidisestablishmentarianism": 6,
		"2 + 2 = 4":                    7,
		"お誕生日おめでとう":                    8,
		"这是一个用于测试的中文句子,没有空格也没有换行。":                  17,
		"func main() {\n\tfmt.Println(\"hi\")\n}\n": 10,
		"Line one.  \r\n\r\n  Line two.\t\tx":       10,
		"👩‍👩‍👧‍👦 family":                            12,
		"<|endoftext|>":                             7,
		"don't DON'T we'll":                         3,
		"3.14159265358979":                          7,
		"naïve café Zürich Straße":                  6,
		`{"a": [1, 2, {"b": null}]}`:                15,
	} {
		assert.Equal(t, count, tokens.Text(text), "%q", text)
	}
}

// hostile are texts of a size without words, of which some would take the library minutes.
func hostile(size int) map[string]string {
	random := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, size*3/4)
	for i := range noise {
		noise[i] = byte(random.Uint32())
	}
	var chinese strings.Builder
	for chinese.Len() < size {
		chinese.WriteRune(rune(0x4e00 + random.IntN(5000)))
	}
	return map[string]string{
		"one letter":         strings.Repeat("a", size),
		"one capital":        strings.Repeat("A", size),
		"base64":             base64.StdEncoding.EncodeToString(noise),
		"Chinese characters": chinese.String(),
		"Chinese sentences":  strings.Repeat("这是一个用于测试的中文句子,没有空格也没有换行。", size/72),
		"spaces":             strings.Repeat(" ", size),
		"blank lines":        strings.Repeat(" \n", size/2),
		"dashes":             strings.Repeat("-", size),
		"digits":             strings.Repeat("1", size),
		"combining marks":    strings.Repeat("\u0301", size/2),
		"emoji":              strings.Repeat("👩‍👩‍👧‍👦", size/25),
		"no UTF-8":           string(noise),
	}
}

func TestHostileTextsTakeLinearTime(t *testing.T) {
	t.Parallel()
	const size = 1 << 20
	texts := hostile(size)
	texts["blank lines"] = texts["blank lines"][:size/2] // in one piece: 3 minutes, and many more under the race detector
	for _, name := range []string{"one letter", "base64", "Chinese characters", "blank lines"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// Under the race detector, on a busy machine, some take 20 seconds; without it they take a few tenths of one.
			began := time.Now()
			count := tokens.Text(texts[name])
			assert.Less(t, time.Since(began), 2*time.Minute)
			assert.Positive(t, count)
		})
	}
}

// Cutting what has no spaces changes the count by less than 1 %.
func TestCutsAddLittle(t *testing.T) {
	t.Parallel()
	whole := codec.NewO200kBase()
	for name, text := range hostile(1 << 14) {
		if name == "blank lines" {
			continue // quadratic as a whole
		}
		text = strings.ToValidUTF8(strings.ReplaceAll(text, "\x7f", ""), "")
		count, err := whole.Count(text)
		require.NoError(t, err)
		assert.InEpsilon(t, count, tokens.Text(text), 0.01, name)
	}
}

// Texts of words count as the library counts them as a whole, wherever they are cut.
func TestWordsAreCutExactly(t *testing.T) {
	t.Parallel()
	whole := codec.NewO200kBase()
	words := rapid.SampledFrom([]string{
		"the", "Zürich", "DON'T", "we'll", "数据", "3.14", "--", "!?", "x\n", "y\r\n\r\n", "\t", " ", "  ", "\u00a0", "end.", "👍", "/path/",
	})
	rapid.Check(t, func(rt *rapid.T) {
		text := strings.Join(rapid.SliceOfN(words, 200, 600).Draw(rt, "words"), " ")
		count, err := whole.Count(text)
		require.NoError(rt, err)
		assert.Equal(rt, count, tokens.Text(text), "%q", text)
	})
}

// The library's split loses one character, which must not be free of charge; were there others, this would find them.
func TestEveryCharacterCounts(t *testing.T) {
	t.Parallel()
	for r := range rune(0x3000) {
		if tokens.Text(string(r)) == 0 {
			t.Errorf("%U counts nothing", r)
		}
	}
}

// What Text works around (docs/decisions/0005-libraries.md). When a new release of the library fails this, take the
// workaround out.
func TestFaultsOfTheLibrary(t *testing.T) {
	t.Parallel()
	library := codec.NewO200kBase()
	lost, err := library.Count("\x7f")
	require.NoError(t, err)
	assert.Zero(t, lost, "a character is lost")
	const blankLines, tiktoken = "a \n \n \n b", 4
	several, err := library.Count(blankLines)
	require.NoError(t, err)
	assert.Greater(t, several, tiktoken, "the split ends at the first line break")
}

func TestManyCountAtOnce(t *testing.T) {
	t.Parallel()
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() { assert.Equal(t, 2, tokens.Text("hello world")) })
	}
	group.Wait()
}

func FuzzText(f *testing.F) {
	f.Add("hello world")
	f.Add("\xff\xfe \n \n")
	f.Fuzz(func(t *testing.T, text string) {
		count := tokens.Text(text)
		valid := strings.ToValidUTF8(text, string(utf8.RuneError))
		if count > len(valid) || (count == 0) != (text == "") {
			t.Errorf("%d tokens in %d bytes", count, len(valid))
		}
	})
}

func BenchmarkText(b *testing.B) {
	tokens.Text("load the vocabulary")
	texts := map[string]string{
		"words of 1 KB": strings.Repeat("The quick brown fox jumps over the lazy dog. ", 23)[:1000],
		"words of 1 MB": strings.Repeat("The quick brown fox jumps over the lazy dog. ", 23000),
	}
	for name, text := range hostile(1 << 20) {
		texts[name] = text
	}
	for name, text := range texts {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			count := 0
			for b.Loop() {
				count = tokens.Text(text)
			}
			b.ReportMetric(float64(count)*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mtok/s")
		})
	}
}
