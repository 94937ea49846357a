package batchio_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/deploy/batchio"
	"github.com/forebay-queue/forebay/tasks"
)

func answers() []batchio.Answer {
	return []batchio.Answer{
		{Key: "a", Line: 1, Result: tasks.Result{
			ID: "batch_x-0", Status: tasks.StatusSucceeded, Text: "Short,\n\"quoted\".", Model: "m", Endpoint: "e", Response: json.RawMessage(`{"id":1}`),
			Usage: &tasks.Usage{PromptTokens: 5, CompletionTokens: 2, TotalTokens: 7}, CostUSD: 0.0000125,
		}},
		{Key: "b", Line: 2, Result: tasks.Result{ID: "batch_x-1", Status: tasks.StatusSucceeded, Response: json.RawMessage(`{"data":[]}`)}},
	}
}

func TestOutputs(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name  string
		style batchio.Style
		want  string
	}{
		{"out.jsonl", batchio.StyleText, `{"id":"a","text":"Short,\n\"quoted\"."}` + "\n" + `{"id":"b","text":""}` + "\n"},
		{"out.jsonl", batchio.StyleResponse, `{"id":"a","response":{"id":1}}` + "\n" + `{"id":"b","response":{"data":[]}}` + "\n"},
		{
			"out.jsonl", batchio.StyleResult,
			`{"id":"a","text":"Short,\n\"quoted\".","model":"m","endpoint":"e","usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7},"cost_usd":0.0000125,"job":"batch_x-0"}` + "\n" +
				`{"id":"b","response":{"data":[]},"cost_usd":0,"job":"batch_x-1"}` + "\n",
		},
		{
			"out.jsonl", batchio.StyleOpenAI,
			`{"id":"batch_req_x-0","custom_id":"a","response":{"status_code":200,"request_id":"batch_x-0","body":{"id":1}},"error":null}` + "\n" +
				`{"id":"batch_req_x-1","custom_id":"b","response":{"status_code":200,"request_id":"batch_x-1","body":{"data":[]}},"error":null}` + "\n",
		},
		{"out.csv", batchio.StyleText, "id,text\na,\"Short,\n\"\"quoted\"\".\"\nb,\n"},
		{"out.CSV", batchio.StyleResult, "id,text,model,endpoint,prompt_tokens,completion_tokens,cost_usd,job\n" +
			"a,\"Short,\n\"\"quoted\"\".\",m,e,5,2,0.0000125,batch_x-0\nb,,,,0,0,0,batch_x-1\n"},
	} {
		path := filepath.Join(t.TempDir(), row.name)
		out, err := batchio.Create(path, row.style)
		require.NoError(t, err)
		for _, answer := range answers() {
			require.NoError(t, out.Write(answer))
		}
		assert.NoFileExists(t, path, "nothing stands under the name before it is whole")
		require.NoError(t, out.Commit())
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		assert.Equal(t, row.want, string(text))
		entries, err := os.ReadDir(filepath.Dir(path))
		require.NoError(t, err)
		assert.Len(t, entries, 1)
	}
	_, err := batchio.Create(filepath.Join(t.TempDir(), "out.csv"), batchio.StyleOpenAI)
	require.ErrorContains(t, err, "is CSV")
	_, err = batchio.Create(filepath.Join(t.TempDir(), "no", "out.jsonl"), batchio.StyleText)
	require.ErrorContains(t, err, "cannot be written: no such file or directory")
}

func TestErrorOutputs(t *testing.T) {
	t.Parallel()
	failed := []batchio.Answer{
		{Key: "3", Line: 3, Result: tasks.Result{Status: batchio.StatusRefused, Error: &tasks.Failure{Class: tasks.ClassInvalid, Code: "invalid_line", Message: "not JSON"}}},
		{Key: "d", Line: 4, Result: tasks.Result{
			ID: "batch_x-2", Status: tasks.StatusFailed, Response: json.RawMessage(`{"error":{}}`),
			Attempts: []tasks.Attempt{{HTTPStatus: 400}}, Error: &tasks.Failure{Class: tasks.ClassInvalid, Message: "refused"},
		}},
		{Key: "e", Line: 5, Result: tasks.Result{ID: "batch_x-3", Status: tasks.StatusExpired, Error: &tasks.Failure{Class: tasks.ClassExpired, Message: "late"}}},
		{Key: "f.txt", File: "f.txt", Line: 6, Result: tasks.Result{ID: "batch_x-4", Status: tasks.StatusCancelled}},
	}
	for _, row := range []struct {
		style batchio.Style
		want  string
	}{
		{batchio.StyleOpenAI, `{"id":"","custom_id":"3","response":null,"error":{"code":"invalid_line","message":"not JSON"},"line":3}` + "\n" +
			`{"id":"batch_req_x-2","custom_id":"d","response":{"status_code":400,"request_id":"batch_x-2","body":{"error":{}}},"error":null}` + "\n" +
			`{"id":"batch_req_x-3","custom_id":"e","response":null,"error":{"code":"batch_expired","message":"late"}}` + "\n" +
			`{"id":"batch_req_x-4","custom_id":"f.txt","response":null,"error":{"code":"batch_cancelled","message":"It has ended without an answer."}}` + "\n"},
		{batchio.StyleText, `{"id":"3","line":3,"status":"refused","error":{"class":"invalid","code":"invalid_line","message":"not JSON"}}` + "\n" +
			`{"id":"d","line":4,"status":"failed","error":{"class":"invalid","message":"refused"},"job":"batch_x-2"}` + "\n" +
			`{"id":"e","line":5,"status":"expired","error":{"class":"expired","message":"late"},"job":"batch_x-3"}` + "\n" +
			`{"id":"f.txt","file":"f.txt","status":"cancelled","error":null,"job":"batch_x-4"}` + "\n"},
	} {
		path := filepath.Join(t.TempDir(), "out.errors.jsonl")
		out, err := batchio.CreateErrors(path, row.style)
		require.NoError(t, err)
		for _, answer := range failed {
			require.NoError(t, out.Write(answer))
		}
		require.NoError(t, out.Commit())
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		assert.Equal(t, row.want, string(text))
	}
}
