package main_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// Programs that have OpenAI do batches change its base URL, and nothing else.
func TestOpenAIsBatches(t *testing.T) {
	t.Parallel()
	d := deploy(t, site{})
	d.startWorkers(1)
	_, address := d.serveHTTP(t)
	for _, what := range []string{"batch", "pages", "cancel", "errors"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			node(t, "openai_batches.mjs", "http://"+address+"/v1", what)
		})
	}
	t.Run("curl", func(t *testing.T) {
		t.Parallel()
		curlBatch(t, d, "http://"+address+"/v1")
	})
}

// curlBatch has a batch done as docs/batches.md shows it.
func curlBatch(t *testing.T, d *deployment, url string) {
	t.Helper()
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("SKIPPED: curl is not installed")
	}
	curl := func(args ...string) (object struct {
		ID           string
		Status       string
		OutputFileID string `json:"output_file_id"`
	}, text []byte,
	) {
		t.Helper()
		text, err := exec.CommandContext(t.Context(), "curl", append([]string{"-fsS"}, args...)...).CombinedOutput()
		require.NoError(t, err, string(text))
		_ = json.Unmarshal(text, &object)
		return object, text
	}
	input := filepath.Join(t.TempDir(), "requests.jsonl")
	const line = `{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"model":"fast_summary","messages":[{"role":"user","content":"A text. Another one."}]}}`
	require.NoError(t, os.WriteFile(input, []byte(line), 0o600))
	file, _ := curl(url+"/files", "-F", "purpose=batch", "-F", "file=@"+input)
	batch, _ := curl(url+"/batches", "-H", "Content-Type: application/json", "-d",
		`{"input_file_id":"`+file.ID+`","endpoint":"/v1/chat/completions","completion_window":"24h"}`)
	d.eventually("the batch is completed", func() bool {
		batch, _ = curl(url + "/batches/" + batch.ID)
		return batch.Status == "completed"
	})
	_, output := curl(url + "/files/" + batch.OutputFileID + "/content")
	require.Equal(t, 1, bytes.Count(output, []byte(`"custom_id":"a","response":{"status_code":200`)), string(output))
}
