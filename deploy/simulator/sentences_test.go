package simulator

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func texts(text string) []string {
	var list []string
	for _, s := range sentences(text) {
		list = append(list, s.of(text))
	}
	return list
}

func TestSentences(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		text string
		want []string
	}{
		"plain":          {"One is here. Two is there! Is three? Yes.", []string{"One is here.", "Two is there!", "Is three?", "Yes."}},
		"over lines":     {"One is\nhere. Two\nis there.", []string{"One is\nhere.", "Two\nis there."}},
		"blank line":     {"One is here\n\nTwo is there.", []string{"One is here", "Two is there."}},
		"abbreviations":  {"Use e.g. Redis, i.e. a server, cf. Dr. Smith and J. Doe. Version 1.2.3 works.", []string{"Use e.g. Redis, i.e. a server, cf. Dr. Smith and J. Doe.", "Version 1.2.3 works."}},
		"quotes":         {`He said "stop." Then (it stopped.) Now.`, []string{`He said "stop."`, "Then (it stopped.)", "Now."}},
		"ellipsis":       {"Wait... It goes on. what follows", []string{"Wait...", "It goes on. what follows"}},
		"chinese":        {"水在前池等候。闸门打开！然后呢？", []string{"水在前池等候。", "闸门打开！", "然后呢？"}},
		"markdown":       {"# Title\n\nText is here.\n\n```\ncode. Code.\n```\n\n| a | b. |\n\n- One item.\n- Two items.\n", []string{"Text is here.", "One item.", "Two items."}},
		"setext heading": {"Title\n=====\nText is here.\n\nOther\n-----\n\nMore.", []string{"Text is here.", "More."}},
		"restructured":   {".. note::\n   Hidden. Gone.\n\nShown is this::\n\n  code. Code.\n\nAnd :pep:`8` is it.\n\n:Author: Me.", []string{"Shown is this::", "And :pep:`8` is it."}},
		"indented code":  {"Text is here.\n\n    code. Code.\n", []string{"Text is here."}},
		"all fenced":     {"```\nOnly this. And that.\n```", []string{"Only this.", "And that."}},
		"windows":        {"One is here.\r\nTwo is there.\r\n\r\nThree.", []string{"One is here.", "Two is there.", "Three."}},
		"numbered":       {"1. First thing.\n2. Second thing.\n", []string{"First thing.", "Second thing."}},
		"blank":          {" \n\t\n", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, tc.want, texts(tc.text))
		})
	}
}

var fuzzSeeds = []string{
	prompt, "", ".", "a. B. c", "。！？", "\xff\xfe. \xff", "```\n~~~\n.", "::\n\n  x.", "=\n==\n===", "- \n* a.\n1. b",
	":a: b\n:pep:`1`\n", "A.\r\n\r\nB.", "Summarise this text:\n\nOne is here. Two is there.", "\u00a0A.\u2003B.", "<p>A.</p>",
}

// FuzzSentences holds that sentences are cut out of the document, in order and without overlap.
func FuzzSentences(f *testing.F) {
	for _, s := range fuzzSeeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		end := 0
		for _, s := range sentences(text) {
			require.GreaterOrEqual(t, s.start, end)
			require.Greater(t, s.end, s.start)
			end = s.end
			got := s.of(text)
			require.Equal(t, strings.TrimSpace(got), got)
			for line := range strings.Lines(got) {
				require.NotEmpty(t, strings.Trim(line, " \t\r\n"), "no blank line inside %q", got)
			}
			if utf8.ValidString(text) {
				require.True(t, utf8.ValidString(got))
			}
		}
	})
}

// FuzzSummarise holds that every paragraph of a summary stands in the document, and the bound.
func FuzzSummarise(f *testing.F) {
	for i, s := range fuzzSeeds {
		f.Add(s, i*3+1)
	}
	f.Fuzz(func(t *testing.T, message string, bound int) {
		if bound < 1 || bound > 1<<20 {
			bound = 8
		}
		text := document(message)
		require.Contains(t, message, text)
		summary, cut := summarise(text, bound)
		require.LessOrEqual(t, tokens(summary), bound)
		for _, part := range strings.Split(summary, "\n\n") {
			require.Contains(t, text, part)
		}
		if strings.TrimSpace(text) != "" && utf8.ValidString(text) {
			require.NotEmpty(t, summary, "cut: %v", cut)
		}
		again, _ := summarise(text, bound)
		require.Equal(t, summary, again)
	})
}
