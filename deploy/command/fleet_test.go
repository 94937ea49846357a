package command

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks/fleet"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

// Status and doctor say that processes work by different configurations or builds, refuse one, or need a restart.
func TestTheFleetIsShown(t *testing.T) {
	t.Parallel()
	client, server := redistest.Embedded(t)
	now := time.Now()
	for _, p := range []struct {
		process fleet.Process
		config  fleet.Config
	}{
		{fleet.Process{ID: "1", Kind: fleet.Producer, Host: "api", PID: 11, Version: "v1"}, fleet.Config{Version: "aaa", LoadedAt: now, Keys: map[string]string{"k1": "01020304", "k2": "05060708"}}},
		{fleet.Process{ID: "2", Kind: fleet.Worker, Host: "gpu", PID: 22, Version: "v1"}, fleet.Config{Version: "aaa", LoadedAt: now, Restart: []string{"redis.url", "worker.slots"}, Keys: map[string]string{"k1": "01020304", "k2": "ffffffff"}}},
		{fleet.Process{ID: "3", Kind: fleet.Worker, Host: "gpu", PID: 33, Version: "v2"}, fleet.Config{
			Version: "bbb", LoadedAt: now, Refused: &fleet.Refusal{At: now, Problems: []string{"forebay.yaml:2:1: wrong\x1b[31m", "and more"}},
		}},
	} {
		member := fleet.Join(client, keyspace.New(""), p.process)
		member.Update(p.config)
		require.NoError(t, member.Beat(t.Context()))
	}
	f, err := readFleet(t.Context(), client, keyspace.New(""))
	require.NoError(t, err)
	assert.Equal(t, []string{"2", "3"}, f.workers())
	assert.Equal(t, map[string]int{"aaa": 2, "bbb": 1}, f.Configs)
	var out bytes.Buffer
	require.NoError(t, printFleet(&out, f, now))
	for _, line := range []string{
		"worker    22   gpu   v1 ", "fleet: configurations differ: 2 of aaa, 1 of bbb\n", "fleet: builds differ: 2 of v1, 1 of v2\n",
		"worker 22 on gpu: needs a restart to use redis.url, worker.slots\n",
		"worker 33 on gpu: refuses the configuration as it stands: forebay.yaml:2:1: wrong", "(and 1 more)\n",
	} {
		assert.Contains(t, out.String(), line)
	}
	assert.NotContains(t, out.String(), "\x1b", "a terminal is told nothing by what stands in Redis")

	_, reply := patient{redis: "redis://" + server.Addr()}.examined(t)
	for _, code := range []string{codeVersionsDiffer, codeConfigRefused, codeRestartNeeded} {
		assert.Equal(t, levelWarning, reply.find(t, code).Level)
	}
	assert.Equal(t, "encryption key k2", reply.find(t, codeKeysDiffer).Subject)
	got := inProcess(t, "", "status", "--redis", "redis://"+server.Addr())
	assert.Equal(t, exitOK, got.status, got.stderr)
	assert.Contains(t, got.stdout, "workers  2 alive\n")
	assert.Contains(t, got.stdout, "configurations differ")
}
