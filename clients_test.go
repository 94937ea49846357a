package main_test

import (
	"context"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
)

// foreign runs a program of another language in deploy/clients. One whose runtime, or whose Redis client, is not on this
// machine is skipped by name; try says so by failing.
func (d *deployment) foreign(t *testing.T, try []string, args ...string) string {
	t.Helper()
	if output, err := inClients(t, try...); err != nil {
		t.Skipf("%s is not to be had here: %v: %s", try[0], err, lastLines(output, 2))
	}
	output, err := inClients(t, args...)
	require.NoError(t, err, output)
	return output
}

func inClients(t *testing.T, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = "deploy/clients"
	// Debian's packages for Node lie there; those of a user of this machine go before.
	cmd.Env = append(os.Environ(), "NODE_PATH="+os.Getenv("NODE_PATH")+":/usr/share/nodejs", "PYTHONDONTWRITEBYTECODE=1")
	output, err := cmd.CombinedOutput()
	return string(output), err
}

// python is the interpreter that has the system's packages.
func python() string {
	if _, err := os.Stat("/usr/bin/python3"); err == nil {
		return "/usr/bin/python3"
	}
	return "python3"
}

// The clients of deploy/clients enqueue one job, several, and one that is refused, and wait for all of them.
func TestClientsOfOtherLanguages(t *testing.T) {
	t.Parallel()
	d := deploy(t, site{})
	d.startWorkers(1)
	d.failing("", "producer", "--listen", "off")
	host, port, _ := strings.Cut(d.server.Addr, ":")
	url := d.server.URL()
	texts := []string{"One \"sentence\" with a \\ and Größe 😀 & <gates>.", "Second\ttext\nin two lines.", "Third one."}
	for name, client := range map[string]struct{ try, run []string }{
		"Python": {[]string{python(), "-c", "import redis"}, []string{python(), "client.py", url}},
		"Node":   {[]string{"node", "-e", "require('redis')"}, []string{"node", "client.mjs", url}},
		"Ruby":   {[]string{"ruby", "-e", "require 'redis'"}, []string{"ruby", "client.rb", url}},
		"PHP":    {[]string{"php", "-r", "new Redis();"}, []string{"php", "client.php", host, port}},
		"bash":   {[]string{"redis-cli", "--version"}, []string{"bash", "client.sh", url}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			output := d.foreign(t, client.try, append(client.run, texts...)...)
			ids := regexp.MustCompile(`(?m)^[A-Za-z0-9_-]{20,}`).FindAllString(output, -1)
			require.Len(t, ids, 4, output)
			prompts := map[string]bool{}
			for _, id := range ids {
				record, err := d.store.Get(t.Context(), id)
				require.NoError(t, err)
				if record.Status == tasks.StatusFailed {
					assert.Equal(t, "invalid_job", record.Result().Error.Code)
					continue
				}
				require.Equal(t, tasks.StatusSucceeded, record.Status)
				prompts[string(record.Job.Request)] = true
			}
			for _, text := range texts {
				quoted, err := tasks.Encode(text)
				require.NoError(t, err)
				found := false
				for prompt := range prompts {
					found = found || strings.Contains(prompt, strings.Trim(string(quoted), `"`))
				}
				assert.True(t, found, "%q arrived in none of %v", text, prompts)
			}
			assert.Equal(t, 1, strings.Count(output, "no task type"), "how a refusal is seen: %s", output)
		})
	}
}

// A program of another language writes a task of asynq by docs/wire.md, and the job is done.
func TestTasksWrittenByOtherLanguages(t *testing.T) {
	t.Parallel()
	d := deploy(t, site{})
	d.startWorkers(1)
	for name, client := range map[string]struct{ try, run []string }{
		"Python": {[]string{python(), "-c", "import redis"}, []string{python(), "asynq_enqueue.py"}},
		"Node":   {[]string{"node", "-e", "require('redis'); require('protobufjs')"}, []string{"node", "asynq_enqueue.mjs"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, args := range [][]string{{"fast_summary", "Größe & <gates>. More."}, {"fast_summary", "Named.", "named-" + name}} {
				output := d.foreign(t, client.try, append(append(client.run, d.server.URL()), args...)...)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				result, err := d.producer.Wait(ctx, strings.TrimSpace(output))
				for err != nil && ctx.Err() == nil { // it is not adopted yet
					time.Sleep(20 * time.Millisecond)
					result, err = d.producer.Wait(ctx, strings.TrimSpace(output))
				}
				cancel()
				require.NoError(t, err)
				assert.Equal(t, tasks.StatusSucceeded, result.Status)
				assert.Equal(t, "fast_summary", result.TaskType)
			}
			_, err := os.Stat("deploy/clients/asynq.proto")
			require.NoError(t, err)
		})
	}
}
