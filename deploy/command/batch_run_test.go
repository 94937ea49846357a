package command

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/deploy/config"
	"github.com/forebay-queue/forebay/deploy/filerun"
)

func TestBatchRunRefusesMistakes(t *testing.T) {
	t.Parallel()
	file := simulatedFile(t)
	texts := writeFile(t, "texts.jsonl", `{"text":"A text."}`)
	for line, want := range map[string]string{
		"":                                    "takes one input",
		"a b":                                 "takes one input",
		texts:                                 "name the file for the answers with -o",
		texts + " -o out --output word":       "--output must be result, text, response or openai",
		texts + " -o out --format word":       "--format must be openai, jobs, jsonl, csv, tsv or folder",
		texts + " -o out --max-cost 0":        "--max-cost must be more than 0",
		texts + " -o out --data x":            "--data belongs to --local",
		texts + " -o out":                     "is read as jsonl, whose texts need a --type",
		"/nowhere -o out --type fast_summary": "/nowhere cannot be read",
	} {
		got := inProcess(t, "", append([]string{"batch", "run", "--config", file}, strings.Fields(line)...)...)
		assert.NotZero(t, got.status, line)
		assert.Contains(t, got.stderr, want, line)
	}
}

// A dry run needs neither Redis nor an output.
func TestBatchRunQuotesWithoutRedis(t *testing.T) {
	t.Parallel()
	texts := writeFile(t, "texts.jsonl", `{"text":"A text about water. It waits in a pool above the turbines."}`+"\nbroken\n")
	got := inProcess(t, "", "batch", "run", texts, "--type", "fast_summary", "--dry-run", "--config", simulatedFile(t), "--redis", "redis://127.0.0.1:9/0")
	require.Zero(t, got.status, got.stderr)
	for _, want := range []string{
		"1 job to be done", "(simulated: nothing is billed)", "gemini-2.5-flash", "a simulated endpoint counts a token for every four bytes",
		"1 lines cannot be jobs", "line 2: not JSON at byte 1", "Nothing was done",
	} {
		assert.Contains(t, got.stdout, want)
	}
}

func TestPromptFiles(t *testing.T) {
	t.Parallel()
	file, err := config.Parse("example.yaml", config.Example())
	require.NoError(t, err)
	prompt := filepath.Join(t.TempDir(), "prompt.txt")
	require.NoError(t, os.WriteFile(prompt, []byte("Translate: {{input}}"), 0o600))
	cmd := newBatchRunCommand()
	jobOf, err := jobOfText(cmd, batchRunFlags{taskType: "simple_response", promptFile: prompt}, &file.Catalog)
	require.NoError(t, err)
	job := jobOf(`"x"`)
	assert.Equal(t, "simple_response", job.TaskType)
	assert.JSONEq(t, `{"messages":[{"role":"system","content":"Answer in one or two sentences. When you do not know the answer, say so."},
		{"role":"user","content":"Translate: \"x\""}]}`, string(job.Request))
	jobOf, err = jobOfText(cmd, batchRunFlags{taskType: "embedding", promptFile: prompt}, &file.Catalog)
	require.NoError(t, err)
	assert.JSONEq(t, `{"input":"Translate: x"}`, string(jobOf("x").Request))
	require.NoError(t, os.WriteFile(prompt, []byte("Translate."), 0o600))
	_, err = jobOfText(cmd, batchRunFlags{promptFile: prompt}, &file.Catalog)
	require.ErrorContains(t, err, "has no {{input}}")
}

func TestBatchDisplay(t *testing.T) {
	t.Parallel()
	var out stream
	d := newBatchDisplay(&out, func() string { return "a note" })
	began := time.Now()
	d.recent = []batchMark{{began.Add(-10 * time.Second), 0}}
	d.show(filerun.Progress{Lines: 100, Refused: 1, Kept: 5, Succeeded: 18, Failed: 2, SpentUSD: 0.5, Held: true})
	text := out.text()
	for _, want := range []string{"20/99", "18 done, 2 failed, 1 no jobs, 5 of them earlier, $0.5000 spent, 2.0/s, ", "; a note; no further line is begun"} {
		assert.Contains(t, text, want)
	}
	d.show(filerun.Progress{Lines: 100, Succeeded: 30, Away: assert.AnError})
	assert.Equal(t, text, out.text(), "a line now and then")
	d.close()
	assert.Contains(t, out.text(), "30/100")
	assert.Contains(t, out.text(), "Redis is away")
}

// What could not be written at the end, or would destroy something, is refused before anything is asked.
func TestBatchRunRefusesBadOutputs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{"in.jsonl": `{"text":"A text."}` + "\n", "other.jsonl": "precious\n", "notes/a.txt": "A text.\n"} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	require.NoError(t, os.Mkdir(filepath.Join(dir, "folder.csv"), 0o755))
	require.NoError(t, os.Symlink("in.jsonl", filepath.Join(dir, "link.jsonl")))
	for _, row := range []struct{ in, out, flag, want string }{
		{"in.jsonl", "in.jsonl", "--local", "is the input, too"},
		{"in.jsonl", "link.jsonl", "--local", "is the input, too"},
		{"in.jsonl", "other.jsonl", "--local", "replace it with --overwrite"},
		{"in.jsonl", "folder.csv", "--local", "is a folder"},
		{"in.jsonl", "out.txt", "--local", "must end in .jsonl or .csv"},
		{"in.jsonl", "out.csv", "--output=openai", "a table has --output result or text"},
		{"notes", "notes/out.jsonl", "--local", "would be an input the next time"},
	} {
		got := inProcess(t, "", "batch", "run", filepath.Join(dir, row.in), "-o", filepath.Join(dir, row.out), "--type", "fast_summary", row.flag, "--config", simulatedFile(t))
		assert.Equal(t, exitUsage, got.status, got.stderr)
		assert.Contains(t, got.stderr, row.want)
	}
	text, err := os.ReadFile(filepath.Join(dir, "other.jsonl"))
	require.NoError(t, err)
	assert.Equal(t, "precious\n", string(text))

	typo := inProcess(t, "", "batch", "run", filepath.Join(dir, "in.jsonl"), "--dry-run", "--type", "fast_summery", "--config", simulatedFile(t), "--redis", "redis://127.0.0.1:9/0")
	assert.Equal(t, exitUsage, typo.status, typo.stdout)
	assert.Contains(t, typo.stderr, `did you mean "fast_summary"?`)
}
