package simulator

import (
	"bufio"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestDocument(t *testing.T) {
	t.Parallel()
	text := "Water waits here. The gate opens.\n\nThen it flows. All of it:\n\n- down"
	for name, message := range map[string]string{
		"bare":               text,
		"colon":              "Summarise the following text in three sentences:\n\n" + text,
		"full stop":          "Please summarize the text below in at most five sentences.\n\n" + text,
		"role and colon":     "You are a careful editor of text.\n\nSummary of the following:\n\n" + text,
		"one line feed":      "Summarise the following text:\n" + text,
		"on one line":        "Summarise this in a few sentences: " + text,
		"behind":             text + "\n\nSummary:",
		"before and behind":  "Summarise the text between here and the end.\r\n\r\n" + text + "\n\nWrite the summary of the text now.",
		"behind, with a gap": text + "\n \nSummary:\n",
	} {
		assert.Equal(t, text, strings.TrimSpace(document(message)), name)
	}
	for _, message := range []string{"Summarise the text:\n\n", "Why is the sky blue?", "", "Write a text about the sea.\n\n \n"} {
		assert.Equal(t, message, document(message), "what would have nothing left stays whole")
	}
}

func TestSummaryBound(t *testing.T) {
	t.Parallel()
	whole, cut := summarise(prompt, DefaultMaxTokens)
	assert.False(t, cut)
	assert.Equal(t, prompt, whole, "neighbours keep their white space")

	shorter, cut := summarise(prompt, tokens(whole)-1)
	assert.True(t, cut)
	assert.Less(t, len(shorter), len(whole))
	for _, part := range strings.Split(shorter, "\n\n") {
		assert.Contains(t, prompt, part)
		assert.True(t, strings.HasSuffix(part, "."), "cut at a sentence: %q", part)
	}

	word, cut := summarise(prompt, 3)
	assert.True(t, cut)
	assert.Equal(t, "The gate", word, "cut at a word")

	none, cut := summarise(" \n ", 10)
	assert.Empty(t, none)
	assert.False(t, cut)
}

// corpusDocument is a document and what its author says it is about.
type corpusDocument struct {
	Text     string `json:"text"`
	Abstract string `json:"abstract"`
}

// corpus reads the file that FOREBAY_CORPUS names, a JSON object a line; without it, three documents of our own.
func corpus(t testing.TB) []corpusDocument {
	t.Helper()
	name := os.Getenv("FOREBAY_CORPUS")
	if name == "" {
		return ownCorpus
	}
	file, err := os.Open(name)
	require.NoError(t, err)
	defer func() { _ = file.Close() }()
	var docs []corpusDocument
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var d corpusDocument
		require.NoError(t, json.Unmarshal(lines.Bytes(), &d))
		if d.Abstract != "" {
			docs = append(docs, d)
		}
	}
	require.NoError(t, lines.Err())
	require.NotEmpty(t, docs, "no document of %s has an abstract", name)
	return docs
}

func TestSummariesAreBetterThanFirstSentences(t *testing.T) {
	t.Parallel()
	endOfSentence := regexp.MustCompile(`[.!?]\s+`)
	var ours, first float64
	docs := corpus(t)
	for _, d := range docs {
		summary, cut := summarise(d.Text, DefaultMaxTokens)
		require.False(t, cut)
		for _, part := range strings.Split(summary, "\n\n") {
			require.Contains(t, d.Text, part)
		}
		lead := endOfSentence.Split(d.Text, 4)
		ours += rouge1(summary, d.Abstract)
		first += rouge1(strings.Join(lead[:min(3, len(lead))], ". "), d.Abstract)
	}
	n := float64(len(docs))
	t.Logf("mean ROUGE-1 F over %d documents: summaries %.3f, first three sentences %.3f", len(docs), ours/n, first/n)
	assert.GreaterOrEqual(t, ours, first)
}

// rouge1 is the F measure of the words that the two texts share.
func rouge1(summary, reference string) float64 {
	words := regexp.MustCompile(`[a-z0-9]+`)
	counts := map[string]int{}
	want := words.FindAllString(strings.ToLower(reference), -1)
	for _, w := range want {
		counts[w]++
	}
	got, shared := words.FindAllString(strings.ToLower(summary), -1), 0.0
	for _, w := range got {
		if counts[w] > 0 {
			counts[w]--
			shared++
		}
	}
	return 2 * shared / max(1, float64(len(got)+len(want)))
}

func BenchmarkSummarise20KB(b *testing.B) {
	text := strings.Repeat(ownCorpus[0].Text+"\n\n", 20_000/len(ownCorpus[0].Text)+1)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		summarise(text, DefaultMaxTokens)
	}
}

var ownCorpus = []corpusDocument{
	{
		Abstract: "A circuit breaker stops calls to a service that keeps failing, and tries it again after a pause.",
		Text: `Circuit breaker
===============

It was late in the evening. Nobody had thought of it. The pager rang twice.

A circuit breaker stops calls to a service after it has failed several times in a row. After a pause, one call is
let through to see whether the service works again. When that call succeeds, the circuit breaker closes, and calls
go to the service as before. When it fails, the pause begins anew.

* A breaker that opens late costs money.
* A breaker that opens early costs answers.

    breaker.Trip()
`,
	},
	{
		Abstract: "This document describes a queue that keeps its jobs in Redis, so that no job is lost when a worker dies.",
		Text: `Introduction. Hello there. Thank you for reading on.

This document describes a queue which keeps all of its jobs in Redis. A worker takes a job from the queue, does it,
and removes it only then. When the worker dies, the job is still in Redis, and another worker does it. Jobs are
therefore done at least once, and no job is lost.

Contributions are welcome. The licence is free. See the tracker.
`,
	},
	{
		Abstract: "A rate limit bounds how many requests a client may send per minute; requests beyond the limit are refused and may be sent again later.",
		Text: `# Limits

> Read this first!

See also the appendix. It is long.

A rate limit bounds the number of requests that one client may send in a minute. Requests beyond the limit are
refused, and the client may send them again later. The refusal names the time to wait. Limits are counted for each
client apart, so one client cannot use up what another may send.
`,
	},
}
