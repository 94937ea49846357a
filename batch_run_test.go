package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/deploy/simulator"
	"github.com/forebay-queue/forebay/tasks/batches"
)

// batchKillLines is how many lines the kill tests have; FOREBAY_BATCH_KILL_LINES is another number, for the long form.
const batchKillLines = 200

// batchSite is a deployment with a file of lines to be run.
type batchSite struct {
	*deployment
	in, out string
	texts   []string
}

func batchDeploy(t *testing.T, lines int, s site) *batchSite {
	t.Helper()
	b := &batchSite{deployment: deploy(t, s)}
	b.in, b.out = filepath.Join(b.dir, "in.jsonl"), filepath.Join(b.dir, "out.jsonl")
	for i := range lines {
		b.texts = append(b.texts, fmt.Sprintf("Document %d. %s", i, text))
	}
	b.writeInput()
	return b
}

func (b *batchSite) writeInput() {
	b.t.Helper()
	var lines bytes.Buffer
	for i, text := range b.texts {
		require.NoError(b.t, json.NewEncoder(&lines).Encode(map[string]string{"id": fmt.Sprint("doc-", i), "text": text}))
	}
	require.NoError(b.t, os.WriteFile(b.in, lines.Bytes(), 0o600))
}

// batchReport is what `forebay batch run --json` prints.
type batchReport struct {
	Lines, Succeeded, Failed, Refused, Kept int
	CostUSD                                 float64 `json:"cost_usd"`
	PaidUSD                                 float64 `json:"paid_usd"`
	Batches                                 []string
}

// batchProcess is a `forebay batch run`.
type batchProcess struct {
	cmd            *exec.Cmd
	stdout, stderr *stream
	ended          chan struct{}
}

func (b *batchSite) start(flags ...string) *batchProcess {
	b.t.Helper()
	args := append([]string{"batch", "run", b.in, "-o", b.out, "--type", "fast_summary", "--json"}, flags...)
	p := &batchProcess{cmd: b.command(args...), stdout: &stream{}, stderr: &stream{}, ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, p.stderr
	require.NoError(b.t, p.cmd.Start())
	go func() {
		_ = p.cmd.Wait()
		close(p.ended)
	}()
	b.t.Cleanup(p.kill)
	return p
}

func (p *batchProcess) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// finish waits for the end of a run that is to succeed, and returns its report.
func (b *batchSite) finish(p *batchProcess, status int) batchReport {
	b.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(2 * time.Minute):
		require.Fail(b.t, "the run did not end within 2m", "%s", p.stderr.text())
	}
	require.Equal(b.t, status, p.cmd.ProcessState.ExitCode(), p.stderr.text())
	if usage, ok := p.cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		b.t.Logf("%d lines, %.0f MB of memory at its peak (of the system's counting)", len(b.texts), float64(usage.Maxrss)/1024)
	}
	var report batchReport
	if out := p.stdout.text(); out != "" {
		require.NoError(b.t, json.Unmarshal([]byte(out), &report), out)
	}
	return report
}

// answers reads the output: every line once, in the order of the input.
func (b *batchSite) answers() []string {
	b.t.Helper()
	data, err := os.ReadFile(b.out)
	require.NoError(b.t, err)
	var list []string
	for line := range strings.Lines(string(data)) {
		var answer struct{ ID, Text string }
		require.NoError(b.t, json.Unmarshal([]byte(line), &answer))
		require.NotEmpty(b.t, answer.Text)
		list = append(list, answer.ID)
	}
	return list
}

func (b *batchSite) requireWhole() {
	b.t.Helper()
	answers := b.answers()
	require.Len(b.t, answers, len(b.texts))
	for i, id := range answers {
		require.Equal(b.t, fmt.Sprint("doc-", i), id)
	}
}

// repeated is how many calls were made beyond one for each job.
func (b *batchSite) repeated() int {
	more := 0
	for _, job := range b.sim.Counters().Jobs {
		more += int(job.Asked) - 1
	}
	return more
}

func (b *batchSite) awaitShare(percent int) {
	b.t.Helper()
	b.eventually(fmt.Sprintf("%d %% are answered", percent), func() bool {
		return b.sim.Counters().JobsAnswered >= len(b.texts)*percent/100
	})
}

// A run goes on after kill -9 of whatever there is, at 30, 60 and 90 %, and nothing is called twice but what was out then.
func TestBatchRunSurvivesKills(t *testing.T) {
	t.Parallel()
	lines := batchKillLines
	if long := os.Getenv("FOREBAY_BATCH_KILL_LINES"); long != "" {
		_, err := fmt.Sscan(long, &lines)
		require.NoError(t, err)
	}
	const slots = 8
	latency := simulator.Distribution{Min: 60 * time.Millisecond, Max: 120 * time.Millisecond}
	begin := func(t *testing.T) *batchSite {
		t.Helper()
		return batchDeploy(t, lines, site{slots: slots, regions: []simulator.RegionConfig{{Name: "first", Latency: latency}}})
	}
	shares := []int{30, 60, 90}
	t.Run("the command", func(t *testing.T) {
		t.Parallel()
		b := begin(t)
		b.startWorkers(1)
		run := b.start()
		for _, share := range shares {
			b.awaitShare(share)
			run.kill()
			run = b.start()
		}
		report := b.finish(run, 0)
		assert.Equal(t, lines, report.Succeeded)
		assert.Zero(t, b.repeated(), "the workers went on")
		b.requireWhole()
	})
	t.Run("the worker", func(t *testing.T) {
		t.Parallel()
		b := begin(t)
		scheduler := b.command("scheduler")
		require.NoError(t, scheduler.Start())
		t.Cleanup(func() {
			_ = scheduler.Process.Kill()
			_ = scheduler.Wait()
		})
		workers := b.startWorkers(1)
		run := b.start()
		for _, share := range shares {
			b.awaitShare(share)
			workers[0].kill()
			workers = b.startWorkers(1)
		}
		report := b.finish(run, 0)
		assert.Equal(t, lines, report.Succeeded)
		assert.LessOrEqual(t, b.repeated(), len(shares)*slots, "beyond the calls that were out at the kills")
		b.requireWhole()
	})
	t.Run("Redis", func(t *testing.T) {
		t.Parallel()
		b := begin(t)
		b.startWorkers(1)
		run := b.start()
		for _, share := range shares {
			b.awaitShare(share)
			b.server.Kill()
			b.server.Start()
		}
		report := b.finish(run, 0)
		assert.Equal(t, lines, report.Succeeded)
		assert.LessOrEqual(t, b.repeated(), len(shares)*slots, "beyond the calls that were out at the kills")
		b.requireWhole()
	})
}

// Of a changed input only what asks something new is done, also when nothing is left of the records; and what it costs is
// what a dry run has said.
func TestBatchRunPaysOnce(t *testing.T) {
	t.Parallel()
	b := batchDeploy(t, 30, site{})
	b.startWorkers(1)
	first := b.finish(b.start(), 0)
	assert.Equal(t, 30, first.Succeeded)
	b.requireWhole()
	assert.Equal(t, 30, b.asked())

	again := b.finish(b.start(), 0)
	assert.Equal(t, []int{30, 30}, []int{again.Succeeded, again.Kept})
	assert.Equal(t, 30, b.asked(), "the same files cost nothing")
	assert.Zero(t, again.PaidUSD)

	require.NoError(t, b.redis.FlushAll(t.Context()).Err(), "the records are gone")
	b.texts[3] = "Another document. " + text
	b.texts = append([]string{"A document in front. " + text}, b.texts[:29]...)
	b.writeInput()
	changed := b.finish(b.start(), 0)
	assert.Equal(t, 30, changed.Lines)
	assert.Equal(t, 28, changed.Kept)
	assert.Equal(t, 32, b.asked(), "two lines are new")
	assert.Len(t, changed.Batches, 2)
	b.requireWhole()
	assert.InDelta(t, first.CostUSD*32/30, changed.CostUSD, first.CostUSD/10)
}

func TestBatchRunOddLines(t *testing.T) {
	t.Parallel()
	b := batchDeploy(t, 0, site{})
	b.startWorkers(1)
	require.NoError(t, os.WriteFile(b.in, []byte(`{"id":"a","text":"`+text+`"}`+"\nnot json\n"+`{"id":"b","text":"B. `+text+`"}`), 0o600))
	report := b.finish(b.start(), 1)
	assert.Equal(t, []int{3, 2, 0, 1}, []int{report.Lines, report.Succeeded, report.Failed, report.Refused})
	assert.Equal(t, []string{"a", "b"}, b.answers())
	errors, err := os.ReadFile(b.out + ".errors.jsonl")
	require.NoError(t, err)
	assert.JSONEq(t, `{"id":"2","line":2,"status":"refused","error":{"class":"invalid","code":"invalid_line",
		"message":"not JSON at byte 2: invalid character 'o' in literal null (expecting 'u')"}}`, string(errors))

	// OpenAI's lines come back as OpenAI's; a model that there is none of refuses its line alone.
	require.NoError(t, os.WriteFile(b.in, []byte(`{"custom_id":"x","method":"POST","url":"/v1/chat/completions","body":{"model":"fast_summary","messages":[{"role":"user","content":"`+text+`"}]}}
{"custom_id":"y","method":"POST","url":"/v1/chat/completions","body":{"model":"none","messages":[{"role":"user","content":"y"}]}}
`), 0o600))
	b.out = filepath.Join(b.dir, "calls.jsonl")
	report = b.finish(b.start(), 1)
	assert.Equal(t, []int{1, 0, 1}, []int{report.Succeeded, report.Failed, report.Refused})
	data, err := os.ReadFile(b.out)
	require.NoError(t, err)
	assert.Contains(t, string(data), `"custom_id":"x","response":{"status_code":200,`)
	errors, err = os.ReadFile(b.out + ".errors.jsonl")
	require.NoError(t, err)
	assert.Contains(t, string(errors), `"custom_id":"y","response":null,"error":{"code":"invalid_line","message":"model_not_found: `)

	// What only the catalog refuses is a job that has failed.
	require.NoError(t, os.WriteFile(b.in, []byte(`{"id":"p","task_type":"fast_summary","input":"`+text+`"}
{"id":"q","task_type":"fast_summaries","input":"x"}
`), 0o600))
	b.out = filepath.Join(b.dir, "jobs.jsonl")
	report = b.finish(b.start(), 1)
	assert.Equal(t, []int{1, 1}, []int{report.Succeeded, report.Failed})
	assert.Equal(t, []string{"p"}, b.answers())
	errors, err = os.ReadFile(b.out + ".errors.jsonl")
	require.NoError(t, err)
	assert.Contains(t, string(errors), `did you mean \"fast_summary\"?`)
}

// Nothing passes --max-cost, and with more it goes on.
func TestBatchRunMaxCost(t *testing.T) {
	t.Parallel()
	b := batchDeploy(t, 40, site{})
	b.startWorkers(1)
	stopped := b.start("--max-cost", "0.006") // a call costs 0.0026 at its worst, and a tenth of that
	b.finish(stopped, 1)
	assert.Contains(t, stopped.stderr.text(), "lines are left")
	assert.NoFileExists(t, b.out)
	asked := b.asked()
	assert.Positive(t, asked)
	assert.Less(t, asked, 40)
	report := b.finish(b.start("--max-cost", "1"), 0)
	assert.Equal(t, 40, report.Succeeded)
	assert.Equal(t, 40, b.asked())
	b.requireWhole()
}

// Without a worker it says so; Ctrl-C leaves the batch running, and the same command takes it up.
func TestBatchRunWithoutWorkers(t *testing.T) {
	t.Parallel()
	b := batchDeploy(t, 20, site{})
	run := b.start()
	b.eventually("the run says that there is no worker", func() bool { return strings.Contains(run.stderr.text(), "no worker is alive") })
	b.eventually("all is enqueued", func() bool {
		tasks, err := b.redis.Keys(t.Context(), "asynq:{bulk}:t:*").Result()
		return err == nil && len(tasks) == 20
	})
	require.NoError(t, run.cmd.Process.Signal(syscall.SIGINT))
	b.finish(run, 130)
	assert.Contains(t, run.stderr.text(), "goes on in the deployment: batch batch_")
	b.startWorkers(1)
	b.awaitShare(100)
	report := b.finish(b.start(), 0)
	assert.Equal(t, 20, report.Succeeded)
	assert.Equal(t, 20, b.asked())
	b.requireWhole()
}

// A dry run over the corpus says what the run then costs, within 5 %.
func TestBatchRunQuote(t *testing.T) {
	t.Parallel()
	b := batchDeploy(t, 0, site{})
	b.startWorkers(1)
	documents := loadCorpus(t)
	for _, document := range documents {
		b.texts = append(b.texts, document.Text)
	}
	b.writeInput()
	var quote struct {
		Jobs    int
		CostUSD float64 `json:"cost_usd"`
	}
	dry := b.start("--dry-run")
	<-dry.ended
	require.NoError(t, json.Unmarshal([]byte(dry.stdout.text()), &quote), dry.stderr.text())
	assert.Equal(t, len(documents), quote.Jobs)
	assert.Zero(t, b.asked(), "nothing is done")
	report := b.finish(b.start(), 0)
	t.Logf("%d documents: quoted $%.6f, cost $%.6f", len(documents), quote.CostUSD, report.CostUSD)
	assert.InEpsilon(t, report.CostUSD, quote.CostUSD, 0.05)
}

// --local needs nothing else, and is taken up after kill -9 too.
func TestBatchRunLocal(t *testing.T) {
	t.Parallel()
	b := batchDeploy(t, 60, site{})
	run := b.start("--local")
	b.eventually("some are answered", func() bool {
		data, err := os.ReadFile(filepath.Join(b.out+".forebay", "answers.jsonl"))
		return err == nil && bytes.Count(data, []byte("\n")) >= 10
	})
	run.kill()
	run = b.start("--local")
	report := b.finish(run, 0)
	assert.Equal(t, 60, report.Succeeded)
	assert.GreaterOrEqual(t, report.Kept, 10)
	assert.Contains(t, run.stderr.text(), "simulated: nothing is billed")
	b.requireWhole()
}

// Killed and started again at many moments, from the first on, nothing is called twice: the workers go on.
func TestBatchRunKilledAtAnyMoment(t *testing.T) {
	t.Parallel()
	b := batchDeploy(t, 300, site{regions: []simulator.RegionConfig{{Name: "first", Latency: simulator.Distribution{Min: 40 * time.Millisecond}}}})
	b.startWorkers(1)
	for i := range 8 {
		run := b.start()
		time.Sleep(time.Duration(60+70*i) * time.Millisecond) // of a process that says nothing
		run.kill()
	}
	report := b.finish(b.start(), 0)
	assert.Equal(t, 300, report.Succeeded)
	assert.Zero(t, b.repeated())
	assert.Equal(t, 300, b.asked())
	b.requireWhole()
}

// What failed stays so until it is asked for, and is then done again alone.
func TestBatchRunRetriesFailures(t *testing.T) {
	t.Parallel()
	b := batchDeploy(t, 6, site{})
	b.startWorkers(1)
	require.NoError(t, b.sim.Region("first").SetOutage("400"))
	report := b.finish(b.start(), 1)
	assert.Equal(t, 6, report.Failed)
	b.sim.Region("first").ClearOutage()
	report = b.finish(b.start(), 1)
	assert.Equal(t, []int{6, 6}, []int{report.Failed, report.Kept})
	assert.Equal(t, 6, b.asked())

	b.texts = append(b.texts, "One more. "+text)
	b.writeInput()
	report = b.finish(b.start("--retry-failed"), 0)
	assert.Equal(t, 7, report.Succeeded)
	assert.Equal(t, 13, b.asked())
	b.requireWhole()
	assert.NoFileExists(t, b.out+".errors.jsonl")

	// `forebay batch retry-failed` does the same, and the run takes the answers in.
	b.texts = append(b.texts, "Another one. "+text)
	b.writeInput()
	require.NoError(t, b.sim.Region("first").SetOutage("400"))
	report = b.finish(b.start(), 1)
	assert.Equal(t, []int{7, 1}, []int{report.Succeeded, report.Failed})
	b.sim.Region("first").ClearOutage()
	for _, batch := range report.Batches {
		require.NoError(t, b.command("batch", "retry-failed", batch).Run())
	}
	report = b.finish(b.start(), 0)
	assert.Equal(t, 8, report.Succeeded)
	assert.Equal(t, 15, b.asked())
	b.requireWhole()
}

// The job of a line that is gone, or asks something else, is cancelled before anybody pays for it, and the batch ends.
func TestBatchRunDropsLines(t *testing.T) {
	t.Parallel()
	b := batchDeploy(t, 10, site{})
	run := b.start()
	b.eventually("all is enqueued", func() bool {
		tasks, err := b.redis.Keys(t.Context(), "asynq:{bulk}:t:*").Result()
		return err == nil && len(tasks) == 10
	})
	run.kill()
	b.texts = append(b.texts[:4], b.texts[5:]...)
	b.texts[2] = "Something else. " + text
	b.writeInput()
	run = b.start()
	b.eventually("it goes on", func() bool { return strings.Contains(run.stderr.text(), "no worker is alive") })
	b.eventually("the two are cancelled", func() bool {
		data, err := os.ReadFile(filepath.Join(b.out+".forebay", "answers.jsonl"))
		return err == nil && bytes.Count(data, []byte(`"dropped"`)) >= 2
	})
	b.startWorkers(1)
	report := b.finish(run, 0)
	assert.Equal(t, 9, report.Succeeded)
	assert.Equal(t, 9, b.asked())
	b.requireWhole()
	require.Len(t, report.Batches, 1)
	batch, err := b.producer.Batches().Get(t.Context(), report.Batches[0], "default")
	require.NoError(t, err)
	assert.Equal(t, batches.StatusCompleted, batch.Status)
	assert.Equal(t, batches.Counts{Succeeded: 9, Cancelled: 2}, batch.Counts)
	assert.InDelta(t, report.CostUSD, batch.CostUSD, 1e-9)
}
