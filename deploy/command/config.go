package command

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/forebay-queue/forebay/deploy/config"
)

// configReply is what `forebay config check --json` prints.
type configReply struct {
	File      string           `json:"file"`
	OK        bool             `json:"ok"`
	Problems  []config.Problem `json:"problems,omitempty"`
	Accounts  []string         `json:"accounts,omitempty"`
	Endpoints []string         `json:"endpoints,omitempty"`
	Models    []string         `json:"models,omitempty"`
	TaskTypes []string         `json:"task_types,omitempty"`
}

func newConfigCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Write or check a configuration"}
	asGroup(cmd)
	cmd.AddCommand(newConfigCheckCommand(), newConfigInitCommand(), newConfigNewKeyCommand())
	return cmd
}

func newConfigCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check [FILE]",
		Short: "Check a configuration and look for the keys that it names",
		Long: `Check a configuration as every process does at its start, and look for the API keys and the password that
it names. Nobody is called. Every problem is one line, FILE:LINE:COLUMN: what is wrong; the exit status is then 1.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := cmp.Or(strings.Join(args, ""), configPath(cmd), defaultConfigPath)
			file, problems, err := checkConfig(path)
			if err != nil {
				return err
			}
			return printCheck(cmd, path, file, problems)
		},
	}
}

// checkConfig reads a configuration and returns all that is wrong with it and its secrets.
func checkConfig(path string) (*config.File, []config.Problem, error) {
	file, err := config.Load(path)
	var refused *config.ParseError
	switch {
	case errors.As(err, &refused):
		return nil, refused.Problems, nil
	case err != nil:
		return nil, nil, err
	}
	return file, config.Check(file), nil
}

func printCheck(cmd *cobra.Command, path string, file *config.File, problems []config.Problem) error {
	reply := configReply{File: path, OK: len(problems) == 0, Problems: problems}
	if file != nil {
		catalog := &file.Catalog
		reply.Accounts = slices.Sorted(maps.Keys(catalog.Accounts))
		reply.Endpoints = slices.Sorted(maps.Keys(catalog.Endpoints))
		reply.Models = slices.Sorted(maps.Keys(catalog.Models))
		reply.TaskTypes = slices.Sorted(maps.Keys(catalog.TaskTypes))
	}
	switch {
	case wantsJSON(cmd):
		if err := printJSON(cmd, reply); err != nil {
			return err
		}
	case reply.OK:
		out := cmd.OutOrStdout()
		fmt.Fprintf(out, "%s is in order.\n", path)
		list := table(out)
		row(list, "accounts", len(reply.Accounts), strings.Join(reply.Accounts, ", "))
		row(list, "endpoints", len(reply.Endpoints), strings.Join(reply.Endpoints, ", "))
		row(list, "models", len(reply.Models), strings.Join(reply.Models, ", "))
		row(list, "task types", len(reply.TaskTypes), strings.Join(reply.TaskTypes, ", "))
		return list.Flush()
	default:
		tellProblems(cmd, problems)
	}
	if !reply.OK {
		return errTold
	}
	return nil
}

// tellProblems writes one line for each problem, as compilers do.
func tellProblems(cmd *cobra.Command, problems []config.Problem) {
	for _, problem := range problems {
		fmt.Fprintln(cmd.ErrOrStderr(), problem)
	}
}

func newConfigInitCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "init [FILE]",
		Short: "Write a commented example configuration",
		Long: `Write a configuration that documents every value, as ./` + defaultConfigPath + ` unless FILE says otherwise; - prints it. It
refuses to overwrite a file.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return initConfig(cmd, cmp.Or(strings.Join(args, ""), defaultConfigPath), force)
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "overwrite the file where there is one")
	return cmd
}

func initConfig(cmd *cobra.Command, path string, force bool) error {
	out := cmd.OutOrStdout()
	if path == "-" {
		_, err := out.Write(config.Example())
		return err
	}
	written, err := writeNew(path, config.Example(), force)
	switch {
	case errors.Is(err, fs.ErrExist):
		return fmt.Errorf("%w, or overwrite it with --force", err)
	case err != nil:
		return err
	}
	if wantsJSON(cmd) {
		return printJSON(cmd, map[string]string{"file": path})
	}
	use := ""
	if path != defaultConfigPath {
		use = " --config " + path
	}
	what := "Wrote " + path
	if !written {
		what = path + " is there already, unchanged"
	}
	fmt.Fprintf(out, `%s. Next:
  1. Set the keys that it names:  export HOLYSHEEP_API_KEY=... OPENAI_API_KEY=...
     or put your own accounts and endpoints in their place.
  2. Check it:                    forebay config check%s
  3. Start a worker:              forebay worker%s
  4. Hand it a job:               forebay enqueue%s --type fast_summary --file doc.txt --wait
`, what, strings.TrimPrefix(use, " --config"), use, use)
	return nil
}

// existsError is a file that is not overwritten.
type existsError string

// Error implements error.
func (e existsError) Error() string {
	return string(e) + " exists already and is not overwritten; name another file"
}

// Unwrap makes it an fs.ErrExist.
func (e existsError) Unwrap() error { return fs.ErrExist }

// writeNew writes a configuration that is not there yet; with force any. One that holds the same already is left as it
// is, and written is false.
func writeNew(path string, data []byte, force bool) (written bool, err error) {
	mode := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if force {
		mode = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	}
	file, err := os.OpenFile(path, mode, 0o644) //nolint:gosec // it holds no secrets, and a service's own user is to read it
	switch {
	case errors.Is(err, fs.ErrExist):
		if present, err := os.ReadFile(path); err == nil && bytes.Equal(present, data) {
			return false, nil
		}
		return false, existsError(path)
	case err != nil:
		return false, unwritable(path, err)
	}
	_, err = file.Write(data)
	if err := errors.Join(err, file.Close()); err != nil {
		return false, unwritable(path, err)
	}
	return true, nil
}

func unwritable(path string, err error) error {
	remedy := "name another file"
	if folder := filepath.Dir(path); errors.Is(err, fs.ErrNotExist) {
		remedy = fmt.Sprintf("make its folder first (mkdir -p %s), or name another file", quote(folder))
	}
	var cause *fs.PathError
	if errors.As(err, &cause) {
		err = cause.Err
	}
	return fmt.Errorf("%s cannot be written: %w; %s", path, err, remedy)
}
