package tasks_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
)

func TestDecodeJobReadsEveryField(t *testing.T) {
	t.Parallel()
	job, err := tasks.DecodeJob([]byte(`{"v":1,"id":"a-1","task_type":"fast_summary","model":["m1","m2"],"profile":"p",
		"tier":"low","request":{"messages":[],"x_unknown":1.50},"kind":"chat","priority":"bulk",
		"run_at":"2026-01-02T03:04:05Z","deadline":"2026-01-03T03:04:05Z","max_retries":0,"retention":"48h",
		"tenant":"acme","metadata":{"k":"<v>"}}`))
	require.NoError(t, err)
	require.NoError(t, job.Validate())
	assert.Equal(t, tasks.Models{"m1", "m2"}, job.Model)
	assert.JSONEq(t, `{"messages":[],"x_unknown":1.50}`, string(job.Request))
	assert.Equal(t, tasks.Duration(48*time.Hour), job.Retention)
	require.NotNil(t, job.MaxRetries)
	assert.Zero(t, *job.MaxRetries, "0 is once, not the default")

	encoded, err := tasks.Encode(job)
	require.NoError(t, err)
	again, err := tasks.DecodeRecord(encoded)
	require.NoError(t, err)
	assert.Equal(t, job, again)
	assert.Contains(t, string(encoded), `"<v>"`, "texts stand unescaped")
	assert.Contains(t, string(encoded), `1.50`, "numbers of a request stay as they were written")
}

func TestDecodeJobRefusals(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, json, want string }{
		{"nothing", ``, "is empty; send one JSON object"},
		{"white space", " \n", "is empty; send one JSON object"},
		{"cut off", `{"id": `, "not JSON: it ends at byte 7, in the middle"},
		{"bad value", `{"id":"a","request":{"a":nul}}`, "not JSON at byte 29: invalid character '}' in literal null (expecting 'l')"},
		{"bad syntax", `{"id" 3}`, "not JSON at byte 7: invalid character '3' after object key"},
		{"no object", `["a"]`, "a job must be a JSON object, not an array"},
		{"two objects", `{"id":"a"} {"id":"b"}`, "something follows the job at byte 12; send one JSON object"},
		{"unknown field", `{"modell":"m"}`, "modell: unknown field; see docs/jobs.md for the fields of a job"},
		{"wrong type", `{"id": 7}`, "id: must be a string, not a number"},
		{"number", `{"max_retries": "x"}`, "max_retries: must be a whole number, not a string"},
		{"null", `null`, "a job must be a JSON object, not null"},
		{"fraction", `{"max_retries": 1.5}`, "max_retries: must be a whole number"},
		{"duration", `{"retention": "soon"}`, `retention: must be a duration in quotes, such as "90s" or "24h"`},
		{"duration without a unit", `{"retention": 3600}`, `retention: must be a duration in quotes, such as "90s" or "24h", not a number`},
		{"retention of nothing", `{"retention": "0s"}`, `retention: must be 1s to 8784h, got 0s; leave it out for the default`},
		{"time", `{"deadline": "yesterday"}`, `deadline: must be a time in quotes, such as "2026-12-31T08:00:00Z" (RFC 3339)`},
		{"time as a number", `{"run_at": 1700000000}`, `run_at: must be a time in quotes, such as "2026-12-31T08:00:00Z" (RFC 3339), not a number`},
		{"models", `{"model": {"a": 1}}`, "model: must be a model's name or a list of them, not an object"},
		{"metadata", `{"metadata": {"a": 1}}`, "metadata: must be an object whose values are strings"},
		{"given twice", `{"input":"a","tier":"low","input":"b"}`, "input: is given twice; give it once"},
		{"given twice, written otherwise", `{"input":"a","in\u0070ut":"b"}`, "input: is given twice; give it once"},
		{"given twice inside the request", `{"request":{"messages":[{"role":"user","content":"a","c\u006fntent":"b"}]}}`, "request.messages[0].content: is given twice; give it once"},
		{"given twice in the metadata", `{"metadata":{"a":"b","a":"c"}}`, "metadata.a: is given twice; give it once"},
		{"half of a pair", `{"input":"\ud83d\ude00 \ud83d!"}`, `input: has half of a surrogate pair, \ud83d, at byte 24, which is no character; leave it out`},
		{"the other half", `{"request":{"a":["\\ud83d\udE00"]}}`, `request.a[0]: has half of a surrogate pair, \ude00, at byte 26, which is no character; leave it out`},
		{"half of a pair at the end", `{"input":"\ud83d"}`, `input: has half of a surrogate pair, \ud83d, at byte 11, which is no character; leave it out`},
		{"half of a pair in a name", `{"\udead":1}`, `has half of a surrogate pair, \udead, at byte 3, which is no character; leave it out`},
		{"byte order mark", "\xef\xbb\xbf{}", "begins with a byte order mark (EF BB BF); send UTF-8 without one"},
		{"a raw line break", "{\"input\":\"a\r\nb\"}", `not JSON at byte 12: invalid character '\r' in string literal`},
		{"NUL", "{\"input\":\"a\x00\"}", `not JSON at byte 12: invalid character '\x00' in string literal`},
		{"too deep", `{"request":{"a":` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + `}}`, "not JSON at byte 10015: invalid character '[' exceeded max depth"},
		{"too large a number", `{"max_retries":1e400}`, "max_retries: must be a whole number; this one is too large"},
		{"too large a price", `{"max_cost_usd":1e999}`, "max_cost_usd: must be a number; this one is too large"},
		{"another case", `{"input":"a","Input":"b"}`, "Input: unknown field; did you mean input?"},
		{"another case alone", `{"Task_Type":"a"}`, "Task_Type: unknown field; did you mean task_type?"},
		{"another case of what is to come", `{"ACCEPT":{}}`, "ACCEPT: `accept` is not available yet; leave it out"},
		{"a long name", `{"` + strings.Repeat("n", 1000) + `":1}`, strings.Repeat("n", 64) + "...: unknown field; see docs/jobs.md for the fields of a job"},
		{"webhook of another kind", `{"webhook": "https://a"}`, `webhook: must be an object such as {"url":"https://example.com/hooks"}, not a string`},
		{"unknown field of a webhook", `{"webhook": {"uri": "https://a"}}`, "webhook.uri: unknown field; a webhook has url, secret, events and headers"},
		{"webhook's field of another kind", `{"webhook": {"url": 7}}`, "webhook.url: url and secret are strings, events is a list of strings, headers an object whose values are strings"},
		{"reply_stream", `{"reply_stream": 7}`, "reply_stream: must be a string, not a number"},
		{"accept", `{"accept": {}}`, "accept: `accept` is not available yet; leave it out"},
		{"cache", `{"cache": "use"}`, "cache: `cache` is not available yet; leave it out"},
		{"max_cost_usd", `{"max_cost_usd": "1"}`, "max_cost_usd: must be a number, not a string"},
		{"not UTF-8", "{\"id\":\"\xff\"}", "not valid UTF-8 at byte 8"},
		{"too large", `{"input":"` + strings.Repeat("a", tasks.MaxJobBytes) + `"}`, "the job has 8388620 bytes; at most 8388608 are accepted"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := tasks.DecodeJob([]byte(test.json))
			require.ErrorIs(t, err, tasks.ErrInvalidJob)
			assert.EqualError(t, err, test.want)
		})
	}
}

func TestValidateNamesEveryProblem(t *testing.T) {
	t.Parallel()
	late := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	early := late.Add(-time.Hour)
	negative := -1
	for _, test := range []struct {
		name string
		job  tasks.Job
		want []string
	}{
		{"empty", tasks.Job{}, []string{
			"input: is missing or empty; give a text as input or the body of the call as request",
			"task_type: is missing; name a task type, or a tier, profile or model",
		}},
		{"everything", tasks.Job{
			V: 9, ID: "a b", TaskType: "x/y", Tenant: "ü", Model: tasks.Models{""}, Priority: "urgent", Kind: "image",
			MaxRetries: &negative, Retention: -1, RunAt: &late, Deadline: &early,
			Input: "a", Request: []byte(`{}`), Metadata: map[string]string{"": "x"},
		}, []string{
			"deadline: must be after run_at",
			"id: must be 1 to 128 characters of A-Z a-z 0-9 _ -",
			"input: stands beside request; give exactly one of them",
			"kind: must be chat or embedding",
			"max_retries: must be 0 to 1000, got -1",
			"metadata: keys have 1 to 64 characters and values at most 512",
			"model: must be one model or a list of 1 to 16 models",
			"priority: must be critical, default or bulk",
			"retention: must be 1s to 8784h, got -1ns",
			"task_type: must be 1 to 64 characters of A-Z a-z 0-9 _ . -",
			"tenant: must be 1 to 64 characters of A-Z a-z 0-9 _ . -",
			"v: this build speaks version 1 of the contract, the job says 9",
		}},
		{"request", tasks.Job{TaskType: "t", Request: []byte(`{"stream": true, "model": "m"}`)}, []string{
			"request.model: name the model in the job's own field `model`",
			"request.stream: a queued job cannot stream; leave it out",
		}},
		{"request is a list", tasks.Job{TaskType: "t", Request: []byte(`[]`)}, []string{
			"request: must be a JSON object: the body of the call without its model",
		}},
		{"too large", tasks.Job{TaskType: "t", Input: strings.Repeat("a", tasks.MaxJobBytes+1)}, []string{
			"input: has 8388609 bytes; at most 8388608 are accepted",
		}},
		{"white space", tasks.Job{TaskType: "t", Input: " \n\t\u00a0"}, []string{
			"input: is white space only; there is nothing to ask for",
		}},
		{"a model twice", tasks.Job{Model: tasks.Models{"a", "b", "a"}, Input: "x"}, []string{
			`model: lists "a" twice; each is tried as often as its endpoints say`,
		}},
		{"no model in the list", tasks.Job{TaskType: "t", Model: tasks.Models{}, Input: "x"}, []string{
			"model: must be one model or a list of 1 to 16 models",
		}},
		{"a short retention", tasks.Job{TaskType: "t", Input: "x", Retention: 1}, []string{
			"retention: must be 1s to 8784h, got 1ns",
		}},
		{"a cost of nothing", tasks.Job{TaskType: "t", Input: "x", MaxCostUSD: new(0.0)}, []string{
			"max_cost_usd: must be more than 0 and at most 1000000 US dollars, got 0; leave it out for no limit",
		}},
		{"a negative cost", tasks.Job{TaskType: "t", Input: "x", MaxCostUSD: new(-0.5)}, []string{
			"max_cost_usd: must be more than 0 and at most 1000000 US dollars, got -0.5; leave it out for no limit",
		}},
		{"a cost", tasks.Job{TaskType: "t", Input: "x", MaxCostUSD: new(1e-6)}, nil},
		{"stream false", tasks.Job{TaskType: "t", Request: []byte(`{"stream": false}`)}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			err := test.job.Validate()
			if test.want == nil {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, tasks.ErrInvalidJob)
			assert.Equal(t, test.want, strings.Split(err.Error(), "\n"))
		})
	}
}

func TestFingerprintIsOfWhatIsAsked(t *testing.T) {
	t.Parallel()
	base := tasks.Job{ID: "a", TaskType: "t", Request: []byte(`{"a": 1}`), Tenant: "default"}
	same := base
	same.ID, same.Priority, same.Request = "b", tasks.PriorityBulk, []byte(`{ "a":1 }`)
	now := time.Now()
	same.Deadline = &now
	other := base
	other.Tenant = "acme"

	of := func(job tasks.Job) string {
		fingerprint, err := tasks.Fingerprint(job)
		require.NoError(t, err)
		return fingerprint
	}
	assert.Equal(t, of(base), of(same))
	assert.NotEqual(t, of(base), of(other))
}

func FuzzDecodeJob(f *testing.F) {
	f.Add([]byte(`{"task_type":"t","input":"x"}`))
	f.Add([]byte(`{"model":["a"],"request":{"messages":[]},"metadata":{"a":"b"},"retention":"1h"}`))
	f.Add([]byte(`{"webhook":1}`))
	f.Add([]byte(`{"task_type":"t","input":"x","Input":"y"}`))
	f.Add([]byte(`{"task_type":"t","input":"x","in\u0070ut":"y"}`))
	f.Add([]byte(`{"task_type":"t","input":"x","model":[],"deadline":"yesterday","retention":3600}`))
	f.Add([]byte(`{"task_type":"t","request":{"messages":[{"content":"\ud83d\ude00","a":{"b":[1,2.5e3,null,true]}}],"messages":[]}}`))
	f.Add([]byte(`{"task_type":"t","input":"\ud83d"}`))
	f.Add([]byte("\xef\xbb\xbf{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		job, err := tasks.DecodeJob(data)
		if err != nil {
			var field *tasks.FieldError
			require.ErrorAs(t, err, &field, "every refusal says why")
			require.GreaterOrEqual(t, field.Byte, 0)
			require.LessOrEqual(t, field.Byte, len(data)+1)
			return
		}
		requireOnce(t, data)
		if job.Validate() != nil {
			return
		}
		encoded, err := tasks.Encode(job)
		require.NoError(t, err)
		again, err := tasks.DecodeJob(encoded)
		require.NoError(t, err, "what was accepted is accepted again: %s", encoded)
		first, err := tasks.Fingerprint(job)
		require.NoError(t, err)
		second, err := tasks.Fingerprint(again)
		require.NoError(t, err)
		require.Equal(t, first, second)
	})
}

// requireOnce requires that an object gives every field once, under its very name.
func requireOnce(t *testing.T, object []byte) {
	t.Helper()
	known := map[string]bool{}
	for field := range reflect.TypeFor[tasks.Job]().Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		known[name] = true
	}
	decoder := json.NewDecoder(bytes.NewReader(object))
	_, err := decoder.Token()
	require.NoError(t, err)
	for decoder.More() {
		name, err := decoder.Token()
		require.NoError(t, err)
		require.True(t, known[name.(string)], "%q is unknown or given twice", name)
		delete(known, name.(string))
		require.NoError(t, decoder.Decode(new(json.RawMessage)))
	}
}
