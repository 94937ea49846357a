package main_test

import (
	"encoding/hex"
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

// ofProcesses begins the keys that are of running processes, or of a moment, and outlive neither.
var ofProcesses = []string{
	"asynq:servers", "asynq:workers", "asynq:schedulers", "forebay:workers", "forebay:leader", "forebay:fleet",
}

// dump is all of Redis but what is of processes.
func dump(t *testing.T, client redis.UniversalClient) (keys []writtenKey) {
	t.Helper()
	ctx := t.Context()
	for _, name := range slices.Sorted(slices.Values(client.Keys(ctx, "*").Val())) {
		if slices.ContainsFunc(ofProcesses, func(prefix string) bool { return strings.HasPrefix(name, prefix) }) ||
			strings.HasPrefix(name, "asynq:") && (strings.Contains(name, ":processed") || strings.Contains(name, ":failed") || strings.Contains(name, ":claim:")) {
			continue
		}
		key := writtenKey{Key: name, Type: client.Type(ctx, name).Val(), Expires: client.TTL(ctx, name).Val() > 0}
		switch key.Type {
		case "string":
			key.String = asText(client.Get(ctx, name).Val())
		case "list":
			for _, value := range client.LRange(ctx, name, 0, -1).Val() {
				key.List = append(key.List, asText(value))
			}
		case "set":
			key.List = slices.Sorted(slices.Values(client.SMembers(ctx, name).Val()))
		case "hash":
			key.Hash = map[string]string{}
			for field, value := range client.HGetAll(ctx, name).Val() {
				key.Hash[field] = asText(value)
			}
		case "zset":
			key.Sorted = map[string]float64{}
			for _, member := range client.ZRangeWithScores(ctx, name, 0, -1).Val() {
				key.Sorted[asText(member.Member.(string))] = member.Score
			}
		case "stream":
			key.Stream = client.XRange(ctx, name, "-", "+").Val()
		default:
			require.Fail(t, "no such type", "%s: %s", name, key.Type)
		}
		keys = append(keys, key)
	}
	return keys
}

// asText is a value as a JSON string can hold it; bytesOf is its inverse.
func asText(value string) string {
	if utf8.ValidString(value) && !strings.ContainsRune(value, 0) && !strings.HasPrefix(value, "hex:") {
		return value
	}
	return "hex:" + hex.EncodeToString([]byte(value))
}

func bytesOf(t *testing.T, text string) string {
	t.Helper()
	encoded, isHex := strings.CutPrefix(text, "hex:")
	if !isHex {
		return text
	}
	value, err := hex.DecodeString(encoded)
	require.NoError(t, err)
	return string(value)
}

func readCompatible(t *testing.T, file string) (was written) {
	t.Helper()
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(content, &was))
	require.NotEmpty(t, was.Keys)
	return was
}

// restore fills an empty Redis.
func (w written) restore(t *testing.T, client redis.UniversalClient) {
	t.Helper()
	ctx := t.Context()
	pipe := client.Pipeline()
	for _, key := range w.Keys {
		switch key.Type {
		case "string":
			pipe.Set(ctx, key.Key, bytesOf(t, key.String), 0)
		case "list":
			for _, value := range key.List {
				pipe.RPush(ctx, key.Key, bytesOf(t, value))
			}
		case "set":
			for _, value := range key.List {
				pipe.SAdd(ctx, key.Key, value)
			}
		case "hash":
			for field, value := range key.Hash {
				pipe.HSet(ctx, key.Key, field, bytesOf(t, value))
			}
		case "zset":
			for member, score := range key.Sorted {
				pipe.ZAdd(ctx, key.Key, redis.Z{Member: bytesOf(t, member), Score: score})
			}
		case "stream":
			for _, entry := range key.Stream {
				pipe.XAdd(ctx, &redis.XAddArgs{Stream: key.Key, ID: entry.ID, Values: entry.Values})
			}
		}
		if key.Expires {
			pipe.Expire(ctx, key.Key, time.Hour)
		}
	}
	_, err := pipe.Exec(ctx)
	require.NoError(t, err)
}

// add puts in what a newer minor version may: a newer number of the contract, further fields of records, and further names in
// the JSON that stands in them.
func (w written) add(t *testing.T) {
	t.Helper()
	keys, added := keyspace.New(""), 0
	named := func(text string, v bool) string {
		var object map[string]json.RawMessage
		if !strings.HasPrefix(text, "{") || json.Unmarshal([]byte(text), &object) != nil {
			return text
		}
		added++
		more := `{"novelty":{"x":1},`
		if v {
			text = strings.Replace(text, `"v":1,`, `"v":`+string(rune('0'+tasks.Version+1))+`,`, 1)
		}
		return strings.Replace(more+text[1:], ",}", "}", 1)
	}
	for _, key := range w.Keys {
		isJob := strings.HasPrefix(key.Key, strings.TrimSuffix(keys.Job(""), "}"))
		switch {
		case isJob, strings.HasPrefix(key.Key, strings.TrimSuffix(keys.Batch(""), "}")), strings.HasPrefix(key.Key, strings.TrimSuffix(keys.Webhook(""), "}")):
			for _, field := range slices.Collect(maps.Keys(key.Hash)) {
				switch field {
				case "response", "metadata", "headers": // others' words, and mappings of users' own names
				default:
					key.Hash[field] = named(key.Hash[field], isJob && field == "job")
				}
			}
			if key.Hash != nil {
				key.Hash["novelty"] = "1"
			}
		case key.Key == keys.Schedules(), key.Key == keys.ScheduleStates():
			for field, value := range key.Hash {
				key.Hash[field] = named(value, false)
			}
		}
	}
	require.Greater(t, added, 15)
}

// compare holds what this build reads against what the version itself read: more is no fault, everything else is.
func (w written) compare(t *testing.T, is written) {
	t.Helper()
	for what, pair := range map[string][2]map[string]json.RawMessage{
		"job": {w.Results, is.Results}, "batch": {w.Batches, is.Batches}, "webhook": {w.Webhooks, is.Webhooks}, "schedule": {w.Schedules, is.Schedules},
	} {
		for id, was := range pair[0] {
			var before, after any
			require.NoError(t, json.Unmarshal(was, &before))
			require.NoError(t, json.Unmarshal(pair[1][id], &after), "%s %s", what, id)
			contains(t, what+" "+id, before, after)
		}
	}
}

// contains tells where a value has lost or changed something that another had.
func contains(t *testing.T, path string, before, after any) {
	t.Helper()
	switch before := before.(type) {
	case map[string]any:
		after, _ := after.(map[string]any)
		for name, value := range before {
			contains(t, path+"."+name, value, after[name])
		}
	default:
		assert.Equal(t, before, after, path)
	}
}
