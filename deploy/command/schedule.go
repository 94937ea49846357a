package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/schedules"
)

// schedulesReply is what `forebay schedule list --json` prints.
type schedulesReply struct {
	Schedules []schedules.Entry `json:"schedules"`
}

// removedReply is what `forebay schedule remove --json` prints.
type removedReply struct {
	Name    string `json:"name"`
	Removed bool   `json:"removed"`
}

func newScheduleCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "schedule",
		Short: "Make a job again and again, at times like those of cron",
		Long: `Make a job again and again, at times like those of cron: each tick once, by whichever ` + "`forebay scheduler`" + ` leads. Schedules
also stand in the configuration, under schedules; those are changed there, and can be paused here.`,
	}
	var tenant string
	cmd.PersistentFlags().StringVar(&tenant, "tenant", catalog.DefaultTenant, "whose schedules they are")
	cmd.AddCommand(newScheduleAddCommand(), newScheduleListCommand(&tenant), newScheduleShowCommand(&tenant),
		newSchedulePauseCommand(&tenant, true), newSchedulePauseCommand(&tenant, false), newScheduleRunCommand(&tenant),
		newScheduleRemoveCommand(&tenant))
	asGroup(cmd)
	return cmd
}

func newScheduleAddCommand() *cobra.Command {
	var flags enqueueFlags
	var schedule schedules.Schedule
	var missed string
	var expires time.Duration
	cmd := &cobra.Command{
		Use:   "add NAME --cron WHEN (--file FILE | --input TEXT | --request FILE | --job FILE)",
		Short: "Add a schedule, or replace the one of that name",
		Long: `Add a schedule, or replace the one of that name and tenant. What its jobs ask for is said as for ` + "`forebay enqueue`" + `, and
checked now; it is read once, not at every tick. Times are five fields (minute, hour, day of the month, month, day of
the week), @hourly, @daily, @weekly, @monthly, or @every with a duration. In the night in which clocks go forward, a time
that does not exist has no tick.`,
		Example: `  forebay schedule add nightly --cron "30 2 * * *" --time-zone Europe/Berlin --missed once --type fast_summary --file day.txt
  forebay schedule add pulse --cron "@every 15m" --tier low --input "Say something about water."`,
		Args: oneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			if schedule.Cron == "" {
				return refuseUsage(cmd, "say when with --cron, such as --cron \"30 2 * * *\"")
			}
			schedule.Name, schedule.Tenant, schedule.Missed = args[0], flags.tenant, schedules.Missed(missed)
			schedule.ExpiresAfter = tasks.Duration(expires)
			job, err := buildJob(cmd, flags, time.Now())
			if err != nil {
				return err
			}
			schedule.Job = job
			return addSchedule(cmd, schedule)
		},
	}
	flags.describe(cmd.Flags())
	f := cmd.Flags()
	f.StringVar(&schedule.Cron, "cron", "", "the `times`, such as \"30 2 * * *\", @daily or \"@every 15m\"; required")
	f.StringVar(&schedule.TimeZone, "time-zone", "UTC", "`zone` of the times, such as Europe/Berlin")
	f.StringVar(&missed, "missed", string(schedules.Skip), "what becomes of ticks while no scheduler runs: skip, once or all")
	f.DurationVar(&expires, "expires-after", 0, "how long after its tick a job ends as expired (default: the configuration's max_age)")
	return cmd
}

func addSchedule(cmd *cobra.Command, schedule schedules.Schedule) error {
	s, err := requireSettings(cmd)
	if err != nil {
		return err
	}
	now := time.Now()
	if err := schedule.Complete(now); err != nil {
		return err
	}
	if _, err := s.file.Catalog.Prepare(schedule.Job, now); err != nil {
		return err
	}
	return onSchedules(cmd, func(ctx context.Context, store *schedules.Store) error {
		if err := store.Put(ctx, schedule); err != nil {
			return err
		}
		entry, err := store.Get(ctx, schedule.Tenant, schedule.Name)
		if err != nil {
			return err
		}
		return showSchedule(cmd, entry)
	})
}

func newScheduleListCommand(tenant *string) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "Show all schedules, of all tenants unless --tenant names one",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			of := *tenant
			if !cmd.Flags().Changed("tenant") {
				of = ""
			}
			return onSchedules(cmd, func(ctx context.Context, store *schedules.Store) error {
				list, err := store.List(ctx, of) // what can be read is shown beside what cannot
				if err != nil && len(list) == 0 {
					return err
				}
				show := func() error { return printSchedules(cmd.OutOrStdout(), list, time.Now()) }
				if wantsJSON(cmd) {
					show = func() error { return printJSON(cmd, schedulesReply{list}) }
				}
				return errors.Join(show(), err)
			})
		},
	}
}

func newScheduleShowCommand(tenant *string) *cobra.Command {
	return &cobra.Command{
		Use:   "show NAME",
		Short: "Show a schedule, and what has become of it",
		Args:  oneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			return onSchedules(cmd, func(ctx context.Context, store *schedules.Store) error {
				entry, err := store.Get(ctx, *tenant, args[0])
				if err != nil {
					return err
				}
				return showSchedule(cmd, entry)
			})
		},
	}
}

func newSchedulePauseCommand(tenant *string, pause bool) *cobra.Command {
	name, short := "pause", "Have a schedule make no jobs; the ticks meanwhile are not made up for"
	if !pause {
		name, short = "resume", "Have a paused schedule go on from now"
	}
	return &cobra.Command{
		Use: name + " NAME", Short: short, Args: oneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			return onSchedules(cmd, func(ctx context.Context, store *schedules.Store) error {
				entry, err := store.Pause(ctx, *tenant, args[0], pause)
				if err != nil {
					return err
				}
				return showSchedule(cmd, entry)
			})
		},
	}
}

func newScheduleRunCommand(tenant *string) *cobra.Command {
	return &cobra.Command{
		Use:   "run NAME",
		Short: "Make the schedule's job now, beside its ticks",
		Args:  oneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := requireSettings(cmd)
			if err != nil {
				return err
			}
			jobs, err := openJobs(cmd, s)
			if err != nil {
				return err
			}
			defer jobs.close()
			entry, err := schedules.New(jobs.redis, jobs.keys, jobs.Sealer()).Get(cmd.Context(), *tenant, args[0])
			if err != nil {
				return err
			}
			job := entry.JobAt(time.Now())
			job.ID += "-" + uuid.NewString()[:8] // it is none of the ticks'
			receipt, err := jobs.Enqueue(cmd.Context(), job)
			switch {
			case err != nil:
				return err
			case wantsJSON(cmd):
				return printJSON(cmd, enqueueReply{receipt.ID, receipt.Status, receipt.Created})
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), receipt.ID)
			return err
		},
	}
}

func newScheduleRemoveCommand(tenant *string) *cobra.Command {
	return &cobra.Command{
		Use:   "remove NAME",
		Short: "Take a schedule away; the jobs that it has made stay",
		Args:  oneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			return onSchedules(cmd, func(ctx context.Context, store *schedules.Store) error {
				if err := store.Remove(ctx, *tenant, args[0], ""); err != nil {
					return err
				}
				if wantsJSON(cmd) {
					return printJSON(cmd, removedReply{args[0], true})
				}
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "the schedule %s is removed\n", args[0])
				return err
			})
		},
	}
}

func oneName(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return refuseUsage(cmd, "takes the name of one schedule, got %d arguments", len(args))
	}
	if !tasks.ValidName(args[0]) {
		return refuseUsage(cmd, "a schedule's name has 1 to 64 characters of A-Z a-z 0-9 _ . -, got %.70q", args[0])
	}
	return nil
}

func onSchedules(cmd *cobra.Command, do func(ctx context.Context, store *schedules.Store) error) error {
	return onRedisOf(cmd, func(ctx context.Context, s *settings, client redis.UniversalClient) error {
		sealer, err := s.sealer()
		if err != nil {
			return err
		}
		return do(ctx, schedules.New(client, keyspace.New(s.prefix), sealer))
	})
}

func showSchedule(cmd *cobra.Command, entry schedules.Entry) error {
	if wantsJSON(cmd) {
		return printJSON(cmd, entry)
	}
	return printSchedules(cmd.OutOrStdout(), []schedules.Entry{entry}, time.Now())
}

func printSchedules(out io.Writer, list []schedules.Entry, now time.Time) error {
	if len(list) == 0 {
		fmt.Fprintln(out, "no schedules; `forebay schedule add --help` says how to make one")
		return nil
	}
	rows := table(out)
	row(rows, "NAME", "OF", "WHEN", "ZONE", "NEXT", "LAST JOB", "JOBS", "MISSED", "")
	for _, entry := range list {
		next, note := "-", ""
		switch {
		case entry.State.Paused:
			next = "paused"
		case entry.Next != nil:
			next = clock(*entry.Next, now)
		}
		if entry.Source == schedules.SourceConfig {
			note = "in the configuration"
		}
		if entry.State.LastError != "" {
			note = "the last job was refused: " + printable(entry.State.LastError)
		}
		row(rows, entry.Name, entry.Tenant, entry.Cron, entry.TimeZone, next, dash(entry.State.LastJob),
			fmt.Sprint(entry.State.Jobs), fmt.Sprint(entry.State.Missed), note)
	}
	return rows.Flush()
}
