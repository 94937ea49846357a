package simulator

import (
	"cmp"
	"math"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

const (
	summaryWords     = 90 // a summary grows until it has about so many words
	summarySentences = 5
	minWords         = 5
	maxWords         = 60
)

// summarise writes an extractive summary of at most bound tokens: the few sentences that say most about what the
// document says. Sentences that stand next to each other keep the document's own white space between them, others
// are divided by a blank line, so every paragraph of the summary stands verbatim in the document. cut tells that
// the bound left something out. The same document always gets the same summary; only a blank one gets none.
func summarise(text string, bound int) (summary string, cut bool) {
	chosen := choose(text)
	summary = quote(text, chosen)
	for len(chosen) > 1 && tokens(summary) > bound {
		chosen = dropWeakest(chosen)
		summary, cut = quote(text, chosen), true
	}
	if tokens(summary) > bound {
		return cutWords(summary, bound*bytesPerToken), true
	}
	return summary, cut
}

// candidate is a sentence that may stand in the summary.
type candidate struct {
	sentence
	place int // among the document's sentences
	words []string
	score float64
}

// choose returns the sentences of the summary, in the document's order.
func choose(text string) []candidate {
	all := candidates(text)
	score(text, all)
	ranked := slices.Clone(all)
	slices.SortStableFunc(ranked, func(a, b candidate) int { return cmp.Compare(b.score, a.score) })
	var chosen []candidate
	words := 0
	for _, c := range ranked {
		if len(chosen) == summarySentences || words >= summaryWords {
			break
		}
		if len(chosen) > 0 && (words+len(c.words) > summaryWords*5/4 || repeats(c, chosen)) {
			continue
		}
		chosen = append(chosen, c)
		words += len(c.words)
	}
	slices.SortFunc(chosen, func(a, b candidate) int { return cmp.Compare(a.place, b.place) })
	return chosen
}

// candidates returns the sentences that read as such; when there are none, all; when there are none of these
// either, the document as a whole.
func candidates(text string) []candidate {
	var good, all []candidate
	for i, s := range sentences(text) {
		c := candidate{sentence: s, place: i, words: wordsOf(s.of(text))}
		all = append(all, c)
		if s.closed && len(c.words) >= minWords && len(c.words) <= maxWords && mostlyLetters(s.of(text)) {
			good = append(good, c)
		}
	}
	if len(good) > 0 {
		return good
	}
	if len(all) > 0 {
		return all
	}
	whole := strings.TrimSpace(text)
	if whole == "" {
		return nil
	}
	start := strings.Index(text, whole)
	return []candidate{{sentence: sentence{span: span{start, start + len(whole)}}, words: wordsOf(whole)}}
}

// score rates each sentence by how much of the document's vocabulary it carries, how early it stands, and whether
// it speaks about the document itself.
func score(text string, all []candidate) {
	in := map[string]int{} // sentences that a word stands in
	for _, c := range all {
		for _, w := range distinct(c.words) {
			in[w]++
		}
	}
	best := 0.0
	for i := range all {
		weight := 0.0
		for _, w := range distinct(all[i].words) {
			if !stopWords[w] && in[w] > 1 {
				weight += math.Log(float64(in[w]) + 1)
			}
		}
		all[i].score = weight / math.Sqrt(float64(len(all[i].words))+8)
		best = max(best, all[i].score)
	}
	for i := range all {
		position := 1 / math.Sqrt(1+float64(i))
		all[i].score = all[i].score/max(best, 1e-9) + position + cue(all[i].of(text))
	}
}

// aboutItself finds the turns of speech by which a document says what it is about: "this article describes".
var aboutItself = regexp.MustCompile(`(?i)\b(?:this [a-z]+|we|the (?:goal|purpose|aim)) ` +
	`(?:is|are|aims|will|would|proposes?|describes?|introduces?|specif(?:ies|y)|provides?|defines?|explains?|contains?|presents?|covers?|shows?|adds?|implements?)\b`)

// cue rates them.
func cue(sentence string) float64 {
	if aboutItself.MatchString(sentence) {
		return 0.5
	}
	return 0
}

// repeats tells whether most words of c were already said.
func repeats(c candidate, chosen []candidate) bool {
	said := map[string]bool{}
	for _, other := range chosen {
		for _, w := range other.words {
			said[w] = true
		}
	}
	fresh, heavy := 0, 0
	for _, w := range distinct(c.words) {
		if stopWords[w] {
			continue
		}
		heavy++
		if !said[w] {
			fresh++
		}
	}
	return heavy == 0 || float64(fresh) < 0.35*float64(heavy)
}

// quote copies the chosen sentences out of the document.
func quote(text string, chosen []candidate) string {
	var b strings.Builder
	for i, c := range chosen {
		if i > 0 {
			gap := text[chosen[i-1].end:c.start]
			if c.place != chosen[i-1].place+1 || strings.TrimSpace(gap) != "" || strings.Count(gap, "\n") > 1 {
				gap = "\n\n"
			}
			b.WriteString(gap)
		}
		b.WriteString(c.of(text))
	}
	return b.String()
}

func dropWeakest(chosen []candidate) []candidate {
	weakest := 0
	for i, c := range chosen {
		if c.score < chosen[weakest].score {
			weakest = i
		}
	}
	return slices.Delete(slices.Clone(chosen), weakest, weakest+1)
}

// wordsOf returns the words in lower case; every Chinese or Japanese sign is a word.
func wordsOf(text string) []string {
	var words []string
	start := -1
	flush := func(end int) {
		if start >= 0 {
			words = append(words, strings.ToLower(text[start:end]))
		}
		start = -1
	}
	for i, r := range text {
		switch {
		case unicode.Is(unicode.Han, r), unicode.Is(unicode.Hiragana, r), unicode.Is(unicode.Katakana, r):
			flush(i)
			words = append(words, string(r))
		case unicode.IsLetter(r), unicode.IsDigit(r), unicode.IsMark(r):
			if start < 0 {
				start = i
			}
		default:
			flush(i)
		}
	}
	flush(len(text))
	return words
}

func distinct(words []string) []string {
	sorted := slices.Clone(words)
	slices.Sort(sorted)
	return slices.Compact(sorted)
}

// mostlyLetters tells prose from code and figures.
func mostlyLetters(text string) bool {
	letters, signs := 0, 0
	for _, r := range text {
		switch {
		case unicode.IsLetter(r), unicode.IsMark(r):
			letters++
		case !unicode.IsSpace(r):
			signs++
		}
	}
	return letters > 3*signs
}

var stopWords = func() map[string]bool {
	set := map[string]bool{}
	for _, w := range strings.Fields(`a about after all also an and any are as at be because been being between both but by
		can cannot could did do does each either for from had has have he her his how if in into is it its just like
		may me might more most must my no not of on one only or other our out over same she should since so some such
		than that the their them then there these they this those through to too two under up use used using very was
		we were what when where which while who why will with would you your`) {
		set[w] = true
	}
	return set
}()
