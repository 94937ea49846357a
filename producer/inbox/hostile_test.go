package inbox

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
)

// hostile is an entry, and what must become of it.
type hostile struct {
	name   string
	fields []string
	// reason is what the refusal says, empty where the entry is accepted; place its field and byte, "field:byte".
	reason, place string
	// text is what the model reads, where the entry is accepted.
	text string
}

// job is an entry as it should be, around what is hostile.
func job(text string) []string { return []string{"job", text} }

func hostiles() []hostile {
	request := func(body string) []string { return job(`{"task_type":"fast_summary","request":` + body + `}`) }
	long := strings.Repeat("x", 10<<20)
	return []hostile{
		{"not JSON", job("hello"), "not JSON at byte 1: invalid character 'h' looking for beginning of value", ":1", ""},
		{"nothing", job(""), "is empty; send one JSON object", "", ""},
		{"cut off", job(`{"task_type":"fast_summary","input":"x`), "not JSON: it ends at byte 38, in the middle", ":38", ""},
		{"no object", job(`["fast_summary"]`), "a job must be a JSON object, not an array", ":1", ""},
		{"two", job(`{} {}`), "something follows the job at byte 4; send one JSON object", ":4", ""},
		{"not UTF-8", job("{\"input\":\"\xe9\"}"), "not valid UTF-8 at byte 11", ":11", ""},
		{"UTF-16", job("\xff\xfe{\x00}\x00"), "not valid UTF-8 at byte 1", ":1", ""},
		{"byte order mark", job("\xef\xbb\xbf{}"), "begins with a byte order mark (EF BB BF); send UTF-8 without one", ":1", ""},
		{"line breaks of Windows between", job("{\r\n\"task_type\":\"fast_summary\",\r\n\"input\":\"a\\r\\nb\"}\r\n"), "", "", "Summarise: a\r\nb"},
		{"a line break of Windows inside", job("{\"input\":\"a\r\nb\"}"), `not JSON at byte 12: invalid character '\r' in string literal`, ":12", ""},
		{"10 MB", job(`{"task_type":"fast_summary","input":"` + long + `"}`), "the job has 10485799 bytes; at most 8388608 are accepted", "", ""},
		{"10 MB of nothing", job(strings.Repeat(" ", 10<<20)), "the job has 10485760 bytes; at most 8388608 are accepted", "", ""},
		{"deep", request(strings.Repeat(`{"a":`, 20_000)), "not JSON at byte 50034: invalid character '{' exceeded max depth", ":50034", ""},
		{"deep lists", job(strings.Repeat("[", 20_000)), "not JSON at byte 10001: invalid character '[' exceeded max depth", ":10001", ""},
		{"deep, as far as it goes", request(`{"messages":[{"role":"user","content":"x"}],"a":` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + `}`), "", "", "x"},
		{"twice", job(`{"id":"d-1","input":"a","input":"b"}`), "input: is given twice; give it once", "input:25", ""},
		{"twice inside the request", request(`{"messages":[{"role":"user","content":"a","content":"b"}]}`), "request.messages[0].content: is given twice; give it once", "request.messages[0].content:81", ""},
		{"a number out of range", job(`{"task_type":"fast_summary","input":"x","max_retries":1e400}`), "max_retries: must be a whole number; this one is too large", "max_retries:41", ""},
		{"a price out of range", job(`{"task_type":"fast_summary","input":"x","max_cost_usd":1e999}`), "max_cost_usd: must be a number; this one is too large", "max_cost_usd:41", ""},
		{"a number out of range inside the request", request(`{"messages":[{"role":"user","content":"x"}],"seed":1e999,"top_p":0.10000000000000000000000001}`), "", "", "x"},
		{"NUL as it is", job("{\"input\":\"\x00\"}"), `not JSON at byte 11: invalid character '\x00' in string literal`, ":11", ""},
		{"NUL before it", job("\x00{}"), `not JSON at byte 1: invalid character '\x00' looking for beginning of value`, ":1", ""},
		{"NUL escaped", job(`{"task_type":"fast_summary","input":"a\u0000b"}`), "", "", "Summarise: a\x00b"},
		{"half a pair", job(`{"task_type":"fast_summary","input":"\ud800"}`), `input: has half of a surrogate pair, \ud800, at byte 38, which is no character; leave it out`, "input:38", ""},
		{"half a pair in the metadata", job(`{"task_type":"fast_summary","input":"x","metadata":{"a":"\udc00"}}`), `metadata.a: has half of a surrogate pair, \udc00, at byte 58, which is no character; leave it out`, "metadata.a:58", ""},
		{"a whole pair", job(`{"task_type":"fast_summary","input":"\ud83d\ude00 😀"}`), "", "", "Summarise: 😀 😀"},
		{"odd characters", job("{\"task_type\":\"fast_summary\",\"input\":\"\u2028\u202e\ufeff<&>\\u003c\u007f\"}"), "", "", "Summarise: \u2028\u202e\ufeff<&><\u007f"},
		{"an id that is none", job(`{"id":"../etc","task_type":"fast_summary","input":"x"}`), "id: must be 1 to 128 characters of A-Z a-z 0-9 _ -", "id:", ""},
		{"another tenant's id", job(`{"id":"theirs","task_type":"fast_summary","input":"x"}`), "create job theirs: the id is taken by a job that asks for something else; choose another id", "", ""},
		{"another tenant's id under their name", job(`{"id":"theirs","tenant":"acme","task_type":"fast_summary","input":"x"}`), "create job theirs: the id is taken by a job that asks for something else; choose another id", "", ""},
		{"not available yet", job(`{"task_type":"fast_summary","input":"x","accept":{}}`), "accept: `accept` is not available yet; leave it out", "accept:41", ""},
		{"no job", []string{"data", "{}"}, "the entry has no field job; send XADD ... * job '{...}'", "", ""},
		{"another case", []string{"Job", "{}"}, "the entry has no field job; send XADD ... * job '{...}'", "", ""},
		{"two jobs", []string{"job", "{}", "job", "{}"}, "the entry has 2 fields job; send one job in each entry", "", ""},
		{"a field beside it", []string{"job", "{}", "priority", "bulk"}, `the entry has a field "priority" beside job; an entry has the field job, and may have traceparent and tracestate: all else belongs into the job`, "", ""},
	}
}

// What is hostile is accepted or refused with a reason that names the place, and what stands around it is accepted.
func TestHostileInput(t *testing.T) {
	onAll(t, func(b bundle) {
		t := b.t
		_, err := b.client.Enqueue(t.Context(), tasks.Job{ID: "theirs", TaskType: "fast_summary", Input: "theirs", Tenant: "acme"})
		require.NoError(t, err)
		theirs := b.record("theirs")
		list := hostiles()
		ids := make([]string, len(list))
		for i, h := range list {
			ids[i] = b.add(h.fields...)
			b.add("job", fmt.Sprintf(`{"id":"good-%d","task_type":"fast_summary","input":"x"}`, i))
		}
		b.start()
		b.drained()
		refusals := b.rejected()
		for i, h := range list {
			assert.Equal(t, tasks.StatusQueued, b.record(fmt.Sprintf("good-%d", i)).Status)
			refusal, refused := refusals[ids[i]]
			if h.reason == "" {
				assert.False(t, refused, "%s: %v", h.name, refusal["reason"])
				assert.Equal(t, h.text, promptOf(t, b.record("inbox-"+ids[i]).Job.Request), h.name)
				continue
			}
			if !assert.True(t, refused, h.name) {
				continue
			}
			assert.Equal(t, h.reason, strings.TrimPrefix(refusal["reason"].(string), "job inbox-"+ids[i]+": "), h.name)
			if h.place != "" {
				assert.Equal(t, h.place, fmt.Sprint(or(refusal["field"]), ":", or(refusal["byte"])), h.name)
			}
			wanted := h.fields[1]
			switch {
			case len(wanted) > tasks.MaxJobBytes:
				assert.Equal(t, fmt.Sprint(len(wanted)), refusal["job_bytes"], h.name)
				wanted = wanted[:cutTo]
			case h.fields[0] != "job":
				wanted = ""
			}
			if refusal["job"] != wanted { // which may be millions of bytes
				t.Errorf("%s: the text is not as it was sent", h.name)
			}
			found, _ := refusal["id"].(string)
			assert.Equal(t, tasks.StatusFailed, b.record(found).Status, h.name)
		}
		assert.Equal(t, theirs, b.record("theirs"))
	})
}

func or(value any) any {
	if value == nil {
		return ""
	}
	return value
}

// promptOf is what the user says in a request.
func promptOf(t *testing.T, request []byte) string {
	t.Helper()
	var body struct {
		Messages []struct{ Content string }
	}
	require.NoError(t, json.Unmarshal(request, &body))
	require.NotEmpty(t, body.Messages)
	return body.Messages[len(body.Messages)-1].Content
}

// A request is passed on byte for byte.
func TestARequestStaysAsItIs(t *testing.T) {
	onAll(t, func(b bundle) {
		t := b.t
		b.start()
		body := `{"messages":[{"role":"user","content":"\u0041\u2028\u00e9\/ <&> \ud83d\ude00"}],"max_tokens":7,"temperature":1.50e0,"x":{"b":1,"a":[1.0,-0]}}`
		id := b.add("job", `{"model":"small","request":`+body+`}`)
		b.drained()
		assert.Equal(t, body, string(b.record("inbox-"+id).Job.Request))
	})
}

func FuzzEntry(f *testing.F) {
	for _, h := range hostiles() {
		if len(h.fields[1]) < 1000 {
			f.Add(h.fields[0], h.fields[1], "", "")
		}
	}
	f.Add("job", `{"id":"a","task_type":"fast_summary","input":"x"}`, "job", "{}")
	f.Add("job", `{"id":"a","tenant":"acme","task_type":"fast_summary","input":"x`, "", "")
	c := testCatalog(f)
	f.Fuzz(func(t *testing.T, name, value, second, other string) {
		fields := []string{name, value}
		if second != "" {
			fields = append(fields, second, other)
		}
		e := newEntry("1700000000000-0", fields)
		job, err := e.decode()
		if err == nil {
			require.True(t, name == field && second == "" || second == field && name != field, "one job, and nothing beside it")
			require.NotEmpty(t, job.ID)
			_, err = c.Prepare(job, time.Now())
			if err == nil {
				return
			}
		}
		require.ErrorIs(t, err, tasks.ErrInvalidJob, "every refusal says why")
		r := newRefusal(e, err)
		require.True(t, r.id == "" || tasks.ValidID(r.id))
		require.True(t, tasks.ValidName(r.job.Tenant))
		require.Empty(t, r.job.Input)
		require.Zero(t, len(r.fields(false))%2)
		require.NotEmpty(t, r.err.Error())
		_, err = tasks.Encode(r.failure())
		require.NoError(t, err)
	})
}
