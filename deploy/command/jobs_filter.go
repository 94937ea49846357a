package command

import (
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/envelope"
)

// filterFlags say which jobs a command is about.
type filterFlags struct {
	statuses, taskTypes, codes, classes []string
	tenant, text, batch                 string
	since, until                        string
	olderThan, newerThan                time.Duration
}

// filterNames are the flags that choose among jobs.
var filterNames = []string{"status", "task-type", "tenant", "code", "class", "older-than", "newer-than", "since", "until", "text", "batch"}

func (f *filterFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringSliceVar(&f.statuses, "status", nil, "`status`: queued, running, retrying, succeeded, failed, cancelled or expired; may be several")
	flags.StringSliceVar(&f.taskTypes, "task-type", nil, "task `type`, "+envelope.Adhoc+" for jobs without one; may be several")
	flags.StringVar(&f.tenant, "tenant", "", "whose jobs they are")
	flags.StringSliceVar(&f.codes, "code", nil, "`code` or class of the job's error; may be several")
	flags.StringSliceVar(&f.classes, "class", nil, "`class` of the job's error, such as unavailable; may be several, and stands beside --code for either")
	flags.DurationVar(&f.olderThan, "older-than", 0, "ended, or accepted while open, at least so long ago, such as 1h")
	flags.DurationVar(&f.newerThan, "newer-than", 0, "ended, or accepted while open, within so long, such as 30m")
	flags.StringVar(&f.since, "since", "", "ended, or accepted while open, at this `time` or later, such as 2026-12-31T08:00:00Z")
	flags.StringVar(&f.until, "until", "", "ended, or accepted while open, before this `time`")
	flags.StringVar(&f.text, "text", "", "part of the id, the task type, the error's code or message, or a value of the metadata")
	flags.StringVar(&f.batch, "batch", "", "the batch that they are members of")
}

// given tells whether the command line chooses among jobs.
func (f *filterFlags) given(cmd *cobra.Command) bool {
	return slices.ContainsFunc(filterNames, cmd.Flags().Changed)
}

// filter reads the flags.
func (f *filterFlags) filter(cmd *cobra.Command, now time.Time) (producer.Filter, error) {
	filter := producer.Filter{
		TaskTypes: f.taskTypes, Tenant: f.tenant, Codes: slices.Concat(f.codes, f.classes), Text: f.text, Batch: f.batch,
	}
	for _, name := range f.statuses {
		if !slices.Contains(jobStatuses, name) {
			return filter, refuseUsage(cmd, "%s", unknownName("status", name, jobStatuses))
		}
		filter.Statuses = append(filter.Statuses, tasks.Status(name))
	}
	for _, name := range f.classes {
		if known := classNames(); !slices.Contains(known, name) {
			return filter, refuseUsage(cmd, "%s", unknownName("class", name, known))
		}
	}
	if f.batch != "" && !tasks.ValidID(f.batch) {
		return filter, refuseUsage(cmd, "--batch: %.140q is no batch's id; `forebay batch list` shows them", f.batch)
	}
	var err error
	if filter.Since, err = bound(cmd, "since", f.since, "newer-than", f.newerThan, now); err != nil {
		return filter, err
	}
	if filter.Until, err = bound(cmd, "until", f.until, "older-than", f.olderThan, now); err != nil {
		return filter, err
	}
	if !filter.Since.IsZero() && !filter.Until.IsZero() && !filter.Since.Before(filter.Until) {
		return filter, refuseUsage(cmd, "no time is both since %s and until %s", filter.Since.Format(time.RFC3339), filter.Until.Format(time.RFC3339))
	}
	return filter, nil
}

var jobStatuses = []string{"queued", "running", "retrying", "succeeded", "failed", "cancelled", "expired"}

func classNames() []string {
	var names []string
	for _, class := range tasks.Classes() {
		names = append(names, string(class))
	}
	return names
}

// bound reads one end of a span, which is a time, or so long ago.
func bound(cmd *cobra.Command, name, text, agoName string, ago time.Duration, now time.Time) (time.Time, error) {
	switch {
	case ago < 0:
		return time.Time{}, refuseUsage(cmd, "--%s must be positive, such as 1h", agoName)
	case ago > 0 && text != "":
		return time.Time{}, refuseUsage(cmd, "--%s stands beside --%s; give one of them", name, agoName)
	case ago > 0:
		return now.Add(-ago), nil
	case text == "":
		return time.Time{}, nil
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, nil
	}
	for _, layout := range []string{time.DateTime, "2006-01-02 15:04", time.DateOnly} {
		if at, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return at, nil
		}
	}
	return time.Time{}, refuseUsage(cmd, "--%s must be a time such as 2026-12-31T08:00:00Z, or 2026-12-31 in this machine's time, got %q", name, text)
}

// asFlags writes the filter's flags once more, for commands to copy.
func (f *filterFlags) asFlags(cmd *cobra.Command) string {
	var text strings.Builder
	for _, name := range filterNames {
		flag := cmd.Flags().Lookup(name)
		if flag != nil && flag.Changed {
			value := strings.Trim(flag.Value.String(), "[]")
			text.WriteString(" --" + name + " " + quote(value))
		}
	}
	return text.String()
}
