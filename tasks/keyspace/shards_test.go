package keyspace_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/forebay-queue/forebay/tasks/keyspace"
)

// Every id has one shard, among those that there are, whatever it is.
func TestShardOf(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		shards := keyspace.Shards(rapid.IntRange(0, keyspace.MaxShards).Draw(t, "shards"))
		id := rapid.String().Draw(t, "id")
		shard := shards.Of(id)
		require.Equal(t, shard, shards.Of(id))
		require.Contains(t, shards.All(), shard)
		require.True(t, shards.Has(shard))
		require.Equal(t, shards <= 1, shard == keyspace.Unsharded)
	})
}

// Processes of different builds send the same job to the same shard: the numbers stay what they are.
func TestShardOfIsFixed(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]keyspace.Shard{
		"": "5", "job-1": "3", "job-2": "0", "0192f7c4-3b1e-7d7c-8a53-6a4cbb1e5f10": "7", "inbox-1700000000000-0": "2",
	} {
		assert.Equal(t, want, keyspace.Shards(8).Of(id), id)
	}
}

// Ids as people and programs make them are spread evenly, also where they differ in few characters.
func TestShardsAreEven(t *testing.T) {
	t.Parallel()
	const each = 1000
	for name, form := range map[string]string{
		"counted": "job-%d", "padded": "batch_67f1-%08d", "hexadecimal": "msg_%032x", "in the middle": "a-%d-z", "twice": "%[1]d-%[1]d",
	} {
		for _, shards := range []keyspace.Shards{2, 3, 4, 8, 16, 64} {
			counts := map[keyspace.Shard]int{}
			for i := range each * int(shards) {
				counts[shards.Of(fmt.Sprintf(form, i))]++
			}
			assert.Len(t, counts, int(shards))
			for shard, count := range counts {
				assert.InDelta(t, each, count, 0.17*each, "%s ids, shard %s of %d", name, shard, shards)
			}
		}
	}
}

// The name of a queue says which it is, and no deployment takes another one's for its own.
func TestQueueNames(t *testing.T) {
	t.Parallel()
	prefix := rapid.StringMatching(`[A-Za-z0-9_.:-]{1,12}`)
	queue := rapid.SampledFrom([]string{"critical", "default", "bulk", "webhooks"})
	shard := rapid.SampledFrom(append(keyspace.Shards(keyspace.MaxShards).All(), keyspace.Unsharded))
	rapid.Check(t, func(t *rapid.T) {
		keys := keyspace.New(rapid.OneOf(rapid.Just(""), prefix).Draw(t, "prefix"))
		queue, shard := queue.Draw(t, "queue"), shard.Draw(t, "shard")
		name := keys.Queue(queue, shard)
		gotQueue, gotShard, ours := keys.ParseQueue(name)
		require.True(t, ours, name)
		require.Equal(t, queue, gotQueue)
		require.Equal(t, shard, gotShard)

		other := keyspace.New(prefix.Draw(t, "other"))
		if other == keys || strings.HasSuffix(other.Prefix(), keys.Prefix()) || strings.HasSuffix(keys.Prefix(), other.Prefix()) {
			return
		}
		gotQueue, _, ours = other.ParseQueue(name)
		require.False(t, ours && gotQueue == queue, "%s is no queue of %q", name, other.Prefix())
	})
	keys := keyspace.New("")
	for _, name := range []string{"bulk:", "bulk:01", "bulk:-1", "bulk:64", "bulk:x", "bulk:1:2", "", ":1", "other:bulk:1"} {
		_, _, ours := keys.ParseQueue(name)
		assert.False(t, ours, name)
	}
}

func TestCheckShards(t *testing.T) {
	t.Parallel()
	for shards, sound := range map[keyspace.Shards]bool{-1: false, 0: true, 1: true, 64: true, 65: false} {
		assert.Equal(t, sound, shards.Check() == nil, "%d", shards)
	}
}
