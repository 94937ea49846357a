package batchio_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"unicode/utf8"

	"github.com/forebay-queue/forebay/deploy/batchio"
)

// FuzzRead reads whatever there is in every format: each item has a place in order and a key, what it asks for is text, and a
// line that is no CSV's is one item.
func FuzzRead(f *testing.F) {
	for _, seed := range []string{
		"", "\n", "\xef\xbb\xbf{}", `{"id":"a","text":"One."}` + "\r\n\r\n{", `{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"model":"m"}}`,
		"id,text\na,b\n\"c,\nd\"", "id\ttext\na\tb", "text\n\"\"\"\"", "<p>a<b>c</p><pre>\n d", "<head><script></scri", `{"task_type":"s","input":"x"}`,
		"text\n\"open", "text,id\r\n\x00,\xff",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		path := filepath.Join(dir, "page.html")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := batchio.Detect(path, false); err != nil {
			t.Fatal(err)
		}
		for _, format := range batchio.Formats() {
			c := config(path, format)
			if format == batchio.FormatFolder {
				c.Path = dir
			}
			last := 0
			for item, err := range batchio.Read(c) {
				if err != nil {
					if slices.Contains([]batchio.Format{batchio.FormatOpenAI, batchio.FormatJobs, batchio.FormatJSONL, batchio.FormatFolder}, format) {
						t.Fatalf("%s: %s", format, err)
					}
					break
				}
				if item.Line <= last || item.Key == "" || !utf8.ValidString(item.Key) {
					t.Fatalf("%s: %+v after line %d", format, item, last)
				}
				last = item.Line
				if item.Problem == nil && (!utf8.ValidString(item.Job.Input) || item.Job.Input == "" && len(item.Job.Request) == 0) {
					t.Fatalf("%s: %q asks for nothing", format, item.Key)
				}
			}
		}
	})
}
