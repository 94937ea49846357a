package envelope_test

import (
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/envelope"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

func TestHealthProbes(t *testing.T) {
	t.Parallel()
	tick := time.UnixMilli(1_764_000_060_000)
	probe := envelope.HealthProbe{Endpoint: "own.gpu-1", Tick: tick, Every: time.Minute}
	task, options, err := envelope.NewHealthProbe(keyspace.New("other:"), probe)
	require.NoError(t, err)
	assert.Equal(t, "health:own.gpu-1", task.Type())
	assert.True(t, envelope.IsHealthProbe(task))
	set := map[asynq.OptionType]any{}
	for _, option := range options {
		set[option.Type()] = option.Value()
	}
	assert.Equal(t, "other:critical", set[asynq.QueueOpt])
	assert.Equal(t, "health:own.gpu-1:1764000060000", set[asynq.TaskIDOpt])
	assert.False(t, tasks.ValidID(probe.TaskID()), "no job has such an id")
	assert.Equal(t, time.Minute, set[asynq.RetentionOpt])

	decoded, err := envelope.DecodeHealthProbe(task)
	require.NoError(t, err)
	assert.Equal(t, probe, decoded)
	assert.False(t, decoded.Late(tick.Add(time.Minute-time.Millisecond)))
	assert.True(t, decoded.Late(tick.Add(time.Minute)))
	assert.Equal(t, tick.Add(-time.Minute), probe.Previous().Tick)
	assert.Equal(t, tick, probe.Tick)

	_, _, err = envelope.Decode(task)
	require.ErrorIs(t, err, envelope.ErrForeign, "it is no job")
	for _, foreign := range []*asynq.Task{
		asynq.NewTask("completion:adhoc", []byte(`{"tick_ms":1,"every_ms":1}`)), asynq.NewTask("health:own", []byte("x")),
		asynq.NewTask("health:", []byte(`{"tick_ms":1,"every_ms":1}`)), asynq.NewTask("health:a b", []byte(`{"tick_ms":1,"every_ms":1}`)),
		asynq.NewTask("health:own", []byte(`{"tick_ms":1}`)),
	} {
		_, err := envelope.DecodeHealthProbe(foreign)
		require.ErrorIs(t, err, envelope.ErrForeign)
	}
	for _, odd := range []envelope.HealthProbe{
		{Endpoint: "a b", Tick: tick, Every: time.Minute}, {Endpoint: "a", Tick: tick, Every: time.Millisecond},
	} {
		_, _, err := envelope.NewHealthProbe(keyspace.New(""), odd)
		require.ErrorContains(t, err, "is not valid")
	}
}
