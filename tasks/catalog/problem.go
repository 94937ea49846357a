package catalog

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// PathError says what is wrong at one place of the catalog.
type PathError struct {
	// Path leads to the place as keys from the top; a position in a list is written "[0]":
	// {"tiers", "[0]", "models", "[1]"}. What is missing has the path it would stand at.
	Path []string
	// Problem says what is wrong and what would be right.
	Problem string
}

// Error implements error: "endpoints.official.timeout: must be 1s to 1h, got 2h".
func (e *PathError) Error() string { return JoinPath(e.Path) + ": " + e.Problem }

// JoinPath writes a path as people read it: "tiers[0].models[1]".
func JoinPath(path []string) string {
	var text strings.Builder
	for i, key := range path {
		if i > 0 && !strings.HasPrefix(key, "[") {
			text.WriteByte('.')
		}
		text.WriteString(key)
	}
	return text.String()
}

// ListIndex is the key of a position in a list.
func ListIndex(i int) string { return "[" + strconv.Itoa(i) + "]" }

// maxListed bounds how many known names an error lists.
const maxListed = 20

// unknown says that there is no such name, and which was perhaps meant.
func unknown(what, name string, known []string) string {
	switch meant, found := Nearest(name, known); {
	case found:
		return fmt.Sprintf("no %s %q, did you mean %q?", what, name, meant)
	case len(known) == 0:
		return fmt.Sprintf("no %s %q; there is none in the catalog", what, name)
	default:
		listed := known[:min(len(known), maxListed)]
		more := ""
		if len(known) > maxListed {
			more = ", ..."
		}
		return fmt.Sprintf("no %s %q; there are %s%s", what, name, strings.Join(listed, ", "), more)
	}
}

// Nearest finds among the known names the one that name was probably meant to be: a third of its characters may
// differ.
func Nearest(name string, known []string) (string, bool) {
	best, least := "", max(1, len(name)/3)+1
	for _, candidate := range known {
		if distance := editDistance(strings.ToLower(name), strings.ToLower(candidate), least); distance < least {
			best, least = candidate, distance
		}
	}
	return best, best != ""
}

// editDistance counts the insertions, deletions and substitutions between two texts; limit or more is limit.
func editDistance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = min(diagonal, row[j], row[j+1]) + 1
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return min(row[len(b)], limit)
}

// FormatDuration writes a duration without the zeros that Go appends: "1h" for "1h0m0s".
func FormatDuration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
