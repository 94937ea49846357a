package command

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/forebay-queue/forebay/deploy/batchio"
)

// outNames are the ends that the name of a file for answers may have.
var outNames = []string{".jsonl", ".ndjson", ".csv"}

// checkOut refuses a file for the answers that could not be written at the end, or whose writing would destroy something:
// before anything is asked.
func checkOut(cmd *cobra.Command, input string, style batchio.Style, flags batchRunFlags) error {
	out := flags.out
	if out == "" {
		return nil
	}
	name := strings.ToLower(filepath.Ext(out))
	switch {
	case !slices.Contains(outNames, name):
		return refuseUsage(cmd, "-o must end in .jsonl or .csv, got %q", out)
	case name == ".csv" && (style == batchio.StyleResponse || style == batchio.StyleOpenAI):
		return refuseUsage(cmd, "a table has --output result or text; give a name in .jsonl for %s", style)
	case within(out, input):
		return refuseUsage(cmd, "%s lies in %s, of which it would be an input the next time; name a file beside it", out, input)
	}
	there, err := os.Stat(out)
	if err != nil {
		return nil //nolint:nilerr // it is not there, or is met when it is written
	}
	if there.IsDir() {
		return refuseUsage(cmd, "%s is a folder; name a file with -o", out)
	}
	if read, err := os.Stat(input); err == nil && os.SameFile(there, read) {
		return refuseUsage(cmd, "%s is the input, too; name another file with -o", out)
	}
	if _, err := os.Stat(out + journalSuffix); err != nil && !flags.overwrite && !flags.dryRun {
		return refuseUsage(cmd, "%s is there, and no run of this command has begun it; name another file, or replace it with --overwrite", out)
	}
	return nil
}

// within tells that a file lies in a folder, at any depth.
func within(file, folder string) bool {
	if there, err := os.Stat(folder); err != nil || !there.IsDir() {
		return false
	}
	followed := func(path string) string {
		path, _ = filepath.Abs(path)
		if target, err := filepath.EvalSymlinks(path); err == nil {
			return target
		}
		return path
	}
	relative, err := filepath.Rel(followed(folder), filepath.Join(followed(filepath.Dir(file)), filepath.Base(file)))
	return err == nil && relative != ".." && !strings.HasPrefix(relative, ".."+string(filepath.Separator))
}
