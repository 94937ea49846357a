package reconciler

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

// The header of every script is its contract, and the body keeps to it.
func TestScriptsKeepTheirForm(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../*/*.lua")
	require.NoError(t, err)
	require.Len(t, files, 4)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		header, body, found := strings.Cut(string(text), "\n\n")
		require.True(t, found, file)
		assert.True(t, strings.HasPrefix(header, "-- "+strings.TrimSuffix(filepath.Base(file), ".lua")+": "), file)
		for _, part := range []string{"KEYS[1]", "ARGV[1]", "RETURNS", "CLOCK", "WRITES"} {
			assert.Contains(t, header, "-- "+part, file)
		}
		aliased := regexp.MustCompile(`(?:KEYS|ARGV)\[\d+\]`)
		for _, name := range aliased.FindAllString(body, -1) {
			assert.Contains(t, header, name, "%s: not in the header", file)
		}
		for line := range strings.SplitSeq(body, "\n") {
			if aliased.MatchString(line) {
				assert.True(t, strings.HasPrefix(line, "local "), "%s: stands bare in %q", file, line)
			}
		}
		assert.NotContains(t, body, "cjson", file)
	}
}

// A cluster refuses a script whose keys lie in several slots, also a cluster of one node.
func TestCluster(t *testing.T) {
	t.Parallel()
	client, server := redistest.Real(t, "--cluster-enabled", "yes")
	require.NoError(t, client.ClusterAddSlotsRange(t.Context(), 0, 16383).Err())
	require.Eventually(t, func() bool { return client.Set(t.Context(), "ready", "yes", 0).Err() == nil }, 10e9, 10e6)
	cluster := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs: []string{server.Addr}, MaintNotificationsConfig: redistest.Options(server.Addr).MaintNotificationsConfig,
	})
	t.Cleanup(func() { _ = cluster.Close() })
	b := newBench(t, cluster)
	dead, leaseless, taskless, archived := b.taken("w1"), b.taken("w1"), b.record(), b.queued()
	cluster.ZRem(t.Context(), b.bulk.keys.lease, leaseless)
	require.NoError(t, b.inspector.ArchiveTask("bulk", archived))
	b.full()
	b.later(missingFor + 1e9)
	b.full()
	require.Equal(t, "pending(pending)", b.places(dead))
	require.Equal(t, "active+leased(active)", b.places(leaseless))
	require.Equal(t, "pending(pending)", b.places(taskless))
	require.Equal(t, tasks.StatusFailed, b.get(archived).Status)
}
