package batchio_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/deploy/batchio"
	"github.com/forebay-queue/forebay/tasks"
)

func jobOfText(text string) tasks.Job { return tasks.Job{TaskType: "summary", Input: text} }

func jobOfCall(url string, body json.RawMessage) (tasks.Job, error) {
	if url != "/v1/chat/completions" {
		return tasks.Job{}, errors.New("no such url")
	}
	return tasks.Job{Tier: "low", Request: body}, nil
}

func config(path string, format batchio.Format) batchio.Config {
	return batchio.Config{Path: path, Format: format, JobOfText: jobOfText, JobOfCall: jobOfCall}
}

func file(t testing.TB, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// read renders items as "place key: input" or "place key! problem".
func read(t testing.TB, c batchio.Config) ([]string, error) {
	t.Helper()
	var list []string
	for item, err := range batchio.Read(c) {
		if err != nil {
			return list, err
		}
		assert.Empty(t, item.Job.ID)
		line := item.Place() + " " + item.Key
		if item.Problem != nil {
			list = append(list, line+"! "+item.Problem.Error())
			continue
		}
		list = append(list, line+": "+item.Job.Input+string(item.Job.Request))
	}
	return list, nil
}

// Every odd line is named, and nothing else is lost.
func TestOddLines(t *testing.T) {
	t.Parallel()
	text := "\xef\xbb\xbf" + `{"id":"a","text":"One."}` + "\r\n" +
		"\r\n" +
		`{"id":7,"text":"Two."}` + "\n" +
		"   \n" +
		`not json` + "\n" +
		`["text"]` + "\n" +
		`null` + "\n" +
		"{\"text\":\"\xff\"}\n" +
		`{"id":"b","text":"  "}` + "\n" +
		`{"id":"c","txt":"x"}` + "\n" +
		`{"id":"d","text":5}` + "\n" +
		strings.Repeat("[", 20000) + "\n" +
		`{"text":"` + strings.Repeat("x", 10<<20) + `"}` + "\n" +
		`{"id":{},"text":"Three."}` + "\n" +
		`{"id":"` + strings.Repeat("k", 600) + `","text":"x"}` + "\n" +
		`{"text":"Last, without an end of its line."}`
	got, err := read(t, config(file(t, "in.jsonl", text), batchio.FormatJSONL))
	require.NoError(t, err)
	assert.Equal(t, []string{
		"line 1 a: One.",
		"line 3 7: Two.",
		"line 5 5! not JSON at byte 2: invalid character 'o' in literal null (expecting 'u')",
		"line 6 6! not a JSON object",
		"line 7 7! not a JSON object",
		"line 8 8! not valid UTF-8 at byte 10",
		"line 9 b! its text is empty; there is nothing to ask for",
		`line 10 c! has no field "text"; name the one of its text with --text-field: id, txt`,
		"line 11 d! text is no string; name the field of its text with --text-field",
		"line 12 12! not JSON at byte 10001: invalid character '[' exceeded max depth",
		"line 13 13! has 10485772 bytes; at most 8388608 are accepted",
		"line 14 14: Three.",
		"line 15 15! its id has 600 bytes; at most 512 are accepted",
		"line 16 16: Last, without an end of its line.",
	}, got)
}

func TestFieldsOfOnesOwn(t *testing.T) {
	t.Parallel()
	c := config(file(t, "in.jsonl", `{"nr":12,"body":"One."}`+"\n"+`{"body":"Two."}`), batchio.FormatJSONL)
	c.TextField, c.IDField = "body", "nr"
	got, err := read(t, c)
	require.NoError(t, err)
	assert.Equal(t, []string{
		"line 1 12: One.", "line 2 2! nr is missing, or neither a string nor a number; name the field of its id with --id-field",
	}, got)
}

func TestCalls(t *testing.T) {
	t.Parallel()
	text := `{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"model":"m"}}
{"custom_id":"b","method":"GET","url":"/v1/chat/completions","body":{}}
{"custom_id":"c","method":"POST","url":"/v1/other","body":{}}
{"custom_id":"d","method":"POST","url":"/v1/chat/completions","body":[]}
{"custom_id":4,"method":"POST","url":"/v1/chat/completions","body":{}}
`
	path := file(t, "in.jsonl", text)
	format, err := batchio.Detect(path, false)
	require.NoError(t, err)
	got, err := read(t, config(path, format))
	require.NoError(t, err)
	assert.Equal(t, []string{
		`line 1 a: {"model":"m"}`,
		`line 2 b! method must be POST, got "GET"`,
		`line 3 c! no such url`,
		`line 4 d! body is missing, or no object: it is what the call sends`,
		`line 5 5! custom_id is missing, or no string; a line is {"custom_id", "method", "url", "body"}`,
	}, got)
}

func TestJobs(t *testing.T) {
	t.Parallel()
	path := file(t, "in.jsonl", `{"id":"mine","task_type":"summary","input":"One."}
{"task_type":"summary","inptu":"x"}
{"id":"two","input":"x"}
`)
	format, err := batchio.Detect(path, true)
	require.NoError(t, err)
	got, err := read(t, config(path, format))
	require.NoError(t, err)
	assert.Equal(t, []string{
		"line 1 mine: One.",
		"line 2 2! inptu: unknown field; see docs/jobs.md for the fields of a job",
		"line 3 two! task_type: is missing; name a task type, or a tier, profile or model",
	}, got)
}

func TestTables(t *testing.T) {
	t.Parallel()
	got, err := read(t, config(file(t, "in.csv", "\xef\xbb\xbfid,text,other\r\n"+
		"a,\"One,\r\nin two lines, \"\"quoted\"\".\",x\r\n"+
		"b,too few\n"+
		"\n"+
		"c,a \"bare\" quote,x\n"+
		"d,\xff,x\n"+
		",Four.,x\n"+
		"e,,x\n"+
		"f,Five.,x"), batchio.FormatCSV))
	require.NoError(t, err)
	assert.Equal(t, []string{
		"line 2 a: One,\nin two lines, \"quoted\".",
		"line 4 b! wrong number of fields",
		"line 6 6! bare \" in non-quoted-field",
		"line 7 d! not valid UTF-8",
		"line 8 8: Four.",
		"line 9 e! its text is empty; there is nothing to ask for",
		"line 10 f: Five.",
	}, got)

	_, err = read(t, config(file(t, "in.csv", "id,body\na,b\n"), batchio.FormatCSV))
	require.ErrorContains(t, err, `has no column "text"; name the one of the text with --text-field: id, body`)
	_, err = read(t, config(file(t, "in.csv", "text,text\na,b\n"), batchio.FormatCSV))
	require.ErrorContains(t, err, "two columns")
	_, err = read(t, config(file(t, "in.csv", ""), batchio.FormatCSV))
	require.ErrorContains(t, err, "is empty")

	got, err = read(t, config(file(t, "in.csv", "text\nOne.\n\""+strings.Repeat("x", 9<<20)+"\nTwo.\n"), batchio.FormatCSV))
	require.ErrorContains(t, err, "the row after that of line 2 has more than 8388608 bytes; look for a quote that is not closed")
	assert.Equal(t, []string{"line 2 2: One."}, got)

	got, err = read(t, config(file(t, "in.tsv", "text\tid\nOne, two.\ta\n"), batchio.FormatTSV))
	require.NoError(t, err)
	assert.Equal(t, []string{"line 2 a: One, two."}, got)
}

func TestFolders(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"b.md": "\xef\xbb\xbf# B", "a/c.TXT": "C.", "a/d.html": "<p>D", ".hidden/e.txt": "E", ".f.txt": "F", "g.png": "G",
		"h.txt": "", "i.txt": "\xff\xfe", "j.txt": "nul\x00",
	} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	require.NoError(t, os.Symlink(filepath.Join(dir, "b.md"), filepath.Join(dir, "link.md")))
	format, err := batchio.Detect(dir, true)
	require.NoError(t, err)
	got, err := read(t, config(dir, format))
	require.NoError(t, err)
	assert.Equal(t, []string{
		"a/c.TXT a/c.TXT: C.", "a/d.html a/d.html: D", "b.md b.md: # B",
		"h.txt h.txt! its text is empty; there is nothing to ask for",
		"i.txt i.txt! is not text in UTF-8; convert it first, for example with iconv",
		"j.txt j.txt! is not text in UTF-8; convert it first, for example with iconv",
	}, got)
	_, err = read(t, config(t.TempDir(), batchio.FormatFolder))
	require.ErrorContains(t, err, "holds no files")
	_, err = read(t, config(filepath.Join(dir, "none"), batchio.FormatFolder))
	require.ErrorContains(t, err, "cannot be read")
}

func TestPages(t *testing.T) {
	t.Parallel()
	for page, want := range map[string]string{
		"<!doctype html><html><head><title>T</title><style>p{}</style></head><body><h1>A  title</h1>\n<p>One <b>bold</b> word,\n and <a href=x>a link</a>.<p>Two.</body></html>": "A title\n\nOne bold word, and a link.\n\nTwo.",
		"<ul><li>One<li>Two</ul>after":                                           "- One\n- Two\n\nafter",
		"<script>if (a < b) { '</p>' }</script>Text &amp; more&nbsp;&lt;tag&gt;": "Text & more <tag>",
		"<pre>  a\n    b</pre>":                                                  "a\n    b",
		"<table><tr><td>a<td>b<tr><td>c</table>":                                 "a b\nc",
		"no html at all":                                                         "no html at all",
		"<head><meta charset=utf-8><body>no end of head":                         "no end of head",
		"<svg><text>drawn</text></svg>line<br>line":                              "line\nline",
		"<p>a<": "a<",
	} {
		got, err := read(t, config(filepath.Dir(file(t, "page.html", page)), batchio.FormatFolder))
		require.NoError(t, err)
		assert.Equal(t, []string{"page.html page.html: " + want}, got, page)
	}
}

func TestDetect(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, text string
		byText     bool
		want       batchio.Format
	}{
		{"x.csv", "", true, batchio.FormatCSV},
		{"x.TSV", "", true, batchio.FormatTSV},
		{"x.jsonl", "broken\n" + `{"text":"x"}`, true, batchio.FormatJSONL},
		{"x.jsonl", `{"input":"x","tier":"low"}`, false, batchio.FormatJobs},
		{"x.jsonl", `{"input":"x"}`, true, batchio.FormatJSONL},
		{"x.jsonl", `{"task_type":"s","input":"x"}`, true, batchio.FormatJobs},
		{"x.txt", `{"custom_id":"x","body":{}}`, true, batchio.FormatOpenAI},
		{"empty", "", true, batchio.FormatJSONL},
	} {
		got, err := batchio.Detect(file(t, row.name, row.text), row.byText)
		require.NoError(t, err)
		assert.Equal(t, row.want, got, row.name+" "+row.text)
	}
	_, err := batchio.Detect("/nowhere/x", true)
	require.ErrorContains(t, err, "/nowhere/x cannot be read")
}

// 40 MB take the memory of a few lines.
func TestMemoryIsConstant(t *testing.T) {
	t.Parallel()
	in, err := os.Create(filepath.Join(t.TempDir(), "in.jsonl"))
	require.NoError(t, err)
	line := []byte(`{"id":"x","text":"` + strings.Repeat("word ", 800) + `"}` + "\n")
	for range 10_000 {
		_, err := in.Write(line)
		require.NoError(t, err)
	}
	require.NoError(t, in.Close())
	var peak, memory runtime.MemStats
	read := 0
	for item, err := range batchio.Read(config(in.Name(), batchio.FormatJSONL)) {
		require.NoError(t, err)
		require.NoError(t, item.Problem)
		if read++; read%1000 == 0 {
			if runtime.ReadMemStats(&memory); memory.HeapInuse > peak.HeapInuse {
				peak = memory
			}
		}
	}
	assert.Equal(t, 10_000, read)
	t.Logf("%d lines of %d MB, at most %.1f MB of heap in use", read, len(line)*read>>20, float64(peak.HeapInuse)/(1<<20))
	assert.Less(t, peak.HeapInuse, uint64(64<<20))
}

// OpenAI's lines are told apart by their custom_id alone.
func TestCustomIDsStandOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "in.jsonl")
	one := `{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{}}` + "\n"
	require.NoError(t, os.WriteFile(path, []byte(one+strings.Replace(one, `"a"`, `"b"`, 1)+one), 0o600))
	var problems []string
	for item, err := range batchio.Read(batchio.Config{Path: path, Format: batchio.FormatOpenAI, JobOfCall: func(string, json.RawMessage) (tasks.Job, error) { return tasks.Job{}, nil }}) {
		require.NoError(t, err)
		if item.Problem != nil {
			problems = append(problems, item.Place()+": "+item.Problem.Error())
		}
	}
	require.Equal(t, []string{`line 3: custom_id "a" is that of line 1, too; it must be unique`}, problems)
}
