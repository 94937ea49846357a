package command

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/forebay-queue/forebay/deploy/batchio"
	"github.com/forebay-queue/forebay/deploy/filerun"
	"github.com/forebay-queue/forebay/tasks/gate"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

// pastDays is how far back answers say how long answers are.
const pastDays = 30

// quoteReply is what `forebay batch run --dry-run --json` prints.
type quoteReply struct {
	filerun.Quote
	Simulated bool `json:"simulated"`
	// Budget is how today's stands; absent where Redis was not reached.
	Budget []scopeStatus `json:"budget,omitempty"`
}

// quote says what a run would take.
func (s *batchSite) quote(cmd *cobra.Command, in batchio.Config, flags batchRunFlags) error {
	var journal *filerun.Journal
	if _, err := os.Stat(flags.out + journalSuffix); flags.out != "" && err == nil {
		if journal, err = filerun.OpenJournal(flags.out + journalSuffix); err != nil {
			return err
		}
		defer func() { _ = journal.Close() }() // nothing was written
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	reply := quoteReply{Simulated: s.simulated() != ""}
	past := filerun.Past{}
	if s.redis != nil {
		budget := gate.NewBudget(s.redis, keyspace.New(s.prefix), s.catalog.Budget)
		costs, err := budget.Costs(cmd.Context(), lastDays(budget.Today().Name, pastDays))
		if err != nil {
			return err
		}
		for _, cost := range costs {
			key := filerun.PastKey{TaskType: strings.TrimPrefix(cost.TaskType, "adhoc"), Model: cost.Model}
			sum := past[key]
			sum.Calls += cost.Calls - cost.MaybeBilled
			sum.OutputTokens += int64(cost.Usage.CompletionTokens)
			past[key] = sum
		}
		if reply.Budget, err = readScopes(cmd.Context(), budget); err != nil {
			return err
		}
	}
	var err error
	if reply.Quote, err = filerun.QuoteOf(filerun.OfTenant(batchio.Read(in), flags.tenant), s.catalog, journal, past); err != nil {
		return err
	}
	if wantsJSON(cmd) {
		return printJSON(cmd, reply)
	}
	return printQuote(cmd.OutOrStdout(), reply, s.simulated(), flags)
}

func printQuote(out io.Writer, q quoteReply, simulated string, flags batchRunFlags) error {
	fmt.Fprintf(out, "%s to be done", plural(q.Jobs, "job"))
	if q.Answered > 0 {
		fmt.Fprintf(out, ", %d answered already", q.Answered)
	}
	fmt.Fprintf(out, "; expected are %d tokens in and %d out.\nexpected  %s%s\nat most   %s, if every answer is as long as it may be\n\n", q.PromptTokens, q.OutputTokens,
		dollars(q.CostUSD), simulated, dollars(q.WorstUSD))
	list := table(out)
	row(list, "TIER", "MODEL", "JOBS", "TOKENS IN", "TOKENS OUT", "EXPECTED", "AT MOST")
	for _, m := range q.Models {
		row(list, dash(m.Tier), m.Model, m.Jobs, m.PromptTokens, m.OutputTokens, dollars(m.CostUSD), dollars(m.WorstUSD))
	}
	if err := list.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(out)
	for _, m := range q.Models {
		fmt.Fprintf(out, "%s: %s.\n", m.Model, strings.Join(m.Assumptions, "; "))
	}
	if q.Limit == "" {
		fmt.Fprintln(out, "time: no limit of a provider is configured that holds it back; the workers' slots do.")
	} else {
		fmt.Fprintf(out, "time: %s at least, by %s.\n", brief(time.Duration(q.LimitSeconds*float64(time.Second))), q.Limit)
	}
	tellBudget(out, q, flags)
	if q.Refused > 0 {
		fmt.Fprintf(out, "%d lines cannot be jobs:\n", q.Refused)
		for _, problem := range q.Problems {
			fmt.Fprintf(out, "  %s\n", printable(problem))
		}
		if more := q.Refused - len(q.Problems); more > 0 {
			fmt.Fprintf(out, "  and %d more\n", more)
		}
	}
	_, err := fmt.Fprintln(out, "Nothing was done: leave out --dry-run to do it.")
	return err
}

// tellBudget says what today's budget leaves, and whether the run fits.
func tellBudget(out io.Writer, q quoteReply, flags batchRunFlags) {
	if flags.maxCost > 0 && q.CostUSD > flags.maxCost {
		fmt.Fprintf(out, "--max-cost of %s will end it before its last line.\n", dollars(flags.maxCost))
	}
	for _, scope := range q.Budget {
		if scope.LeftUSD == nil || scope.Scope != gate.ScopeAll && scope.Scope != gate.ScopeTenant(flags.tenant) && scope.Scope != gate.ScopeTaskType(flags.taskType) {
			continue
		}
		fits := "which is enough"
		if q.CostUSD > *scope.LeftUSD {
			fits = fmt.Sprintf("so that the rest waits for %s, or does what on_exhausted says", scope.NextDay.Local().Format(time.DateTime))
		}
		fmt.Fprintf(out, "budget: %s leaves %s today, %s.\n", scope.Scope, dollars(*scope.LeftUSD), fits)
	}
}
