package httpapi_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/producer/httpapi"
	"github.com/forebay-queue/forebay/tasks"
)

// hostile are texts of jobs that are refused, each with what the reason must name.
var hostile = []struct{ name, body, want string }{
	{"not JSON", `{"id":"a",`, "byte"},
	{"not an object", `"job"`, "must be a JSON object"},
	{"null", `null`, "must be a JSON object"},
	{"a number", `7`, "must be a JSON object"},
	{"two jobs", summary + summary, "something follows the job at byte"},
	{"not UTF-8", "{\"input\":\"\xff\xfe\"}", "not valid UTF-8 at byte 11"},
	{"a BOM", "\ufeff" + summary, "byte order mark"},
	{"half a surrogate", strings.Replace(summary, "a text", `\ud800`, 1), "at byte"},
	{"a name twice, deep inside", `{"model":"small","request":{"messages":[{"role":"user","role":"user","content":"a"}]}}`, "at byte"},
	{"UTF-16", "{\x00\"\x00}\x00", "byte"},
	{"deep", `{"metadata":` + strings.Repeat(`{"a":`, 20_000) + "1" + strings.Repeat("}", 20_000) + "}", "JSON"},
	{"deep arrays", `{"request":` + strings.Repeat("[", 100_000), "JSON"},
	{"a field twice", `{"input":"a","input":"b"}`, "input: is given twice"},
	{"another case", `{"Input":"a"}`, "did you mean input"},
	{"unknown", `{"prompt":"a"}`, "prompt: unknown field"},
	{"later", `{"accept":{}}`, "not available yet"},
	{"a huge number", `{"max_retries":1e400}`, "max_retries"},
	{"a fraction", `{"max_retries":1.5}`, "max_retries"},
	{"out of range", strings.Replace(summary, "{", `{"max_retries":99999999,`, 1), "max_retries"},
	{"negative", strings.Replace(summary, "{", `{"max_cost_usd":-1,`, 1), "max_cost_usd"},
	{"NUL in an id", withID(`a\u0000b`), "id"},
	{"an id of keys", withID(`a}:done`), "id"},
	{"a newline in an id", withID(`a\nb`), "id"},
	{"an empty input", strings.Replace(summary, "a text", " ", 1), "input"},
	{"a raw newline", "{\"input\":\"a\nb\"}", "byte"},
}

// What is refused says why and where, alone as in an array, and touches nothing else.
func TestHostileJobs(t *testing.T) {
	t.Parallel()
	b := embedded(t)
	for _, row := range hostile {
		answer := b.ask("POST", "/v1/jobs", row.body)
		require.Equal(t, 400, answer.Code, "%s: %.300s", row.name, answer.Body)
		assertError(t, row.name, answer, "invalid_job")
		require.Contains(t, answer.Body.String(), row.want, row.name)
		require.Less(t, answer.Body.Len(), 1000, row.name)
	}
	before := b.ask("GET", "/v1/jobs", "").Body.String()
	require.JSONEq(t, `{"jobs":[]}`, before)
	for i, row := range hostile {
		good := fmt.Sprintf("good-%d", i)
		answer := b.ask("POST", "/v1/jobs", "["+withID(good)+","+row.body+"]")
		if answer.Code == 400 { // the array is none
			require.Contains(t, answer.Body.String(), "no job of it was accepted", row.name)
			require.Equal(t, 404, b.ask("GET", "/v1/jobs/"+good, "").Code, row.name)
			continue
		}
		var told []httpapi.Accepted
		require.NoError(t, json.Unmarshal(answer.Body.Bytes(), &told), row.name)
		require.Len(t, told, 2, row.name)
		require.Equal(t, tasks.StatusQueued, told[0].Status, row.name)
		require.NotNil(t, told[1].Error, row.name)
		require.Equal(t, 1, *told[1].Index)
	}
}

// Texts come into the record byte for byte, alone and in an array.
func TestTextsAreUnaltered(t *testing.T) {
	t.Parallel()
	b := embedded(t)
	texts := []string{
		"CRLF\r\nand\ttabs", "NUL \x00 and \x1f and \u007f", "<b>&amp;</b> ' \"", "\u2028\u2029\ufeff", "e\u0301 \u00e9 \U0001F600",
		`\u0041 \\ /`, strings.Repeat("long ", 200_000), "\ufffd",
	}
	var many []string
	for i, text := range texts {
		encoded, err := tasks.Encode(text)
		require.NoError(t, err)
		body := strings.Replace(withID(fmt.Sprintf("one-%d", i)), `"a text"`, string(encoded), 1)
		require.Equal(t, 201, b.ask("POST", "/v1/jobs", "\r\n "+body+"\r\n").Code, text)
		many = append(many, strings.Replace(body, "one-", "many-", 1))
	}
	require.NotContains(t, b.ask("POST", "/v1/jobs", "["+strings.Join(many, ",\r\n")+"]").Body.String(), "error")
	for i, text := range texts {
		for _, id := range []string{"one", "many"} {
			record, err := b.store.Get(t.Context(), fmt.Sprintf("%s-%d", id, i))
			require.NoError(t, err)
			var request struct{ Messages []struct{ Content string } }
			require.NoError(t, json.Unmarshal(record.Job.Request, &request))
			require.Equal(t, text, request.Messages[0].Content)
		}
	}
	// A request passes through as it is, with its numbers and its escapes.
	request := `{"messages":[{"role":"user","content":"\ud83d\ude00 \u00e9"}],"x":1.0000000000000000001,"y":12345678901234567890,"max_tokens":5}`
	require.Equal(t, 201, b.ask("POST", "/v1/jobs", `{"id":"raw","model":"small","request":`+request+`}`).Code)
	record, err := b.store.Get(t.Context(), "raw")
	require.NoError(t, err)
	for _, part := range []string{`"content":"\ud83d\ude00 \u00e9"`, `1.0000000000000000001`, `12345678901234567890`} {
		require.Contains(t, string(record.Job.Request), part)
	}
}

// Bodies as they come over a connection: in chunks without a length, cut off, and larger than is taken.
func TestBodiesOverAConnection(t *testing.T) {
	t.Parallel()
	b := embedded(t)
	address := strings.TrimPrefix(serve(t, b.API), "http://")
	for _, row := range []struct{ name, request, want string }{
		{"chunked", "Transfer-Encoding: chunked\r\n\r\n" + chunked(withID("chunks"), 7), "201 Created"},
		{"cut off", "Content-Length: 100\r\n\r\n{", "400 Bad Request"},
		{"too large by its length", "Content-Length: 33554433\r\n\r\n", "413 Request Entity Too Large"},
		{"no length", "\r\n", "400 Bad Request"},
		{"a large head", "X-Much: " + strings.Repeat("x", 64<<10) + "\r\n\r\n", "431 Request Header Fields Too Large"},
	} {
		connection, err := net.Dial("tcp", address)
		require.NoError(t, err)
		require.NoError(t, connection.SetDeadline(time.Now().Add(20*time.Second)))
		_, _ = io.WriteString(connection, "POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"+row.request)
		if row.name == "cut off" {
			require.NoError(t, connection.(*net.TCPConn).CloseWrite())
		}
		answer, err := bufio.NewReader(connection).ReadString('\n')
		require.NoError(t, err, row.name)
		require.Contains(t, answer, row.want, row.name)
		_ = connection.Close()
	}
	require.Equal(t, tasks.StatusQueued, b.result("chunks").Status)
}

func chunked(text string, size int) string {
	var out strings.Builder
	for len(text) > 0 {
		part := text[:min(size, len(text))]
		text = text[len(part):]
		fmt.Fprintf(&out, "%x\r\n%s\r\n", len(part), part)
	}
	return out.String() + "0\r\n\r\n"
}

// A tenant sees and changes nothing of another's: it is answered as what is not there.
func TestTenantsAreApart(t *testing.T) {
	t.Parallel()
	b := embedded(t)
	acme, other := []string{"X-Tenant", "acme"}, []string{"X-Tenant", "other"}
	require.Equal(t, 201, b.ask("POST", "/v1/jobs", withID("theirs"), acme...).Code)
	require.Equal(t, "acme", b.result("theirs").Tenant)
	require.Equal(t, 201, b.ask("POST", "/v1/jobs", withID("ended"), acme...).Code)
	b.end("ended", tasks.StatusFailed)
	require.Equal(t, 201, b.ask("POST", "/v1/jobs", withID("named"), "X-Tenant", "acme").Code)

	for _, row := range []struct{ method, path string }{
		{"GET", ""}, {"GET", "?wait=1s"}, {"GET", "/events"}, {"DELETE", ""}, {"POST", "/retry"}, {"POST", "/discard"},
	} {
		for _, id := range []string{"theirs", "ended"} {
			there := b.ask(row.method, "/v1/jobs/"+id+row.path, "", other...)
			absent := b.ask(row.method, "/v1/jobs/absent"+row.path, "", other...)
			require.Equal(t, 404, there.Code, row)
			require.Equal(t, strings.ReplaceAll(absent.Body.String(), "absent", id), there.Body.String(), row)
			nobody := b.ask(row.method, "/v1/jobs/"+id+row.path, "", "X-Nobody", "1")
			require.Equal(t, there.Body.String(), nobody.Body.String(), row)
		}
	}
	require.Equal(t, tasks.StatusQueued, b.result("theirs").Status)
	require.Equal(t, 1, b.result("ended").Run)

	taken := b.ask("POST", "/v1/jobs", withID("theirs"), other...)
	assertError(t, "taken", taken, "id_conflict")
	require.NotContains(t, taken.Body.String(), "acme")
	forTenant := strings.Replace(summary, "{", `{"tenant":"acme",`, 1)
	assertError(t, "forbidden", b.ask("POST", "/v1/jobs", forTenant, other...), "tenant_forbidden")
	require.Contains(t, b.ask("POST", "/v1/jobs", "["+forTenant+"]", other...).Body.String(), `"code":"tenant_forbidden"`)
	require.Equal(t, 201, b.ask("POST", "/v1/jobs", forTenant, acme...).Code)
	require.Equal(t, 201, b.ask("POST", "/v1/jobs", forTenant).Code, "an operator may name all")

	require.JSONEq(t, `{"jobs":[]}`, b.ask("GET", "/v1/jobs", "", other...).Body.String())
	require.Contains(t, b.ask("GET", "/v1/jobs", "", acme...).Body.String(), `"theirs"`)
	counted := b.ask("GET", "/v1/jobs?group_by=tenant", "", acme...).Body.String()
	require.Contains(t, counted, `{"key":"acme"`)
	require.NotContains(t, counted, "looked", "that is how many jobs there are of all")
	keys := map[string]bool{}
	for _, tenant := range [][]string{acme, other} {
		keyed := append([]string{"Idempotency-Key", "import-7"}, tenant...)
		first := b.ask("POST", "/v1/jobs", summary, keyed...)
		require.Equal(t, 201, first.Code, "everybody's key is their own")
		require.Equal(t, 200, b.ask("POST", "/v1/jobs", summary, keyed...).Code)
		keys[first.Header().Get("Location")] = true
	}
	require.Len(t, keys, 2)
	assertError(t, "list", b.ask("GET", "/v1/jobs?tenant=acme", "", other...), "tenant_forbidden")
	assertError(t, "list", b.ask("GET", "/v1/jobs", "", "X-Nobody", "1"), "tenant_forbidden")

	for _, path := range []string{"/v1/queues", "/v1/status"} {
		assertError(t, path, b.ask("GET", path, "", acme...), "operator_only")
	}
	for _, path := range []string{"/v1/queues/bulk/pause", "/v1/queues/none/resume", "/v1/task-types/fast_summary/pause"} {
		assertError(t, path, b.ask("POST", path, "", acme...), "operator_only")
		assertError(t, path, b.ask("POST", path, "", "X-Reads", "1"), "write_forbidden")
	}
}

// A key that may only read changes nothing.
func TestReadersChangeNothing(t *testing.T) {
	t.Parallel()
	b := embedded(t)
	reads := []string{"X-Tenant", "acme", "X-Reads", "1"}
	require.Equal(t, 201, b.ask("POST", "/v1/jobs", withID("a"), "X-Tenant", "acme").Code)
	for _, row := range [][3]string{
		{"POST", "/v1/jobs", summary},
		{"POST", "/v1/jobs", "[" + summary + "]"},
		{"DELETE", "/v1/jobs/a", ""},
		{"POST", "/v1/jobs/a/retry", ""},
		{"POST", "/v1/jobs/a/discard", ""},
	} {
		answer := b.ask(row[0], row[1], row[2], reads...)
		require.Equal(t, 403, answer.Code, row)
		assertError(t, row[1], answer, "write_forbidden")
	}
	require.Equal(t, 200, b.ask("GET", "/v1/jobs/a", "", reads...).Code)
	assertError(t, "nobody", b.ask("POST", "/v1/jobs", summary, "X-Nobody", "1"), "write_forbidden")
}

// FuzzPost sends anything: the answer is an accepted job, or an error that says why, and never a fault of ours.
func FuzzPost(f *testing.F) {
	b := embedded(f)
	for _, row := range hostile {
		if len(row.body) < 1000 {
			f.Add([]byte(row.body), "")
			f.Add([]byte("["+row.body+"]"), "key")
		}
	}
	f.Add([]byte(summary), "key")
	f.Fuzz(func(t *testing.T, body []byte, key string) {
		request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/jobs", strings.NewReader(string(body)))
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Idempotency-Key", key)
		answer := httptest.NewRecorder()
		b.ServeHTTP(answer, request)
		switch answer.Code {
		case 200, 201:
			require.True(t, json.Valid(answer.Body.Bytes()))
		case 400, 409, 413:
			var told struct {
				Error struct{ Message, Code string }
			}
			require.NoError(t, json.Unmarshal(answer.Body.Bytes(), &told))
			require.NotEmpty(t, told.Error.Message)
		default:
			t.Fatalf("%d: %s", answer.Code, answer.Body)
		}
	})
}
