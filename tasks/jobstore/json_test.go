package jobstore

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
)

// A job is read as tasks.DecodeRecord reads it, whatever stands where.
func TestDecodeJob(t *testing.T) {
	t.Parallel()
	deadline, retries := time.Now().UTC(), 0
	written, err := tasks.Encode(tasks.Job{
		V: 1, ID: "job-1", TaskType: "t", Kind: tasks.KindChat, Deadline: &deadline, MaxRetries: &retries,
		Request:  json.RawMessage(`{"messages":[{"role":"user","content":"a \"}{\" \\"}],"request":{"request":{}}}`),
		Metadata: map[string]string{"note": `"request":{`},
	})
	require.NoError(t, err)
	for name, text := range map[string]string{
		"as it is written":     string(written),
		"no request":           `{"id":"job-1","tenant":"x"}`,
		"request is null":      `{"id":"job-1","request":null,"tenant":"x"}`,
		"request in something": `{"later":{"request":{"a":1}},"id":"job-1","request":{"b":2}}`,
		"only in something":    `{"later":{"request":{"a":1}},"id":"job-1"}`,
		"only in a text":       `{"id":"job-1","input":"\"request\":{}"}`,
		"with spaces":          `{ "id": "job-1", "request": {"a": "b"} }`,
	} {
		want, err := tasks.DecodeRecord([]byte(text))
		require.NoError(t, err, name)
		got, err := decodeJob(text)
		require.NoError(t, err, name)
		assert.Equal(t, want, got, name)
	}
	for _, broken := range []string{``, `{`, `{"request":{`, `{"request":{"a":"`, `{"request":{"a":"\`, `{"request":{}`, `{"id":1,"request":{}}`} {
		_, err := decodeJob(broken)
		require.Error(t, err, broken)
	}
}

func TestEncode(t *testing.T) {
	t.Parallel()
	for _, value := range []tasks.Result{
		{Text: "a <b> & \u2028"}, {Text: strings.Repeat("x", 2*maxBuffer)}, {ID: "after a long one"},
	} {
		want, err := tasks.Encode(value)
		require.NoError(t, err)
		got, err := encode("write", "job-1", value)
		require.NoError(t, err)
		assert.Equal(t, string(want), got)
	}
	_, err := encode("write", "job-1", json.RawMessage("{"))
	require.ErrorContains(t, err, "write job job-1: encode json.RawMessage: ")
	again, err := encode("write", "job-1", tasks.Waiting{Reason: "r"})
	require.NoError(t, err)
	assert.True(t, json.Valid([]byte(again)), "a value that could not be encoded leaves nothing behind")
}
