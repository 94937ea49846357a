package batchlines_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/producer/batchlines"
)

const chat = "/v1/chat/completions"

func request(id string) string {
	return fmt.Sprintf(`{"custom_id":%q,"method":"POST","url":"/v1/chat/completions","body":{"model":"small","messages":[{"role":"user","content":"a"}]}}`, id)
}

// odd are lines, each with the code that it is refused by, or "" where it is taken.
var odd = []struct{ name, line, code, param string }{
	{"not JSON", `{"custom_id":`, batchlines.CodeInvalidJSON, ""},
	{"a text", `hello`, batchlines.CodeInvalidJSON, ""},
	{"an array", "[" + request("x") + "]", batchlines.CodeInvalidJSON, ""},
	{"null", `null`, batchlines.CodeInvalidJSON, ""},
	{"two on a line", request("x") + request("y"), batchlines.CodeInvalidJSON, ""},
	{"not UTF-8", strings.Replace(request("x"), "small", "sm\xffall", 1), batchlines.CodeInvalidJSON, ""},
	{"Latin-1", "{\"custom_id\":\"caf\xe9\"}", batchlines.CodeInvalidJSON, ""},
	{"a BOM in the middle", "\ufeff" + request("x"), batchlines.CodeInvalidJSON, ""},
	{"NUL", "\x00", batchlines.CodeInvalidJSON, ""},
	{"huge nesting", `{"custom_id":"x","body":` + strings.Repeat("[", 200_000) + strings.Repeat("]", 200_000) + "}", batchlines.CodeInvalidJSON, ""},
	{"nesting that is open", strings.Repeat(`{"a":`, 100_000), batchlines.CodeInvalidJSON, ""},
	{"no custom_id", `{"method":"POST","url":"/v1/chat/completions","body":{}}`, batchlines.CodeMissing, "custom_id"},
	{"another case", strings.Replace(request("x"), "custom_id", "Custom_ID", 1), batchlines.CodeMissing, "custom_id"},
	{"a number as custom_id", strings.Replace(request("x"), `"x"`, "7", 1), batchlines.CodeInvalidType, "custom_id"},
	{"null as custom_id", strings.Replace(request("x"), `"x"`, "null", 1), batchlines.CodeInvalidType, "custom_id"},
	{"an empty custom_id", request(""), batchlines.CodeInvalidValue, "custom_id"},
	{"a long custom_id", request(strings.Repeat("x", 513)), batchlines.CodeInvalidValue, "custom_id"},
	{"custom_id twice", strings.Replace(request("x"), "{", `{"custom_id":"y",`, 1), batchlines.CodeInvalidJSON, "custom_id"},
	{"GET", strings.Replace(request("x"), "POST", "GET", 1), batchlines.CodeInvalidValue, "method"},
	{"no method", strings.Replace(request("x"), `"method":"POST",`, "", 1), batchlines.CodeMissing, "method"},
	{"another url", strings.Replace(request("x"), "chat/completions", "embeddings", 1), batchlines.CodeURLMismatch, "url"},
	{"a whole url", strings.Replace(request("x"), "/v1", "https://api.openai.com/v1", 1), batchlines.CodeURLMismatch, "url"},
	{"no body", `{"custom_id":"x","method":"POST","url":"/v1/chat/completions"}`, batchlines.CodeMissing, "body"},
	{"a text as body", `{"custom_id":"x","method":"POST","url":"/v1/chat/completions","body":"{}"}`, batchlines.CodeInvalidType, "body"},
	{"17 MiB", strings.Replace(request("x"), `"a"`, `"`+strings.Repeat("a", 17<<20)+`"`, 1), batchlines.CodeTooLong, ""},

	{"10 MB", strings.Replace(request("x"), `"a"`, `"`+strings.Repeat("a", 10_000_000)+`"`, 1), "", ""},
	{"CRLF", request("x") + "\r", "", ""},
	{"white space", " \t" + strings.ReplaceAll(request("x"), `":`, `" : `) + "  ", "", ""},
	{"escaped names", strings.Replace(request("x"), "custom_id", `custom\u005fid`, 1), "", ""},
	{"an unknown field", strings.Replace(request("x"), "{", `{"note":[1,{"custom_id":"y"}],"n":-1.5e3,"t":true,`, 1), "", ""},
	{"escapes in texts", strings.Replace(request("x"), `"a"`, `"\\\"}\\\\"`, 1), "", ""},
	{"an empty body", `{"custom_id":"x","method":"POST","url":"/v1/chat/completions","body":{}}`, "", ""},
	{"the fields in another order", `{"body":{"a":"}"},"url":"/v1/chat/completions","method":"POST","custom_id":"x"}`, "", ""},
}

// Each odd line is told by its number, and the lines before and behind it are read all the same.
func TestOddLines(t *testing.T) {
	t.Parallel()
	for _, row := range odd {
		for _, end := range []string{"", "\n"} {
			if end != "" && len(row.line) > 1<<20 {
				continue // once is enough
			}
			file := request("before") + "\n\n" + row.line + "\n" + request("after") + end
			total, problems, err := batchlines.Check(iotest.HalfReader(strings.NewReader(file)), chat)
			require.NoError(t, err, row.name)
			require.Equal(t, 3, total, row.name)
			if row.code == "" {
				require.Empty(t, problems, row.name)
			} else {
				require.Len(t, problems, 1, row.name)
				require.Equal(t, row.code, problems[0].Code, row.name)
				require.Equal(t, row.param, problems[0].Param, row.name)
				require.Equal(t, 3, problems[0].Line, row.name)
				require.NotEmpty(t, problems[0].Message, row.name)
				require.Less(t, len(problems[0].Message), 300, row.name)
			}
			var read []string
			for reader := batchlines.NewReader(strings.NewReader(file), chat); ; {
				line, err := reader.Next()
				if errors.Is(err, io.EOF) {
					break
				}
				if err == nil {
					read = append(read, line.CustomID)
					require.True(t, json.Valid(line.Body), row.name)
				}
			}
			want := []string{"before", "x", "after"}
			if row.code != "" {
				want = []string{"before", "after"}
			}
			require.Equal(t, want, read, row.name)
		}
	}
}

func TestFiles(t *testing.T) {
	t.Parallel()
	check := func(file string) (int, []batchlines.Problem) {
		t.Helper()
		total, problems, err := batchlines.Check(strings.NewReader(file), chat)
		require.NoError(t, err)
		return total, problems
	}
	for _, empty := range []string{"", "\n", "\r\n\r\n", "\ufeff", " \n\t"} {
		_, problems := check(empty)
		require.Len(t, problems, 1, "%q", empty)
		require.Equal(t, batchlines.CodeEmptyFile, problems[0].Code)
		require.Zero(t, problems[0].Line)
	}
	total, problems := check("\ufeff" + request("a") + "\r\n" + request("b"))
	require.Equal(t, 2, total)
	require.Empty(t, problems, "a BOM at the beginning, CRLF, and no newline at the end")

	_, problems = check(request("a") + "\n" + request("b") + "\n\n" + request("a") + "\n" + `{"custom_id":"\u0061"}` + "\n" + request("b"))
	require.Len(t, problems, 3)
	require.Equal(t, []int{4, 5, 6}, []int{problems[0].Line, problems[1].Line, problems[2].Line})
	require.Equal(t, batchlines.CodeDuplicate, problems[0].Code)
	require.Contains(t, problems[0].Message, "line 1")
	require.Equal(t, batchlines.CodeMissing, problems[1].Code)
	require.Contains(t, problems[2].Message, "line 2")

	_, problems = check(strings.Repeat("x\n", 1000))
	require.Len(t, problems, batchlines.MaxProblems)

	var many strings.Builder
	for i := range batchlines.MaxLines + 1 {
		if i == batchlines.MaxLines {
			total, problems = check(many.String())
			require.Equal(t, batchlines.MaxLines, total)
			require.Empty(t, problems)
		}
		many.WriteString(request(fmt.Sprint(i)) + "\n")
	}
	_, problems = check(many.String())
	require.Len(t, problems, 1)
	require.Equal(t, batchlines.CodeTooManyTasks, problems[0].Code)

	_, _, err := batchlines.Check(io.MultiReader(strings.NewReader(request("a")), iotest.ErrReader(io.ErrUnexpectedEOF)), chat)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
}

func TestWrite(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	require.NoError(t, batchlines.Write(&out, batchlines.Output{
		ID: "batch_req_1", CustomID: "<a>",
		Response: &batchlines.Response{StatusCode: 200, RequestID: "r", Body: json.RawMessage("{\n \"a\": 1.0000000000000000001, \"b\": \"<\\u00e9\"\n}")},
	}))
	require.NoError(t, batchlines.Write(&out, batchlines.Output{ID: "batch_req_2", CustomID: "b", Error: &batchlines.Failure{Code: batchlines.CodeExpired, Message: "m"}}))
	//nolint:testifylint // byte for byte, which JSONEq does not compare
	require.Equal(t, `{"id":"batch_req_1","custom_id":"<a>","response":{"status_code":200,"request_id":"r","body":{"a":1.0000000000000000001,"b":"<\u00e9"}},"error":null}
{"id":"batch_req_2","custom_id":"b","response":null,"error":{"code":"batch_expired","message":"m"}}
`, out.String())
}

// large is a file of 50,000 lines and 200 MB, made as it is read.
type large struct {
	lines, made int
	text        string
	rest        []byte
}

func newLarge() *large {
	return &large{lines: batchlines.MaxLines / shorter, text: strings.Repeat("Water waits \\\"here\\\" \u00e9. ", 154)}
}

func (l *large) Read(data []byte) (int, error) {
	if len(l.rest) == 0 {
		if l.made == l.lines {
			return 0, io.EOF
		}
		l.rest = fmt.Appendf(l.rest[:0], `{"custom_id":"request-%d","method":"POST","url":"/v1/chat/completions","body":{"model":"small","messages":[{"role":"user","content":"%s"}]}}`+"\n", l.made, l.text)
		l.made++
	}
	n := copy(data, l.rest)
	l.rest = l.rest[n:]
	return n, nil
}

// 50,000 lines and 200 MB are checked in the memory of a few lines; how long it took is printed.
func TestALargeFileInLittleMemory(t *testing.T) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	file, size := newLarge(), int64(0)
	started := time.Now()
	total, problems, err := batchlines.Check(io.TeeReader(file, (*counter)(&size)), chat)
	took := time.Since(started)
	runtime.ReadMemStats(&after)
	require.NoError(t, err)
	require.Empty(t, problems)
	require.Equal(t, batchlines.MaxLines/shorter, total)
	require.Greater(t, size, int64(195_000_000/shorter))
	t.Logf("%d lines, %d bytes: %s, heap from %d to %d KiB", total, size, took.Round(time.Millisecond), before.HeapInuse>>10, after.HeapInuse>>10)
	require.Less(t, after.HeapSys-min(before.HeapSys, after.HeapSys), uint64(64<<20))
}

type counter int64

func (c *counter) Write(data []byte) (int, error) {
	*c += counter(len(data))
	return len(data), nil
}

// FuzzReader reads anything: each line is one request or one problem, and what is taken is as it stands in the file.
func FuzzReader(f *testing.F) {
	for _, row := range odd {
		if len(row.line) < 1000 {
			f.Add([]byte(row.line + "\n" + request("y")))
		}
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		reader, last := batchlines.NewReader(bytes.NewReader(file), chat), 0
		for {
			line, err := reader.Next()
			var problem *batchlines.Problem
			switch {
			case errors.Is(err, io.EOF):
				require.LessOrEqual(t, last, bytes.Count(file, []byte("\n"))+1)
				return
			case errors.As(err, &problem):
				require.Greater(t, problem.Line, last)
				require.True(t, utf8.ValidString(problem.Message))
				last = problem.Line
			default:
				require.NoError(t, err)
				require.Greater(t, line.Number, last)
				last = line.Number
				text := bytes.Split(file, []byte("\n"))[line.Number-1]
				require.True(t, bytes.Contains(text, line.Body))
				var want map[string]json.RawMessage // by their exact names
				require.NoError(t, json.Unmarshal(bytes.TrimPrefix(text, []byte("\ufeff")), &want))
				var id string
				require.NoError(t, json.Unmarshal(want["custom_id"], &id))
				require.Equal(t, id, line.CustomID)
				require.JSONEq(t, string(want["body"]), string(line.Body))
				require.True(t, json.Valid(line.Body))
			}
		}
	})
}
