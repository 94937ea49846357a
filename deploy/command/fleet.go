package command

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks/fleet"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

// fleetStatus is the processes of a deployment, as `forebay status --json` prints them.
type fleetStatus struct {
	Processes []fleet.Process `json:"processes"`
	// Configs and Builds are how many processes work by each version of the configuration, and of the program. More than
	// one of either is a fleet that is being changed, or was left half changed.
	Configs map[string]int `json:"config_versions"`
	Builds  map[string]int `json:"build_versions"`
}

func readFleet(ctx context.Context, client redis.UniversalClient, keys keyspace.Keyspace) (fleetStatus, error) {
	processes, err := fleet.Read(ctx, client, keys)
	status := fleetStatus{Processes: processes, Configs: map[string]int{}, Builds: map[string]int{}}
	for _, p := range processes {
		if p.Config != nil {
			status.Configs[p.Config.Version]++
		}
		if p.Version != "" {
			status.Builds[p.Version]++
		}
	}
	return status, err
}

// workers are the ids of those that do jobs.
func (f fleetStatus) workers() []string {
	ids := make([]string, 0, len(f.Processes))
	for _, p := range f.Processes {
		if p.Kind.Works() {
			ids = append(ids, p.ID)
		}
	}
	return ids
}

// liveWorkers lists the ids of the workers that live.
func liveWorkers(ctx context.Context, client redis.UniversalClient, keys keyspace.Keyspace) ([]string, error) {
	found, err := readFleet(ctx, client, keys)
	return found.workers(), err
}

// concerns are what an operator should know of the fleet.
func (f fleetStatus) concerns() []finding {
	var found []finding
	add := func(code, subject, message, hint string) {
		found = append(found, finding{Code: code, Level: levelWarning, Subject: subject, Message: message, Hint: hint})
	}
	if len(f.Configs) > 1 {
		add(codeVersionsDiffer, "fleet", "configurations differ: "+counted(f.Configs), "give all processes the same file; one that changes is taken up within some seconds")
	}
	if len(f.Builds) > 1 {
		add(codeVersionsDiffer, "fleet", "builds differ: "+counted(f.Builds), "finish the upgrade")
	}
	for _, id := range f.keysThatDiffer() {
		found = append(found, finding{
			Code: codeKeysDiffer, Level: levelError, Subject: "encryption key " + id, Message: "processes have different keys under this id: what one of them seals another cannot open",
			Hint: "give all processes the same key, and a new key an id of its own (docs/operations.md)",
		})
	}
	for _, p := range f.Processes {
		if p.Config == nil {
			continue
		}
		if refused := p.Config.Refused; refused != nil && len(refused.Problems) > 0 {
			add(codeConfigRefused, nameOf(p), "refuses the configuration as it stands: "+refused.Problems[0]+further(len(refused.Problems)-1),
				"correct the file; until then the one before holds")
		}
		if len(p.Config.Restart) > 0 {
			add(codeRestartNeeded, nameOf(p), "needs a restart to use "+strings.Join(p.Config.Restart, ", "), "restart it when it suits")
		}
	}
	return found
}

// keysThatDiffer are the ids of encryption under which not all processes have the same key.
func (f fleetStatus) keysThatDiffer() []string {
	first, differ := map[string]string{}, map[string]bool{}
	for _, p := range f.Processes {
		if p.Config == nil {
			continue
		}
		for id, check := range p.Config.Keys {
			if known, met := first[id]; met && known != check {
				differ[id] = true
			}
			first[id] = check
		}
	}
	return slices.Sorted(maps.Keys(differ))
}

func further(problems int) string {
	if problems == 0 {
		return ""
	}
	return fmt.Sprintf(" (and %d more)", problems)
}

// counted lists versions, the most used first: "3 of 0a1b2c, 1 of 9f8e7d".
func counted(versions map[string]int) string {
	names := slices.SortedFunc(maps.Keys(versions), func(a, b string) int {
		return cmp.Or(cmp.Compare(versions[b], versions[a]), cmp.Compare(a, b))
	})
	for i, name := range names {
		names[i] = fmt.Sprintf("%d of %s", versions[name], name)
	}
	return strings.Join(names, ", ")
}

// nameOf is how a process is named to people: "worker 4711 on db-1".
func nameOf(p fleet.Process) string {
	if p.Host == "" {
		return fmt.Sprintf("%s %s", p.Kind, p.ID)
	}
	return fmt.Sprintf("%s %d on %s", p.Kind, p.PID, p.Host)
}

func printFleet(out io.Writer, f fleetStatus, now time.Time) error {
	if len(f.Processes) == 0 {
		return nil
	}
	fmt.Fprintln(out)
	list := table(out)
	row(list, "PROCESS", "PID", "HOST", "BUILD", "STARTED", "CONFIG", "SINCE")
	for _, p := range f.Processes {
		version, since, pid := "-", "-", "-"
		if p.Config != nil {
			version, since = p.Config.Version, clock(p.Config.LoadedAt, now)
		}
		if p.PID != 0 {
			pid = fmt.Sprint(p.PID)
		}
		row(list, p.Kind, pid, printable(dash(p.Host)), printable(dash(p.Version)), clock(p.StartedAt, now), printable(version), since)
	}
	if err := list.Flush(); err != nil {
		return err
	}
	for _, concern := range f.concerns() {
		fmt.Fprintf(out, "  %s: %s\n", printable(concern.Subject), printable(concern.Message))
	}
	return nil
}
