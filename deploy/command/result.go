package command

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/forebay-queue/forebay/deploy/simulator"
	"github.com/forebay-queue/forebay/tasks"
)

// unsuccessful is the error of a job that did not succeed; nil for one that did.
func unsuccessful(result tasks.Result) error {
	switch {
	case result.Status == tasks.StatusSucceeded:
		return nil
	case !result.Status.Ended():
		return fmt.Errorf("job %s has not ended, it is %s; wait for it with `forebay get %s --wait`", result.ID, result.Status, result.ID)
	case result.Error == nil:
		return fmt.Errorf("job %s has ended as %s", result.ID, result.Status)
	}
	return fmt.Errorf("job %s has ended as %s: %w", result.ID, result.Status, result.Error)
}

// printText prints the answer of a job that succeeded: its text, or the provider's response where the answer is none,
// as with embeddings.
func printText(cmd *cobra.Command, result tasks.Result) error {
	if err := unsuccessful(result); err != nil {
		return err
	}
	text := result.Text
	if text == "" {
		text = string(result.Response)
	}
	_, err := io.WriteString(cmd.OutOrStdout(), strings.TrimSuffix(text, "\n")+"\n")
	return err
}

// simulated returns which endpoints of a result are those of a simulated provider: as the configuration says, or as
// the response itself says.
func (s *settings) simulated(result tasks.Result) map[string]bool {
	simulated := map[string]bool{}
	if s.file != nil {
		for name, endpoint := range s.file.Catalog.Endpoints {
			simulated[name] = endpoint.Simulated
		}
	}
	var response struct {
		Fingerprint string `json:"system_fingerprint"`
	}
	if json.Unmarshal(result.Response, &response) == nil && response.Fingerprint == simulator.Fingerprint {
		simulated[result.Endpoint] = true
	}
	return simulated
}

// printResult shows a result to people.
func printResult(out io.Writer, result tasks.Result, simulated map[string]bool, now time.Time) error {
	list := table(out)
	line := func(name, value string) {
		if value != "" {
			row(list, name, printable(value))
		}
	}
	line("job", result.ID)
	line("status", status(result))
	line("task type", result.TaskType)
	line("answered by", answeredBy(result, simulated))
	line("cost", cost(result))
	line("times", times(result, now))
	line("metadata", metadata(result))
	line("waiting", waiting(result.Waiting, now))
	if result.Error != nil {
		name := "error"
		if !result.Status.Ended() {
			name = "last error"
		}
		problem := *result.Error
		problem.Hint = ""
		line(name, problem.Error())
		line("they said", printable(result.Error.Detail))
		line("what to do", result.Error.Hint)
	}
	if err := list.Flush(); err != nil {
		return err
	}
	if err := printAttempts(list, out, result, simulated, now); err != nil {
		return err
	}
	if err := printWebhooksOf(out, result, now); err != nil {
		return err
	}
	if result.Text != "" {
		_, err := fmt.Fprintf(out, "\n%s\n", harmless(strings.TrimSuffix(result.Text, "\n")))
		return err
	}
	return nil
}

func status(result tasks.Result) string {
	text := string(result.Status)
	if result.Run > 1 {
		text += fmt.Sprintf(", run %d", result.Run)
	}
	if result.Retries == 1 {
		text += ", 1 retry"
	} else if result.Retries > 1 {
		text += fmt.Sprintf(", %d retries", result.Retries)
	}
	return text
}

func answeredBy(result tasks.Result, simulated map[string]bool) string {
	if result.Endpoint == "" {
		return ""
	}
	text := result.Model + "@" + labelled(result.Endpoint, simulated[result.Endpoint])
	if result.Region != "" {
		text += ", " + result.Region
	}
	if result.Tier != "" {
		text += ", tier " + result.Tier
	}
	return text
}

func cost(result tasks.Result) string {
	if len(result.Attempts) == 0 {
		return ""
	}
	text := dollars(result.CostUSD)
	if usage := result.Usage; usage != nil {
		text += fmt.Sprintf(", %d tokens in, %d out", usage.PromptTokens, usage.CompletionTokens)
		if usage.Estimated {
			text += " (estimated)"
		}
	}
	maybe := 0
	for _, attempt := range result.Attempts {
		if attempt.MaybeBilled || !attempt.Ended && result.Status.Ended() {
			maybe++
		}
	}
	if maybe > 0 {
		text += fmt.Sprintf(", and %s that may have been billed", plural(maybe, "call"))
	}
	return text
}

func times(result tasks.Result, now time.Time) string {
	var parts []string
	if result.CreatedAt != nil {
		parts = append(parts, "accepted "+clock(*result.CreatedAt, now))
	}
	if result.StartedAt != nil {
		parts = append(parts, "started "+clock(*result.StartedAt, now))
	}
	if result.FinishedAt != nil {
		ended := "ended " + clock(*result.FinishedAt, now)
		if result.CreatedAt != nil {
			ended += " after " + brief(result.FinishedAt.Sub(*result.CreatedAt))
		}
		parts = append(parts, ended)
	}
	return strings.Join(parts, ", ")
}

func metadata(result tasks.Result) string {
	pairs := make([]string, 0, len(result.Metadata))
	for _, key := range slices.Sorted(maps.Keys(result.Metadata)) {
		pairs = append(pairs, key+"="+result.Metadata[key])
	}
	return strings.Join(pairs, ", ")
}

func waiting(w *tasks.Waiting, now time.Time) string {
	if w == nil {
		return ""
	}
	text := strings.ReplaceAll(w.Reason, "_", " ")
	if w.Limit != "" {
		text += " of " + w.Limit
	}
	switch {
	case w.Route == "":
	case w.Limit != "":
		text += ", for " + w.Route
	default:
		text += " of " + w.Route
	}
	if w.Cause != "" {
		text += " (" + string(w.Cause) + ")"
	}
	if !w.Until.IsZero() {
		text += ", until " + clock(w.Until, now)
	}
	return text
}

func printAttempts(list *tabwriter.Writer, out io.Writer, result tasks.Result, simulated map[string]bool, now time.Time) error {
	if len(result.Attempts) == 0 {
		return nil
	}
	fmt.Fprintln(out)
	row(list, "CALL", "ROUTE", "REGION", "STARTED", "LATENCY", "COST", "OUTCOME")
	for _, attempt := range result.Attempts {
		latency, price := "-", "-"
		if attempt.Ended {
			latency = brief(time.Duration(attempt.LatencyMS) * time.Millisecond)
		}
		if attempt.CostUSD > 0 {
			price = dollars(attempt.CostUSD)
		}
		row(list, attempt.Seq, attempt.Model+"@"+labelled(attempt.Endpoint, simulated[attempt.Endpoint]), dash(attempt.Region),
			clock(attempt.StartedAt, now), latency, price, printable(outcome(attempt, result.Status)))
	}
	return list.Flush()
}

// outcome says on a few words what came of a call.
func outcome(attempt tasks.Attempt, status tasks.Status) string {
	var notes []string
	text := "answered"
	switch {
	case !attempt.Ended && status.Ended():
		text, notes = "no end known", []string{"maybe billed"}
	case !attempt.Ended:
		text = "out"
	case attempt.Class != "":
		text = string(attempt.Class)
		if attempt.HTTPStatus != 0 {
			notes = append(notes, fmt.Sprintf("HTTP %d", attempt.HTTPStatus))
		}
		if attempt.Code != "" {
			notes = append(notes, attempt.Code)
		}
		if attempt.MaybeBilled {
			notes = append(notes, "maybe billed")
		}
	}
	if attempt.Probe {
		notes = append(notes, "probe")
	}
	if len(notes) > 0 {
		text += " (" + strings.Join(notes, ", ") + ")"
	}
	return text
}
