package command

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode"

	"github.com/spf13/cobra"
)

// errTold ends a command that has already said on standard error what went wrong.
var errTold = errors.New("told already")

// errInterrupted ends a command that a signal ended before it came to its result, and that has said so.
var errInterrupted = errors.New("interrupted")

// longestValue is how much of a flag's value an error repeats.
const longestValue = 40

// usageError is a command line that was not understood.
type usageError struct{ text string }

// Error implements error.
func (e *usageError) Error() string { return e.text }

// refuseUsage says what is wrong with the use of a command, and where its use is described.
func refuseUsage(cmd *cobra.Command, format string, args ...any) error {
	text := strings.TrimRight(fmt.Sprintf(format, args...), ".; ")
	return &usageError{fmt.Sprintf("%s; see `%s --help`", text, cmd.CommandPath())}
}

// badValue is how the library says that a flag cannot hold a value.
var badValue = regexp.MustCompile(`(?s)^invalid argument (".*") for "(?:-\w, )?--([^"]+)" flag: (.*)$`)

// flagProblem says what a flag must be, instead of which function of Go has refused it.
func flagProblem(cmd *cobra.Command, err error) string {
	parts := badValue.FindStringSubmatch(err.Error())
	if parts == nil {
		return err.Error()
	}
	value, name, reason := parts[1], parts[2], parts[3]
	if runes := []rune(value); len(runes) > longestValue {
		value = string(runes[:longestValue]) + "...\""
	}
	flag := cmd.Flags().Lookup(name)
	if flag == nil {
		return err.Error()
	}
	var want string
	switch flag.Value.Type() {
	case "int", "uint64":
		want = "a whole number"
	case "float64":
		want = "a number"
	case "duration":
		want = "a duration such as 90s or 24h"
	case "bool":
		want = "true or false"
	default:
		return fmt.Sprintf("--%s cannot be read from %s: %s", name, value, reason)
	}
	if strings.Contains(reason, "value out of range") {
		return fmt.Sprintf("--%s: %s is too large a number", name, strings.Trim(value, `"`))
	}
	return fmt.Sprintf("--%s must be %s, got %s", name, want, value)
}

// report writes an error for people, one line for each of its parts, and returns the exit status.
func report(stderr io.Writer, err error) int {
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errTold):
		return exitFailed
	case errors.Is(err, errInterrupted):
		return exitInterrupted
	}
	for line := range strings.Lines(withoutScripts(err)) {
		if line = printable(line); line != "" {
			fmt.Fprintln(stderr, "forebay:", line)
		}
	}
	if errors.As(err, new(*usageError)) {
		return exitUsage
	}
	return exitFailed
}

// printable makes one line of a text that may come from a provider or a file.
func printable(line string) string {
	return strings.TrimSpace(strings.NewReplacer("\n", " ", "\t", " ").Replace(harmless(line)))
}

// harmless takes out of a text what a terminal would act on, but not its lines.
func harmless(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
}
