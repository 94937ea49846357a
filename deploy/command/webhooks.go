package command

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/webhooks"
)

func newWebhooksCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "webhooks",
		Short: "Look at webhooks, send them again, and try targets",
		Long: `Look at the webhooks that tell of the ends of jobs and batches, send them again or give them up, try targets, and see
which secrets sign them.`,
	}
	cmd.AddCommand(newWebhooksListCommand(), newWebhooksShowCommand(), newRedeliverCommand(), newWebhooksDiscardCommand(),
		newWebhooksTestCommand(), newSecretsCommand(), newTargetsCommand(), newSwitchOnCommand())
	asGroup(cmd)
	return cmd
}

func newWebhooksListCommand() *cobra.Command {
	var flags webhookFlags
	var limit int
	var all bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List webhooks, the newest first",
		Example: `  forebay webhooks list --state dead
  forebay webhooks list --target hooks.example.com --newer-than 1h`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			filter, err := flags.filter(cmd, time.Now())
			switch {
			case err != nil:
				return err
			case limit < 1 || all && cmd.Flags().Changed("limit"):
				return refuseUsage(cmd, "--limit must be at least 1, and stands in the place of --all")
			}
			if all {
				limit = 0
			}
			return withJobs(cmd, func(jobs *jobsClient) error { return jobs.printWebhooks(cmd, filter, limit) })
		},
	}
	flags.add(cmd)
	cmd.Flags().IntVar(&limit, "limit", 50, "how many are listed at most")
	cmd.Flags().BoolVar(&all, "all", false, "list all of them")
	return cmd
}

// printWebhooks prints up to limit webhooks, or all of them for 0.
func (j *jobsClient) printWebhooks(cmd *cobra.Command, filter webhooks.Filter, limit int) error {
	var out webhookPrinter = &webhookTable{out: cmd.OutOrStdout(), now: time.Now()}
	if wantsJSON(cmd) {
		out = &webhookJSON{jsonList{out: cmd.OutOrStdout(), name: "webhooks"}}
	}
	printed, more := 0, false
	for record, err := range j.webhooks(cmd.Context(), filter) {
		if err != nil {
			return err
		}
		if more = limit > 0 && printed == limit; more {
			break
		}
		if err := out.webhook(record.Brief()); err != nil {
			return err
		}
		printed++
	}
	if err := out.end(more); err != nil {
		return err
	}
	switch {
	case more:
		fmt.Fprintf(cmd.ErrOrStderr(), "forebay: there are more than these %d; list them with --all\n", limit)
	case printed == 0:
		fmt.Fprintln(cmd.ErrOrStderr(), "forebay: no such webhooks")
	}
	return nil
}

// webhookPrinter prints webhooks as they come.
type webhookPrinter interface {
	webhook(status tasks.WebhookStatus) error
	end(more bool) error
}

type webhookJSON struct{ jsonList }

func (p *webhookJSON) webhook(status tasks.WebhookStatus) error { return p.add(status) }

// webhookTable writes a table, some hundred lines at a time.
type webhookTable struct {
	out     io.Writer
	now     time.Time
	waiting []tasks.WebhookStatus
}

func (p *webhookTable) webhook(status tasks.WebhookStatus) error {
	if p.waiting = append(p.waiting, status); len(p.waiting) < tableRows {
		return nil
	}
	return p.end(true)
}

func (p *webhookTable) end(bool) error {
	if len(p.waiting) == 0 {
		return nil
	}
	list := table(p.out)
	row(list, "WEBHOOK", "EVENT", "OF", "STATE", "TRIES", "LAST", "WHEN", "TARGET")
	for _, w := range p.waiting {
		row(list, w.ID, w.Event, dash(subjectOf(w)), stateOf(w, p.now), w.Attempts, lastOf(w), whenOf(w, p.now), printable(w.URL))
	}
	p.waiting = nil
	return list.Flush()
}

// subjectOf is what a webhook tells of.
func subjectOf(w tasks.WebhookStatus) string {
	switch {
	case w.Job != "" && w.Run > 1:
		return fmt.Sprintf("%s, run %d", w.Job, w.Run)
	case w.Job != "":
		return w.Job
	}
	return w.Batch
}

func stateOf(w tasks.WebhookStatus, now time.Time) string {
	switch {
	case w.State == string(webhooks.Dead):
		return w.State + ": " + w.Reason
	case w.NextAt != nil && w.NextAt.After(now):
		return fmt.Sprintf("%s: %s until %s", w.State, w.Waiting, clock(*w.NextAt, now))
	}
	return w.State
}

func lastOf(w tasks.WebhookStatus) string {
	if w.Last == nil {
		return "-"
	}
	return outcomeOfAttempt(*w.Last)
}

// outcomeOfAttempt is what came of an attempt: "200 in 31ms", "timeout".
func outcomeOfAttempt(a tasks.WebhookAttempt) string {
	took := " in " + brief(time.Duration(a.LatencyMS)*time.Millisecond)
	switch {
	case a.Error == webhooks.ErrorOpen, a.Error == webhooks.ErrorUnknown:
		return a.Error
	case a.Status >= 200 && a.Status <= 299 && a.Error != "": // its body did not come to its end
		return strconv.Itoa(a.Status) + ", then " + printable(a.Error) + took
	case a.Status != 0:
		return strconv.Itoa(a.Status) + took
	}
	return dash(printable(a.Error)) + took
}

func whenOf(w tasks.WebhookStatus, now time.Time) string {
	if w.At == nil {
		return "-"
	}
	return clock(*w.At, now)
}

func newWebhooksShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show ID",
		Short: "Show a webhook with its attempts",
		Args:  exactWebhook,
		RunE: func(cmd *cobra.Command, args []string) error {
			return withJobs(cmd, func(jobs *jobsClient) error {
				record, err := jobs.Webhooks().Get(cmd.Context(), args[0], "")
				if err != nil {
					return err
				}
				if wantsJSON(cmd) {
					return printJSON(cmd, record.Status())
				}
				return printWebhook(cmd.OutOrStdout(), record.Status(), time.Now())
			})
		},
	}
}

// exactWebhook takes the id of one webhook.
func exactWebhook(cmd *cobra.Command, args []string) error {
	if len(args) != 1 || !tasks.ValidID(args[0]) {
		return refuseUsage(cmd, "takes the id of one webhook, such as msg_0123...; `forebay webhooks list` shows them")
	}
	return nil
}

func printWebhook(out io.Writer, w tasks.WebhookStatus, now time.Time) error {
	list := table(out)
	line := func(name, value string) {
		if value != "" {
			row(list, name, printable(value))
		}
	}
	line("webhook", w.ID)
	line("event", w.Event)
	line("of", subjectOf(w))
	line("tenant", w.Tenant)
	line("target", w.URL)
	line("secret", w.Secret)
	line("state", stateOf(w, now))
	line("happened", whenOf(w, now))
	if w.EndedAt != nil {
		line("ended", clock(*w.EndedAt, now))
	}
	if w.Cycle > 1 {
		line("redelivered", plural(w.Cycle-1, "time"))
	}
	if err := list.Flush(); err != nil {
		return err
	}
	return printHistory(out, w.History, now)
}

// printHistory prints attempts, with the first bytes of what was answered.
func printHistory(out io.Writer, history []tasks.WebhookAttempt, now time.Time) error {
	if len(history) == 0 {
		return nil
	}
	fmt.Fprintln(out)
	list := table(out)
	row(list, "ATTEMPT", "AT", "OUTCOME", "ANSWER")
	for _, a := range history {
		row(list, a.Number, clock(a.At, now), outcomeOfAttempt(a), dash(printable(shortText(a.Answer))))
	}
	return list.Flush()
}

// shortAnswer is how many characters of an answer stand in a table; --json has all that is kept.
const shortAnswer = 60

func shortText(text string) string {
	if runes := []rune(text); len(runes) > shortAnswer {
		return string(runes[:shortAnswer]) + "..."
	}
	return text
}

// printWebhooksOf prints how the webhooks of a job stand.
func printWebhooksOf(out io.Writer, result tasks.Result, now time.Time) error {
	if len(result.Webhooks) == 0 {
		return nil
	}
	fmt.Fprintln(out)
	list := &webhookTable{out: out, now: now, waiting: result.Webhooks}
	return list.end(false)
}

func newTargetsCommand() *cobra.Command {
	var tenant string
	cmd := &cobra.Command{
		Use:   "targets",
		Short: "Show how the targets of a tenant stand, with their last attempts",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withJobs(cmd, func(jobs *jobsClient) error {
				targets, err := jobs.Webhooks().Targets(cmd.Context(), tenant)
				if err != nil {
					return err
				}
				reply := struct {
					Tenant  string                  `json:"tenant"`
					Targets []webhooks.TargetStatus `json:"targets"`
				}{tenant, []webhooks.TargetStatus{}}
				for _, target := range targets {
					reply.Targets = append(reply.Targets, target.Status())
				}
				if wantsJSON(cmd) {
					return printJSON(cmd, reply)
				}
				return printTargets(cmd, reply.Targets, time.Now())
			})
		},
	}
	addTenant(cmd, &tenant)
	return cmd
}

func printTargets(cmd *cobra.Command, targets []webhooks.TargetStatus, now time.Time) error {
	if len(targets) == 0 {
		fmt.Fprintln(cmd.ErrOrStderr(), "forebay: no webhook of this tenant has been sent")
		return nil
	}
	list := table(cmd.OutOrStdout())
	row(list, "TARGET", "BREAKER", "TOOK", "FAILED", "IN A ROW", "OUT", "LATENCY", "OFF", "LAST")
	for _, t := range targets {
		breaker, last := t.Breaker, "-"
		if t.Until != nil && t.Until.After(now) {
			breaker += " until " + clock(*t.Until, now)
		}
		if t.RestsUntil != nil {
			breaker += ", rests until " + clock(*t.RestsUntil, now)
		}
		if len(t.Recent) > 0 {
			last = outcomeOfAttempt(t.Recent[0])
		}
		row(list, printable(t.Origin), breaker, t.Delivered, t.Failed, t.Failures, t.Out,
			brief(time.Duration(t.LatencyMS)*time.Millisecond), t.Off, last)
	}
	return list.Flush()
}

func newSwitchOnCommand() *cobra.Command {
	var tenant string
	cmd := &cobra.Command{
		Use:   "switch-on URL",
		Short: "Use a URL again that answered 410",
		Long: `Use a URL again that answered 410, which switched it off, and its target at once if its breaker is open. What died
meanwhile is sent again with ` + "`forebay webhooks redeliver --state dead --target URL`" + `.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return refuseUsage(cmd, "takes one URL, such as https://example.com/hooks")
			}
			if _, err := webhooks.Origin(args[0]); err != nil {
				return refuseUsage(cmd, "takes a URL, such as https://example.com/hooks")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return withJobs(cmd, func(jobs *jobsClient) error {
				was, err := jobs.Webhooks().SwitchOn(cmd.Context(), tenant, args[0])
				if err != nil {
					return err
				}
				if wantsJSON(cmd) {
					return printJSON(cmd, map[string]bool{"was_off": was})
				}
				text := "the URL was not off; its target may be used at once"
				if was {
					text = "the URL is on again"
				}
				_, err = fmt.Fprintln(cmd.OutOrStdout(), text)
				return err
			})
		},
	}
	addTenant(cmd, &tenant)
	return cmd
}

// webhooks are those that a filter means, page by page.
func (j *jobsClient) webhooks(ctx context.Context, filter webhooks.Filter) func(yield func(*webhooks.Record, error) bool) {
	filter.Limit = webhooks.MaxListLimit / 2
	return func(yield func(*webhooks.Record, error) bool) {
		for {
			page, err := j.Webhooks().List(ctx, filter)
			if err != nil {
				yield(nil, err)
				return
			}
			for _, record := range page.Webhooks {
				if !yield(record, nil) {
					return
				}
			}
			if filter.After = page.Next; filter.After == "" {
				return
			}
		}
	}
}
