package command

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/envelope"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/pauses"
)

func newQueueCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "queue",
		Short: "Show the queues, and pause or resume the work",
	}
	cmd.AddCommand(newQueueListCommand(), newPauseCommand(), newResumeCommand())
	asGroup(cmd)
	return cmd
}

func newQueueListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "Show the queues and what is paused",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return onRedisOf(cmd, func(ctx context.Context, s *settings, client redis.UniversalClient) error {
				found, err := producer.ReadQueues(ctx, client, keyspace.New(s.prefix))
				switch {
				case err != nil:
					return err
				case wantsJSON(cmd):
					return printJSON(cmd, found)
				}
				return printQueues(cmd.OutOrStdout(), found.Queues, found.PausedTaskTypes)
			})
		},
	}
}

func newPauseCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "pause QUEUE...|--all|--task-type TYPE",
		Short: "Begin no call of a queue or a task type",
		Long: `Pause queues or task types, for all workers at once. Calls that are out finish, none is begun, and jobs are still
accepted. Of paused task types every job waits in its queue and costs no retry. Jobs without a task type are of the
type ` + envelope.Adhoc + `. Deadlines go on.`,
	}
	return withTargets(cmd, true)
}

func newResumeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "resume QUEUE...|--all|--task-type TYPE",
		Short: "Go on with a queue or a task type",
		Long: `Resume queues or task types, for all workers at once. Jobs that a worker gave back because of the pause may take up
to 30s to be begun. --all resumes every queue, and no task type.`,
	}
	return withTargets(cmd, false)
}

// targets are what is to be paused or resumed.
type targets struct{ queues, taskTypes []string }

// withTargets makes a command that pauses or resumes what its arguments name.
func withTargets(cmd *cobra.Command, paused bool) *cobra.Command {
	var all bool
	var taskTypes []string
	cmd.Flags().BoolVar(&all, "all", false, "all queues")
	cmd.Flags().StringSliceVar(&taskTypes, "task-type", nil, "a task `type`; may be given several times")
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		chosen, err := chooseTargets(cmd, args, all, taskTypes)
		if err != nil {
			return err
		}
		return onRedisOf(cmd, func(ctx context.Context, s *settings, client redis.UniversalClient) error {
			if paused {
				if err := s.knowTaskTypes(chosen.taskTypes); err != nil {
					return err
				}
			}
			return applyPause(ctx, cmd, pauses.New(client, keyspace.New(s.prefix)), chosen, paused)
		})
	}
	return cmd
}

func chooseTargets(cmd *cobra.Command, args []string, all bool, taskTypes []string) (targets, error) {
	given := 0
	for _, one := range []bool{len(args) > 0, all, len(taskTypes) > 0} {
		if one {
			given++
		}
	}
	if given != 1 {
		return targets{}, refuseUsage(cmd, "give one of: the names of queues (%s), --all, --task-type", strings.Join(envelope.QueueNames(), ", "))
	}
	for _, name := range args {
		if !slices.Contains(envelope.QueueNames(), name) {
			return targets{}, refuseUsage(cmd, "%s", unknownName("queue", name, envelope.QueueNames()))
		}
	}
	for _, name := range taskTypes {
		if !tasks.ValidName(name) {
			return targets{}, refuseUsage(cmd, "--task-type %q is no name of a task type", name)
		}
	}
	if all {
		args = envelope.QueueNames()
	}
	return targets{queues: args, taskTypes: taskTypes}, nil
}

// knowTaskTypes refuses a task type that the configuration does not have, where there is one: nobody would notice that
// a misspelt one goes on.
func (s *settings) knowTaskTypes(names []string) error {
	if s.file == nil {
		return nil
	}
	known := append(slices.Sorted(maps.Keys(s.file.Catalog.TaskTypes)), envelope.Adhoc)
	for _, name := range names {
		if !slices.Contains(known, name) {
			return unknownName("task type", name, known)
		}
	}
	return nil
}

func applyPause(ctx context.Context, cmd *cobra.Command, buttons *pauses.Store, chosen targets, paused bool) error {
	var lines []string
	for _, queue := range chosen.queues {
		changed, err := buttons.SetQueue(ctx, queue, paused)
		if err != nil {
			return err
		}
		lines = append(lines, pausedLine("the queue "+queue, paused, changed))
	}
	for _, taskType := range chosen.taskTypes {
		changed, err := buttons.SetTaskType(ctx, taskType, paused)
		if err != nil {
			return err
		}
		lines = append(lines, pausedLine("the task type "+taskType, paused, changed))
	}
	state, err := buttons.Read(ctx)
	switch {
	case err != nil:
		return err
	case wantsJSON(cmd):
		return printJSON(cmd, map[string]pauses.State{"paused": state})
	}
	if !paused && len(chosen.queues) > 0 && len(state.TaskTypes) > 0 {
		lines = append(lines, fmt.Sprintf("still paused: task type %s; resume it with `forebay queue resume --task-type %s`",
			strings.Join(state.TaskTypes, ", "), strings.Join(state.TaskTypes, ",")))
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), strings.Join(lines, "\n"))
	return err
}

func pausedLine(what string, paused, changed bool) string {
	switch {
	case paused && changed:
		return what + " is paused; calls that are out finish"
	case paused:
		return what + " is paused, as it was before"
	case changed:
		return what + " goes on"
	}
	return what + " was not paused"
}

// shards is into how many shards the queues are divided. Without a configuration jobs go into none, which is always
// consumed.
func (s *settings) shards() keyspace.Shards {
	if s.file == nil {
		return 1
	}
	return keyspace.Shards(s.file.Queues.Shards)
}

// pausedAlone are the shards of a queue that are paused though it is not.
func pausedAlone(queue producer.Queue) (labels []string) {
	for _, shard := range queue.Shards {
		if shard.Paused {
			labels = append(labels, shard.Shard)
		}
	}
	return labels
}

func printQueues(out io.Writer, queues []producer.Queue, pausedTaskTypes []string) error {
	list := table(out)
	row(list, "QUEUE", "PENDING", "ACTIVE", "SCHEDULED", "RETRY", "ARCHIVED")
	for _, queue := range queues {
		name := queue.Queue
		if queue.Paused {
			name += " (paused)"
		} else if alone := pausedAlone(queue); len(alone) > 0 {
			name += " (paused: " + strings.Join(alone, ", ") + ")"
		}
		row(list, name, queue.Pending, queue.Active, queue.Scheduled, queue.Retry, queue.Archived)
	}
	if err := list.Flush(); err != nil || len(pausedTaskTypes) == 0 {
		return err
	}
	_, err := fmt.Fprintf(out, "\npaused task types: %s\n", strings.Join(pausedTaskTypes, ", "))
	return err
}
