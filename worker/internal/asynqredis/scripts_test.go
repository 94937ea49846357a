package asynqredis

import (
	"crypto/sha1"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestAsynqsScriptsAreThePinnedOnes reads asynq's source, as it is compiled in. When it fails, asynq has changed:
// read the new scripts, check that everything here still holds for them, and pin them anew.
func TestAsynqsScriptsAreThePinnedOnes(t *testing.T) {
	t.Parallel()
	found := AsynqSources()
	want := map[string]script{
		"dequeueCmd":              {role: dequeue},
		"doneCmd":                 {role: ack, task: 2, repeats: true},
		"doneUniqueCmd":           {role: ack, task: 2, repeats: true},
		"markAsCompleteCmd":       {role: complete, task: 3, repeats: true},
		"markAsCompleteUniqueCmd": {role: ack, task: 3, repeats: true},
		"retryCmd":                {role: ack, task: 0, repeats: true},
		"archiveCmd":              {role: ack, task: 0, repeats: true},
		"requeueCmd":              {role: ack, task: 3},
		"forwardCmd":              {role: forward},
	}
	assert.Len(t, asynqScripts, len(want))
	for name, source := range found {
		assert.Equal(t, want[name], recogniseSource(source), "%s of asynq", name)
		delete(want, name)
	}
	assert.Empty(t, want, "asynq no longer has these scripts")
	assert.Len(t, found, 25, "asynq has other scripts than before: see whether the new ones need care here")
}

func TestAsynqsMessageTypeIsFound(t *testing.T) {
	t.Parallel()
	require.NotNil(t, taskMessage(), "else undecodable tasks reach asynq, which drops them and leaves them in active")
	assert.NoError(t, decodable("\x0a\x01t"))
	assert.Error(t, decodable("\x0a\x01\xff"), "invalid UTF-8 in the type")
	assert.Error(t, decodable("no protobuf"))
}

func TestUnknownScriptsPassThrough(t *testing.T) {
	t.Parallel()
	assert.Zero(t, recogniseSource("return 1"))
	assert.Zero(t, recognise(fmt.Sprintf("%x", sha1.Sum([]byte("return 1")))))
}
