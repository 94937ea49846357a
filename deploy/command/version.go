package command

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// Set by the linker for releases (-ldflags "-X <package>.version=v1.2.3"); otherwise the build info has them.
var version, commit, date string

// versionReply is what `forebay version --json` prints.
type versionReply struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	// Date is the commit's, RFC 3339.
	Date string `json:"date,omitempty"`
	// Modified tells that the build holds changes that no commit has.
	Modified bool   `json:"modified,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of this build",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			reply := buildVersion()
			if wantsJSON(cmd) {
				return printJSON(cmd, reply)
			}
			fmt.Fprintln(cmd.OutOrStdout(), reply)
			return nil
		},
	}
}

// String is the version on one line.
func (v versionReply) String() string {
	text := "forebay " + v.Version
	if v.Commit != "" {
		text += " (" + v.Commit[:min(12, len(v.Commit))]
		if v.Modified {
			text += ", modified"
		}
		if v.Date != "" {
			text += ", " + v.Date
		}
		text += ")"
	}
	return text + " " + v.Go + " " + v.Platform
}

func buildVersion() versionReply {
	reply := versionReply{
		Version: version, Commit: commit, Date: date,
		Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
	build, found := debug.ReadBuildInfo()
	if !found {
		build = &debug.BuildInfo{}
	}
	fill(&reply.Version, build.Main.Version)
	fill(&reply.Version, "(devel)")
	for _, setting := range build.Settings {
		switch setting.Key {
		case "vcs.revision":
			fill(&reply.Commit, setting.Value)
		case "vcs.time":
			fill(&reply.Date, setting.Value)
		case "vcs.modified":
			reply.Modified = commit == "" && setting.Value == "true"
		}
	}
	return reply
}

func fill(field *string, value string) {
	if *field == "" {
		*field = value
	}
}
