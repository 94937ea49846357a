package demo

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

const (
	// textColumns is how wide summaries are set.
	textColumns = 92
	// maxProblems bounds how many problems of one sort are printed.
	maxProblems = 10
)

// Write prints the report for people.
func (r *Report) Write(out io.Writer) error {
	fmt.Fprintf(out, "\n%d of %d documents summarised in %.0f s by simulated models on simulated endpoints.\nThe documents: %s.\n\n",
		r.Succeeded, r.Jobs, r.Seconds, r.Documents)
	if err := r.writeEndpoints(out); err != nil {
		return err
	}
	fmt.Fprintln(out)
	if err := r.writeTotals(out); err != nil {
		return err
	}
	if len(r.Summaries) > 0 {
		fmt.Fprintf(out, "\nSome of the summaries; every sentence stands in its document:\n")
	}
	for _, s := range r.Summaries {
		fmt.Fprintf(out, "\n  %s\n  (%s, by %s (simulated) at %s)\n%s", printable(s.Document), s.JobID, s.Model, s.Endpoint, wrap(shorten(s.Text), "    "))
	}
	fmt.Fprintln(out)
	return r.writeVerdict(out)
}

func (r *Report) writeEndpoints(out io.Writer) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ENDPOINT\tREGION\tCALLS\tOK\tSHARE\tLATENCY\tTRIPS\tPROBES\tRECOVERIES")
	for _, e := range r.Endpoints {
		latency := "-"
		if e.LatencyMS > 0 {
			latency = seconds(time.Duration(e.LatencyMS) * time.Millisecond)
		}
		fmt.Fprintf(table, "%s (simulated)\t%s\t%d\t%d\t%.0f %%\t%s\t%d\t%d\t%d\n", e.Endpoint, e.Region, e.Calls, e.Answered,
			100*e.Share, latency, e.Trips, e.Probes, e.Recoveries)
	}
	return table.Flush()
}

func (r *Report) writeTotals(out io.Writer) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		fmt.Fprintf(table, "%s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	line("jobs", "%d succeeded, %d failed, %.1f a second", r.Succeeded, r.Failed, float64(r.Jobs)/max(r.Seconds, 0.001))
	line("endpoints", "%d used", r.endpointsUsed())
	line("failovers", "%d answered by another endpoint than the one asked first; %d went past the open breaker at once; %d calls repeated",
		r.Failovers, r.Rerouted, r.Retried)
	line("breaker", "%s, %s (%d failed), %s", plural(r.Trips, "trip"), plural(r.Probes, "probe"), r.Reopenings, plural(r.Recoveries, "recovery"))
	line("cost", "%s for %d tokens in and %d out, at the prices of %s; simulated, so nothing was billed",
		dollars(r.CostUSD), r.PromptTokens, r.CompletionTokens, strings.Join(r.modelNames(), ", "))
	line("dearest model", "%s with %s%s", dollars(r.DearestUSD), r.DearestModel, r.ratio())
	if r.MaybeBilled > 0 {
		line("maybe billed", "%s cut off without an answer, which a real provider might bill", plural(r.MaybeBilled, "call"))
	}
	if !r.Outage {
		line("outage", "none: it takes %d documents to show a region fail and recover", fewestForOutage)
	}
	return table.Flush()
}

func (r *Report) endpointsUsed() int {
	used := 0
	for _, e := range r.Endpoints {
		if e.Answered > 0 {
			used++
		}
	}
	return used
}

func (r *Report) ratio() string {
	if r.CostUSD == 0 {
		return ""
	}
	return fmt.Sprintf(": %.0f times as much", r.DearestUSD/r.CostUSD)
}

// writeVerdict says whether the assertions held.
func (r *Report) writeVerdict(out io.Writer) error {
	if len(r.Problems) > 0 {
		return nil // they are the error of the command
	}
	text := "Checked: every job has exactly one answer, and the simulator's own counters agree with the ledgers, call for call"
	if r.Outage {
		text += ";\nthe failing region was asked only until its breaker opened, by probes, and again once it had recovered"
	}
	_, err := fmt.Fprintf(out, "%s.\n", text)
	return err
}

// Err is nil when all assertions held; it names those that did not.
func (r *Report) Err() error {
	if len(r.Problems) == 0 {
		return nil
	}
	shown := r.Problems[:min(len(r.Problems), maxProblems)]
	text := "the demonstration did not show what it should:\n  " + strings.Join(shown, "\n  ")
	if more := len(r.Problems) - len(shown); more > 0 {
		text += fmt.Sprintf("\n  and %d more", more)
	}
	return &failedReport{text}
}

type failedReport struct{ text string }

// Error implements error.
func (f *failedReport) Error() string { return f.text }

// wrap sets a text in lines behind an indent. Blank lines between paragraphs stay.
func wrap(text, indent string) string {
	var set strings.Builder
	for paragraph := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		column := 0
		for word := range strings.FieldsSeq(printable(paragraph)) {
			length := len([]rune(word))
			switch {
			case column == 0:
				set.WriteString(indent)
			case column+1+length > textColumns:
				set.WriteString("\n" + indent)
				column = 0
			default:
				set.WriteByte(' ')
				column++
			}
			set.WriteString(word)
			column += length
		}
		set.WriteByte('\n')
	}
	return set.String()
}

// shorten cuts a text that is too long to be read at a glance, between words and so that it can be seen.
func shorten(text string) string {
	runes := []rune(text)
	if len(runes) <= mostShown {
		return text
	}
	kept := string(runes[:mostShown])
	if at := strings.LastIndexAny(kept, " \n"); at > 0 {
		kept = kept[:at]
	}
	kept = strings.TrimRight(kept, " \n")
	return fmt.Sprintf("%s … (%d characters more)", kept, len(runes)-len([]rune(kept)))
}

// printable takes out of a document's text what a terminal would act on.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
}
