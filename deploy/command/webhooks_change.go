package command

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/webhooks"
)

// webhookFlags say which webhooks a command is about.
type webhookFlags struct {
	state, event, job, batch, reason, target, tenant string
	since, until                                     string
	olderThan, newerThan                             time.Duration
}

// webhookFilters are the flags that choose among webhooks.
var webhookFilters = []string{
	"state", "event", "job", "batch", "reason", "target", "tenant", "older-than", "newer-than", "since", "until",
}

var webhookStates = []string{
	string(webhooks.Pending), string(webhooks.Delivered), string(webhooks.Dead), string(webhooks.Discarded),
}

func addTenant(cmd *cobra.Command, into *string) {
	cmd.Flags().StringVar(into, "tenant", catalog.DefaultTenant, "whose webhooks")
}

func (f *webhookFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.state, "state", "", "`state`: pending, delivered, dead or discarded")
	flags.StringVar(&f.event, "event", "", "what they tell of, such as `job.failed`")
	flags.StringVar(&f.job, "job", "", "the `id` of the job that they tell of")
	flags.StringVar(&f.batch, "batch", "", "the `id` of the batch that they tell of")
	flags.StringVar(&f.reason, "reason", "", "why they are dead: attempts_exhausted, expired, refused, gone, target_off or content_gone")
	flags.StringVar(&f.target, "target", "", "a `host`, an origin such as https://example.com:443, or a URL")
	flags.StringVar(&f.tenant, "tenant", "", "whose they are")
	flags.DurationVar(&f.olderThan, "older-than", 0, "of what happened at least so long ago, such as 1h")
	flags.DurationVar(&f.newerThan, "newer-than", 0, "of what happened within so long, such as 30m")
	flags.StringVar(&f.since, "since", "", "of what happened at this `time` or later, such as 2026-12-31T08:00:00Z")
	flags.StringVar(&f.until, "until", "", "of what happened before this `time`")
}

// filter reads the flags.
func (f *webhookFlags) filter(cmd *cobra.Command, now time.Time) (webhooks.Filter, error) {
	filter := webhooks.Filter{
		Tenant: f.tenant, State: webhooks.State(f.state), Event: f.event, Job: f.job, Batch: f.batch, Reason: f.reason, Target: f.target,
	}
	if f.state != "" && !slices.Contains(webhookStates, f.state) {
		return filter, refuseUsage(cmd, "%s", unknownName("state", f.state, webhookStates))
	}
	if known := webhookEvents(); f.event != "" && !slices.Contains(known, f.event) {
		return filter, refuseUsage(cmd, "%s", unknownName("event", f.event, known))
	}
	var err error
	if filter.Since, err = bound(cmd, "since", f.since, "newer-than", f.newerThan, now); err != nil {
		return filter, err
	}
	if filter.Before, err = bound(cmd, "until", f.until, "older-than", f.olderThan, now); err != nil {
		return filter, err
	}
	if !filter.Since.IsZero() && !filter.Before.IsZero() && !filter.Since.Before(filter.Before) {
		return filter, refuseUsage(cmd, "no time is both since %s and until %s", filter.Since.Format(time.RFC3339), filter.Before.Format(time.RFC3339))
	}
	return filter, nil
}

func webhookEvents() []string {
	return slices.Concat(tasks.JobEvents(), tasks.BatchEvents(), []string{tasks.EventTest})
}

// webhookChange is what `forebay webhooks redeliver` and `discard` do with webhooks.
type webhookChange struct {
	done string
	// usual is the state that a filter means which names none, and refused those that it cannot be done to.
	usual   webhooks.State
	refused []webhooks.State
	why     string
	one     func(ctx context.Context, jobs *jobsClient, id string) error
}

func newRedeliverCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "redeliver ID...|--state dead ...",
		Short: "Send webhooks again",
		Long: `Send webhooks again: those named, or all that a filter means, which are the dead ones where it names no state. The
schedule of each begins anew, whatever has become of it, and its id stays the same, so that receivers can tell what they
have seen.`,
		Example: `  forebay webhooks redeliver msg_0123...
  forebay webhooks redeliver --state dead --target hooks.example.com --newer-than 24h --dry-run`,
	}
	return withWebhooksToChange(cmd, webhookChange{
		done: "sent again", usual: webhooks.Dead,
		one: func(ctx context.Context, jobs *jobsClient, id string) error {
			return jobs.Webhooks().Redeliver(ctx, id, "")
		},
	})
}

func newWebhooksDiscardCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "discard ID...|--state dead ...",
		Short: "Give webhooks up",
		Long: `Give webhooks up that are pending or dead: those named, or all that a filter means, which are the dead ones where it
names no state. They are not tried any more, and are forgotten as delivered ones are.`,
		Example: `  forebay webhooks discard --state dead --older-than 720h`,
	}
	return withWebhooksToChange(cmd, webhookChange{
		done: "discarded", usual: webhooks.Dead, refused: []webhooks.State{webhooks.Delivered, webhooks.Discarded},
		why: "they are on their way no longer",
		one: func(ctx context.Context, jobs *jobsClient, id string) error { return jobs.DiscardWebhook(ctx, id, "") },
	})
}

func withWebhooksToChange(cmd *cobra.Command, c webhookChange) *cobra.Command {
	var flags webhookFlags
	var bulk manyFlags
	flags.add(cmd)
	bulk.add(cmd, "webhook", "without any filter but the state")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		given := slices.ContainsFunc(webhookFilters, cmd.Flags().Changed)
		if err := bulk.check(cmd, "webhook", "--state dead", args, given); err != nil {
			return err
		}
		for _, id := range args {
			if err := exactWebhook(cmd, []string{id}); err != nil {
				return err
			}
		}
		filter, err := flags.filter(cmd, time.Now())
		if err != nil {
			return err
		}
		if slices.Contains(c.refused, filter.State) {
			return refuseUsage(cmd, "webhooks that are %s cannot be %s: %s", filter.State, c.done, c.why)
		}
		if filter.State == "" {
			filter.State = c.usual
		}
		return withJobs(cmd, func(jobs *jobsClient) error {
			switch {
			case len(args) > 0:
				return c.many(jobs).named(cmd, args)
			case bulk.dryRun:
				return jobs.listWebhooksToChange(cmd, filter, bulk.limit)
			}
			of := jobs.chosenWebhooks(cmd, filter, flags, bulk.limit)
			if !bulk.yes {
				if err := c.many(jobs).few(cmd, of); err != nil {
					return err
				}
			}
			return c.many(jobs).change(cmd, of)
		})
	}
	return cmd
}

func (c webhookChange) many(jobs *jobsClient) many {
	return many{
		noun: "webhook", done: c.done,
		one:       func(ctx context.Context, of item) error { return c.one(ctx, jobs, of.id) },
		overtaken: func(err error) bool { return errors.Is(err, webhooks.ErrNotFound) || errors.Is(err, webhooks.ErrEnded) },
	}
}

// chosenWebhooks are those that a filter means, for a change of many. They are all known before the first is changed: one
// that is sent again leaves the list that is being read, and may come back to it.
func (j *jobsClient) chosenWebhooks(cmd *cobra.Command, filter webhooks.Filter, flags webhookFlags, limit int) chosen {
	look := ""
	for _, name := range webhookFilters {
		if flag := cmd.Flags().Lookup(name); flag.Changed {
			look += " --" + name + " " + quote(flag.Value.String())
		}
	}
	if flags.state == "" {
		look = " --state " + string(filter.State) + look
	}
	of := chosen{
		look: "forebay webhooks list" + look,
		items: func(ctx context.Context) iter.Seq2[item, error] {
			return func(yield func(item, error) bool) {
				var ids []string
				for record, err := range upTo(limit, j.webhooks(ctx, filter)) {
					if err != nil {
						yield(item{}, err)
						return
					}
					ids = append(ids, record.ID)
				}
				for _, id := range ids {
					if !yield(item{id: id}, nil) {
						return
					}
				}
			}
		},
	}
	narrow := slices.ContainsFunc(webhookFilters, func(name string) bool { return name != "state" && cmd.Flags().Changed(name) })
	if !narrow && limit == 0 {
		of.all = "webhooks that are " + string(filter.State)
	}
	return of
}

// listWebhooksToChange shows what would be changed.
func (j *jobsClient) listWebhooksToChange(cmd *cobra.Command, filter webhooks.Filter, limit int) error {
	reply := manyReply{noun: "webhook", dryRun: true}
	out := &webhookTable{out: cmd.OutOrStdout(), now: time.Now()}
	for record, err := range upTo(limit, j.webhooks(cmd.Context(), filter)) {
		if err != nil {
			return err
		}
		if reply.changed++; !wantsJSON(cmd) {
			if err := out.webhook(record.Brief()); err != nil {
				return err
			}
		}
	}
	if wantsJSON(cmd) {
		return printJSON(cmd, reply)
	}
	if err := out.end(false); err != nil {
		return err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "forebay: %s; nothing was changed\n", plural(reply.changed, "webhook"))
	return nil
}
