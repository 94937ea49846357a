package main_test

import (
	"regexp"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/assert"

	"github.com/forebay-queue/forebay/tasks"
)

// checkSummaries holds the summaries against the documents' abstracts: by ROUGE-1 they are at least as good as the
// documents' first three sentences. Every piece of a summary stands in its document.
func checkSummaries(t *testing.T, documents []document, results []tasks.Result) {
	t.Helper()
	var summaries, leads float64
	compared := 0
	for i, document := range documents {
		for _, piece := range strings.Split(results[i].Text, "\n\n") {
			assert.Contains(t, document.Text, strings.TrimSpace(piece), "a summary of %s says what the document does not", document.ID)
		}
		if document.Abstract == "" {
			continue
		}
		compared++
		summaries += rouge1(results[i].Text, document.Abstract)
		leads += rouge1(firstSentences(document.Text, 3), document.Abstract)
	}
	if compared == 0 {
		return
	}
	t.Logf("mean ROUGE-1 F1 against %d abstracts: summaries %.3f, first three sentences %.3f",
		compared, summaries/float64(compared), leads/float64(compared))
	assert.GreaterOrEqual(t, summaries, leads)
}

// rouge1 is the F1 of the words that two texts share, each counted as often as it stands in both.
func rouge1(candidate, reference string) float64 {
	counts := map[string]int{}
	words := wordsOf(reference)
	for _, word := range words {
		counts[word]++
	}
	shared, candidates := 0, wordsOf(candidate)
	for _, word := range candidates {
		if counts[word] > 0 {
			counts[word]--
			shared++
		}
	}
	if shared == 0 {
		return 0
	}
	precision, recall := float64(shared)/float64(len(candidates)), float64(shared)/float64(len(words))
	return 2 * precision * recall / (precision + recall)
}

func wordsOf(text string) []string {
	return strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
}

var sentenceEnd = regexp.MustCompile(`[.!?]["')\]]*\s+`)

// firstSentences cuts a text behind its first n sentences.
func firstSentences(text string, n int) string {
	ends := sentenceEnd.FindAllStringIndex(text, n)
	if len(ends) < n {
		return text
	}
	return text[:ends[n-1][1]]
}

func TestRouge1(t *testing.T) {
	t.Parallel()
	assert.InDelta(t, 1, rouge1("The gate opens.", "the gate OPENS"), 1e-9)
	assert.InDelta(t, 2.0/3, rouge1("gate gate opens", "gate opens wide"), 1e-9)
	assert.Zero(t, rouge1("", "gate"))
	assert.Equal(t, "One. Two! Three? ", firstSentences("One. Two! Three? Four.", 3))
}

// TestDefaultCorpus: the demo has enough to do wherever the module's dependencies lie in Go's cache.
func TestDefaultCorpus(t *testing.T) {
	t.Parallel()
	assert.GreaterOrEqual(t, len(defaultCorpus(t)), 150)
}
