package command

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/deploy/config"
	"github.com/forebay-queue/forebay/tasks/redistest"
	"github.com/forebay-queue/forebay/tasks/schedules"
)

func TestSchedule(t *testing.T) {
	t.Parallel()
	_, server := redistest.Embedded(t)
	path := filepath.Join(t.TempDir(), "forebay.yaml")
	require.NoError(t, os.WriteFile(path, config.Example(), 0o600))
	run := func(args ...string) outcomeOf {
		return inProcess(t, "", append(append([]string{"schedule"}, args...), "--redis", "redis://"+server.Addr(), "--config", path)...)
	}
	require.Contains(t, run("list").stdout, "no schedules; `forebay schedule add --help` says how to make one")
	add := []string{"add", "nightly", "--cron", "30 2 * * *", "--time-zone", "Europe/Berlin", "--missed", "once", "--type", "fast_summary", "--input", "the day"}
	got := run(add...)
	require.Equal(t, exitOK, got.status, got.stderr)
	assert.Regexp(t, `nightly +default +30 2 \* \* \* +Europe/Berlin`, got.stdout)

	var entry schedules.Entry
	require.NoError(t, json.Unmarshal([]byte(run("show", "nightly", "--json").stdout), &entry))
	assert.Equal(t, schedules.Once, entry.Missed)
	assert.Equal(t, "the day", entry.Job.Input)
	assert.NotNil(t, entry.Next)

	require.Contains(t, run("pause", "nightly").stdout, "paused")
	require.NotContains(t, run("resume", "nightly").stdout, "paused")
	ran := run("run", "nightly")
	require.Equal(t, exitOK, ran.status, ran.stderr)
	job := inProcess(t, "", "get", strings.TrimSpace(ran.stdout), "--json", "--redis", "redis://"+server.Addr())
	assert.Contains(t, job.stdout, `"queued"`)

	acme := run(append(add, "--tenant", "acme")...)
	require.Equal(t, exitOK, acme.status, acme.stderr)
	var all, theirs struct{ Schedules []schedules.Entry }
	require.NoError(t, json.Unmarshal([]byte(run("list", "--json").stdout), &all))
	require.NoError(t, json.Unmarshal([]byte(run("list", "--tenant", "acme", "--json").stdout), &theirs))
	assert.Len(t, all.Schedules, 2)
	assert.Len(t, theirs.Schedules, 1)

	assert.Equal(t, "the schedule nightly is removed\n", run("remove", "nightly").stdout)
	for _, verb := range []string{"show", "pause", "resume", "run", "remove"} {
		got := run(verb, "nightly")
		assert.Equal(t, exitFailed, got.status, verb)
		assert.Contains(t, got.stderr, "schedule nightly of tenant default: there is no such schedule", verb)
	}
}

func TestSchedulesThatAreRefused(t *testing.T) {
	t.Parallel()
	_, server := redistest.Embedded(t)
	path := filepath.Join(t.TempDir(), "forebay.yaml")
	require.NoError(t, os.WriteFile(path, config.Example(), 0o600))
	for _, row := range []struct {
		args string
		want string
	}{
		{"add", "takes the name of one schedule, got 0 arguments"},
		{"add a/b", `a schedule's name has 1 to 64 characters of A-Z a-z 0-9 _ . -, got "a/b"`},
		{"add x --input y --type fast_summary", "say when with --cron"},
		{"add x --cron sometimes --input y --type fast_summary", `cron: "sometimes" is no time such as`},
		{"add x --cron @daily --time-zone Nowhere --input y --type fast_summary", "time_zone: must be a name of the IANA database"},
		{"add x --cron @daily --missed twice --input y --type fast_summary", "missed: must be skip, once or all"},
		{"add x --cron @daily --input y --type slow", `task_type: no task type "slow"`},
		{"add x --cron @daily --type fast_summary", "give what the job asks for, once"},
	} {
		got := inProcess(t, "", append(append([]string{"schedule"}, strings.Fields(row.args)...), "--redis", "redis://"+server.Addr(), "--config", path)...)
		assert.NotEqual(t, exitOK, got.status, row.args)
		assert.Contains(t, got.stderr, row.want, row.args)
		assert.Equal(t, 1, strings.Count(got.stderr, "\n"), got.stderr)
	}
}
