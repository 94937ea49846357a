package command

import (
	"fmt"
	"slices"
	"strings"

	"github.com/charmbracelet/x/ansi"
)

// columns lays out rows as a table of at most so many columns of a terminal, the first row being its heads. What is wide
// counts as wide. Where it does not fit, the widest of the cells that may shrink are cut, and end in an ellipsis.
func columns(width int, shrinks []int, rows ...[]string) []string {
	const gap = 2
	widths := make([]int, len(rows[0]))
	total := -gap
	for i := range widths {
		for _, row := range rows {
			widths[i] = max(widths[i], ansi.StringWidth(row[i]))
		}
		total += widths[i] + gap
	}
	for ; total > width; total-- {
		widest := slices.MaxFunc(shrinks, func(a, b int) int { return widths[a] - widths[b] })
		if widths[widest] <= 1 {
			break
		}
		widths[widest]--
	}
	lines := make([]string, len(rows))
	for n, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			cell = ansi.Truncate(cell, widths[i], "…")
			line.WriteString(cell)
			if i < len(row)-1 {
				line.WriteString(strings.Repeat(" ", widths[i]-ansi.StringWidth(cell)+gap))
			}
		}
		lines[n] = ansi.Truncate(line.String(), width, "…")
	}
	return lines
}

// cut is a line of at most so many columns.
func cut(width int, text string) string { return ansi.Truncate(text, width, "…") }

// spread puts one text at the left end of a line and one at the right.
func spread(width int, left, right string) string {
	room := width - ansi.StringWidth(right) - 1
	if room < 1 {
		return ansi.Truncate(left, width, "…")
	}
	left = ansi.Truncate(left, room, "…")
	return left + strings.Repeat(" ", width-ansi.StringWidth(left)-ansi.StringWidth(right)) + right
}

// sparks are the heights of a sparkline.
const sparks = "▁▂▃▄▅▆▇█"

// sparkline draws numbers in one line, a dot for what is not known (below 0).
func sparkline(values []float64) string {
	if len(values) == 0 {
		return ""
	}
	heights, most := []rune(sparks), slices.Max(values)
	var line strings.Builder
	for _, value := range values {
		switch {
		case value < 0:
			line.WriteByte('.')
		case most <= 0:
			line.WriteRune(heights[0])
		default:
			line.WriteRune(heights[min(int(value/most*float64(len(heights))), len(heights)-1)])
		}
	}
	return line.String()
}

// section is what belongs together on a screen: heads, which stay, and rows, of which the last are left out first.
type section struct {
	heads, rows []string
	// least is how many rows are left out last.
	least int
	// hidden counts rows that are not shown.
	hidden int
}

func (s *section) height() int {
	height := len(s.heads) + len(s.rows)
	if s.hidden > 0 {
		height++
	}
	return height
}

// shrink takes a row away, whose place the number of what is hidden may have to take.
func (s *section) shrink() {
	before := s.height()
	for s.height() >= before && len(s.rows) > 0 {
		s.rows = s.rows[:len(s.rows)-1]
		s.hidden++
	}
}

func (s *section) lines(width int) []string {
	lines := slices.Concat(s.heads, s.rows)
	if s.hidden > 0 {
		lines = append(lines, cut(width, faint(fmt.Sprintf("… %d more", s.hidden))))
	}
	return lines
}

// fit returns the lines of sections for a screen of such a size, one empty line between them while there is room. Rows go
// first where there are most; then whole sections, the last first.
func fit(width, height int, sections []*section) []string {
	sections = slices.DeleteFunc(slices.Clone(sections), func(s *section) bool { return s == nil || s.height() == 0 })
	apart := 1
	total := func() int {
		sum := apart * (len(sections) - 1)
		for _, s := range sections {
			sum += s.height()
		}
		return sum
	}
	largest := func(least func(*section) int) *section {
		var found *section
		for _, s := range sections {
			if len(s.rows) > least(s) && len(s.rows) > 1 && (found == nil || len(s.rows) >= len(found.rows)) {
				found = s
			}
		}
		return found
	}
	for total() > height {
		switch {
		case largest(func(s *section) int { return max(s.least, 4) }) != nil:
			largest(func(s *section) int { return max(s.least, 4) }).shrink()
		case apart > 0:
			apart = 0
		case largest(func(s *section) int { return s.least }) != nil:
			largest(func(s *section) int { return s.least }).shrink()
		case len(sections) > 1:
			sections = sections[:len(sections)-1]
		default:
			return sections[0].lines(width)[:min(height, sections[0].height())]
		}
	}
	var lines []string
	for i, s := range sections {
		if i > 0 && apart > 0 {
			lines = append(lines, "")
		}
		lines = append(lines, s.lines(width)...)
	}
	return lines
}

// The styles of what is shown. None says anything that the words beside it do not.
func bold(text string) string   { return ansi.NewStyle().Bold().Styled(text) }
func faint(text string) string  { return ansi.NewStyle().Faint().Styled(text) }
func red(text string) string    { return ansi.NewStyle().Bold().ForegroundColor(ansi.Red).Styled(text) }
func green(text string) string  { return ansi.NewStyle().ForegroundColor(ansi.Green).Styled(text) }
func yellow(text string) string { return ansi.NewStyle().ForegroundColor(ansi.Yellow).Styled(text) }
