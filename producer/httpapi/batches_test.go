package httpapi_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/producer/internal/openaitest"
	"github.com/forebay-queue/forebay/tasks/batches"
)

// batchObject is a batch as a client reads it.
type batchObject struct {
	ID, Object, Endpoint, Status string
	InputFileID                  string            `json:"input_file_id"`
	CreatedAt                    int64             `json:"created_at"`
	ExpiresAt                    int64             `json:"expires_at"`
	Metadata                     map[string]string `json:"metadata"`
}

func batchOf(file string) string {
	return fmt.Sprintf(`{"input_file_id":%q,"endpoint":"/v1/chat/completions","completion_window":"24h"}`, file)
}

func TestBatches(t *testing.T) {
	t.Parallel()
	b := embedded(t)
	acme := []string{"X-Tenant", "acme"}
	file := b.uploaded("{}", acme...)
	asked := strings.Replace(batchOf(file.ID), "{", `{"metadata":{"a":"b"},"output_expires_after":{"anchor":"created_at","seconds":3600},`, 1)
	answer := b.ask("POST", "/v1/batches", asked, acme...)
	require.Equal(t, 200, answer.Code, answer.Body)
	made := decoded[batchObject](t, answer)
	require.Equal(t, batchObject{
		ID: made.ID, Object: "batch", Endpoint: "/v1/chat/completions", Status: "validating", InputFileID: file.ID,
		CreatedAt: made.CreatedAt, ExpiresAt: made.CreatedAt + 24*3600, Metadata: map[string]string{"a": "b"},
	}, made)
	kept, err := b.jobs.Batches().Get(t.Context(), made.ID, "acme")
	require.NoError(t, err)
	require.Equal(t, time.Hour, kept.OutputExpiresAfter)
	require.Equal(t, 24*time.Hour, kept.Retention)
	require.JSONEq(t, answer.Body.String(), b.ask("GET", "/v1/batches/"+made.ID, "", acme...).Body.String())

	for _, headers := range [][]string{{"X-Tenant", "other"}, {"X-Nobody", "1"}} {
		assertError(t, "another's", b.ask("GET", "/v1/batches/"+made.ID, "", headers...), "batch_not_found")
		assertError(t, "another's", b.ask("POST", "/v1/batches/"+made.ID+"/cancel", "", headers...), "batch_not_found")
	}
	require.Contains(t, b.ask("GET", "/v1/batches", "", "X-Tenant", "other").Body.String(), `"data":[]`)
	assertError(t, "another's file", b.ask("POST", "/v1/batches", batchOf(file.ID), "X-Tenant", "other"), "file_not_found")
	assertError(t, "a reader", b.ask("POST", "/v1/batches", batchOf(file.ID), "X-Tenant", "acme", "X-Reads", "1"), "write_forbidden")
	assertError(t, "a reader", b.ask("POST", "/v1/batches/"+made.ID+"/cancel", "", "X-Tenant", "acme", "X-Reads", "1"), "write_forbidden")

	// An operator's batch of a tenant's file is the tenant's.
	theirs := decoded[batchObject](t, b.ask("POST", "/v1/batches", batchOf(file.ID)))
	require.Equal(t, 200, b.ask("GET", "/v1/batches/"+theirs.ID, "", acme...).Code)

	cancelled := b.ask("POST", "/v1/batches/"+made.ID+"/cancel", "", acme...)
	require.Equal(t, "cancelling", decoded[batchObject](t, cancelled).Status)
	_, err = b.jobs.Batches().Finish(t.Context(), made.ID, "", "")
	require.NoError(t, err)
	again := b.ask("POST", "/v1/batches/"+made.ID+"/cancel", "", acme...)
	require.Equal(t, 409, again.Code)
	assertError(t, "ended", again, "batch_ended")
}

func TestBatchesThatAreRefused(t *testing.T) {
	t.Parallel()
	b := embedded(t)
	good := batchOf(b.uploaded("{}").ID)
	many := make([]string, 17)
	for i := range many {
		many[i] = fmt.Sprintf(`"k%d":"v"`, i)
	}
	with := func(field string) string { return strings.Replace(good, "{", "{"+field+",", 1) }
	for _, row := range []struct{ name, body, code string }{
		{"no JSON", `{"a":`, "invalid_json"},
		{"an array", `[]`, "invalid_json"},
		{"two", good + good, "invalid_json"},
		{"nothing", `{}`, "missing_required_parameter"},
		{"a number", strings.Replace(good, `"24h"`, `24`, 1), "invalid_type"},
		{"another window", strings.Replace(good, `"24h"`, `"1h"`, 1), "invalid_value"},
		{"responses", strings.Replace(good, "chat/completions", "responses", 1), "invalid_value"},
		{"completions", strings.Replace(good, "chat/completions", "completions", 1), "invalid_value"},
		{"unknown", with(`"model":"x"`), "unknown_parameter"},
		{"much metadata", with(`"metadata":{` + strings.Join(many, ",") + `}`), "invalid_value"},
		{"a long key", with(`"metadata":{"` + strings.Repeat("k", 65) + `":""}`), "invalid_value"},
		{"a long value", with(`"metadata":{"k":"` + strings.Repeat("v", 513) + `"}`), "invalid_value"},
		{"a number in metadata", with(`"metadata":{"k":1}`), "invalid_type"},
		{"expiry", with(`"output_expires_after":{"anchor":"created_at","seconds":1}`), "invalid_value"},
		{"no such file", batchOf("file-x"), "file_not_found"},
	} {
		answer := b.ask("POST", "/v1/batches", row.body)
		require.Equal(t, 400, answer.Code, "%s: %s", row.name, answer.Body)
		assertError(t, row.name, answer, row.code)
	}
	require.Equal(t, 415, b.ask("POST", "/v1/batches", good, "Content-Type", "text/plain").Code)
	for _, query := range []string{"limit=0", "limit=101", "after=batch_x"} {
		assertError(t, query, b.ask("GET", "/v1/batches?"+query, ""), "invalid_request")
	}
	require.Contains(t, b.ask("GET", "/v1/batches", "").Body.String(), `"data":[]`)
	require.Equal(t, 200, b.ask("POST", "/v1/batches", with(`"metadata":null`)).Code)
}

func TestBatchesInPages(t *testing.T) {
	t.Parallel()
	b := embedded(t)
	file := b.uploaded("{}")
	var ids []string
	for range 7 {
		ids = append([]string{decoded[batchObject](t, b.ask("POST", "/v1/batches", batchOf(file.ID))).ID}, ids...)
		time.Sleep(2 * time.Millisecond) // they are listed by their creation
		_, err := b.jobs.Batches().Create(t.Context(), batches.Batch{ID: batches.NewID(), Tenant: "default", Kind: batches.KindRun})
		require.NoError(t, err)
	}
	var read []string
	for after := ""; ; {
		page := decoded[struct {
			Data    []batchObject
			LastID  string `json:"last_id"`
			HasMore bool   `json:"has_more"`
		}](t, b.ask("GET", "/v1/batches?limit=3&after="+after, ""))
		for _, batch := range page.Data {
			read = append(read, batch.ID)
		}
		if !page.HasMore {
			break
		}
		after = page.LastID
	}
	require.Equal(t, ids, read, "those of `forebay batch run` are none of OpenAI's")

	all := decoded[struct{ Data []batchObject }](t, b.ask("GET", "/v1/batches?limit=100&all=true", ""))
	require.Len(t, all.Data, 14)
	run := all.Data[0].ID
	require.NotContains(t, ids, run)
	require.Equal(t, run, decoded[batchObject](t, b.ask("GET", "/v1/batches/"+run, "")).ID)
	require.Equal(t, "cancelled", decoded[batchObject](t, b.ask("POST", "/v1/batches/"+run+"/cancel", "")).Status)
}

func TestBatchesAreOpenAIs(t *testing.T) {
	t.Parallel()
	schemas := openaitest.Open(t)
	b := embedded(t)
	schemas.Check(t, "ListBatchesResponse", b.ask("GET", "/v1/batches", "").Body.Bytes())
	id := decoded[batchObject](t, b.ask("POST", "/v1/batches", batchOf(b.uploaded("{}").ID))).ID
	path := "/v1/batches/" + id
	schemas.Check(t, "Batch", b.ask("GET", path, "").Body.Bytes())
	require.NoError(t, b.jobs.Batches().Fail(t.Context(), id, []batches.Problem{{Code: "empty_file", Message: "m"}, {Code: "invalid_json_line", Message: "m", Param: "p", Line: 3}}))
	failed := b.ask("GET", path, "").Body
	schemas.Check(t, "Batch", failed.Bytes())
	require.Contains(t, failed.String(), `"errors":{"object":"list","data":[{"code":"empty_file","message":"m","param":null,"line":null},{"code":"invalid_json_line","message":"m","param":"p","line":3}]}`)
	id = decoded[batchObject](t, b.ask("POST", "/v1/batches", batchOf(b.uploaded("{}").ID))).ID
	require.NoError(t, b.jobs.Batches().Begin(t.Context(), id, 1))
	require.NoError(t, b.jobs.Batches().Report(t.Context(), id, batches.Report{Run: 1, State: batches.Succeeded, PromptTokens: 3, CompletionTokens: 4}))
	_, err := b.jobs.Batches().Finish(t.Context(), id, "file-out", "")
	require.NoError(t, err)
	ended := b.ask("GET", "/v1/batches/"+id, "").Body
	schemas.Check(t, "Batch", ended.Bytes())
	require.Contains(t, ended.String(), `"request_counts":{"total":1,"completed":1,"failed":0}`)
	require.Contains(t, ended.String(), `"total_tokens":7`)
	schemas.Check(t, "ListBatchesResponse", b.ask("GET", "/v1/batches", "").Body.Bytes())
}
