package command

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"

	"github.com/spf13/cobra"
)

// errTold ends a command that has already said on standard error what went wrong.
var errTold = errors.New("told already")

// usageError is a command line that was not understood.
type usageError struct{ text string }

// Error implements error.
func (e *usageError) Error() string { return e.text }

// refuseUsage says what is wrong with the use of a command, and where its use is described.
func refuseUsage(cmd *cobra.Command, format string, args ...any) error {
	text := strings.TrimRight(fmt.Sprintf(format, args...), ".; ")
	return &usageError{fmt.Sprintf("%s; see `%s --help`", text, cmd.CommandPath())}
}

// report writes an error for people, one line for each of its parts, and returns the exit status.
func report(stderr io.Writer, err error) int {
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errTold):
		return exitFailed
	}
	for line := range strings.Lines(err.Error()) {
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
