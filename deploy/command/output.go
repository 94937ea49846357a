package command

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/forebay-queue/forebay/deploy/config"
	"github.com/forebay-queue/forebay/tasks"
)

func wantsJSON(cmd *cobra.Command) bool {
	wanted, err := cmd.Flags().GetBool(flagJSON)
	return err == nil && wanted
}

// printJSON prints one value as one line of JSON.
func printJSON(cmd *cobra.Command, value any) error {
	text, err := tasks.Encode(value)
	if err != nil {
		return fmt.Errorf("write the result as JSON: %w", err)
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\n", text)
	return err
}

// table aligns columns that are separated by tabs. It writes on Flush.
func table(w io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(w, 0, 0, 2, ' ', 0) }

// row writes one line of a table.
func row(w *tabwriter.Writer, cells ...any) {
	for i, cell := range cells {
		if i > 0 {
			fmt.Fprint(w, "\t")
		}
		fmt.Fprint(w, cell)
	}
	fmt.Fprintln(w)
}

// plural counts things: "1 error", "2 errors".
func plural(count int, noun string) string {
	if count == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", count, noun)
}

// dash stands in for what is empty.
func dash(text string) string { return cmp.Or(text, "-") }

// clock is a time as people at this machine read it, with the date when it is not today's.
func clock(at, now time.Time) string {
	at, now = at.Local(), now.Local()
	if at.Format(time.DateOnly) == now.Format(time.DateOnly) {
		return at.Format(time.TimeOnly)
	}
	return at.Format(time.DateTime)
}

// brief rounds a duration to three digits or so.
func brief(d time.Duration) string {
	switch {
	case d >= 10*time.Second:
		return d.Round(time.Second).String()
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d >= time.Millisecond:
		return d.Round(time.Millisecond).String()
	}
	return d.Round(time.Microsecond).String()
}

// dollars is a cost with at least two digits that say something.
func dollars(usd float64) string {
	digits := 4
	switch {
	case usd <= 0:
		return "$0"
	case usd < 0.01:
		digits = 1 + int(math.Ceil(-math.Log10(usd)))
	}
	return "$" + strconv.FormatFloat(usd, 'f', digits, 64)
}

// The values of the flags of the log, but for "", which leaves it to the configuration.
var (
	logLevels = map[string]zerolog.Level{
		"debug": zerolog.DebugLevel, "info": zerolog.InfoLevel, "warn": zerolog.WarnLevel, "error": zerolog.ErrorLevel,
	}
	logFormats = []string{"console", "json", "auto"}
)

// checkLogFlags refuses what the flags of the log cannot be, also for commands that write none.
func checkLogFlags(cmd *cobra.Command) error {
	flags := cmd.Flags()
	level, _ := flags.GetString(flagLogLevel)
	format, _ := flags.GetString(flagLogFormat)
	if _, known := logLevels[level]; !known && flags.Changed(flagLogLevel) {
		return refuseUsage(cmd, "--%s must be debug, info, warn or error, got %q", flagLogLevel, level)
	}
	if flags.Changed(flagLogFormat) && !slices.Contains(logFormats, format) {
		return refuseUsage(cmd, "--%s must be console, json or auto, got %q", flagLogFormat, format)
	}
	return nil
}

// newLog returns the log of a process that stays: on standard error, as the flags say, else as the configuration
// does, both of which have been checked.
func newLog(cmd *cobra.Command, settings config.Log) zerolog.Logger {
	flags := cmd.Flags()
	level, _ := flags.GetString(flagLogLevel)
	format, _ := flags.GetString(flagLogFormat)
	out := cmd.ErrOrStderr()
	if format = cmp.Or(format, settings.Format, "auto"); format == "console" || format == "auto" && isTerminal(out) {
		_, plain := os.LookupEnv("NO_COLOR")
		out = zerolog.ConsoleWriter{Out: out, NoColor: plain || !isTerminal(out), TimeFormat: time.TimeOnly}
	}
	return zerolog.New(out).Level(logLevels[cmp.Or(level, settings.Level, "info")]).With().Timestamp().Logger()
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}
