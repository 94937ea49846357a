package command

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// scrape returns what a process shows, once its names and texts have passed the client library's linter.
func scrape(t *testing.T, url string) string {
	t.Helper()
	status, text := fetch(t, url+"/metrics")
	require.Equal(t, http.StatusOK, status, text)
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	require.NoError(t, err)
	assert.Empty(t, problems)
	return text
}

// own are the lines of Forebay's own series.
func own(text string) []string {
	var lines []string
	for line := range strings.SplitSeq(text, "\n") {
		if strings.HasPrefix(line, "forebay_") {
			lines = append(lines, line)
		}
	}
	return lines
}

// value is that of a series, 0 where it is not there.
func value(t *testing.T, text, series string) float64 {
	t.Helper()
	for _, line := range own(text) {
		if rest, found := strings.CutPrefix(line, series+" "); found {
			var number float64
			_, err := fmt.Sscan(rest, &number)
			require.NoError(t, err)
			return number
		}
	}
	return 0
}

const (
	plantedPrompt = "PLANTEDPROMPT"
	plantedTenant = "plantedtenant"
	plantedPath   = "plantedpath"
	plantedSecret = "whsec_UExBTlRFRFNFQ1JFVFBMQU5URURTRUNSRVQ0Mg=="
	plantedKey    = "sk-plantedkey-0123456789abcdef"
)

// manyJobs sends jobs that differ in whatever a sender may choose. Every hundredth is not valid.
func manyJobs(t *testing.T, url, key string, from, until int) {
	t.Helper()
	for ; from < until; from += 1000 {
		jobs := make([]map[string]any, 0, 1000)
		for i := from; i < min(until, from+1000); i++ {
			job := map[string]any{
				"id": fmt.Sprint("job-", i), "task_type": "fast_summary", "priority": "bulk",
				"input":    fmt.Sprintf("%s number %d waits in front of the turbines. A gate lets it through.", plantedPrompt, i),
				"metadata": map[string]string{fmt.Sprint("key-", i): fmt.Sprint(plantedPrompt, i)},
			}
			if i%2 == 0 { // tenants that have no secret have no webhooks
				job["tenant"] = fmt.Sprint(plantedTenant, "-", i)
			} else {
				job["webhook"] = map[string]string{"url": fmt.Sprintf("http://127.%d.%d.1:9/%s-%d", i/250%250, i%250, plantedPath, i)}
			}
			if i%100 == 99 {
				job["task_type"] = fmt.Sprint("made-up-", i)
			}
			jobs = append(jobs, job)
		}
		body, err := json.Marshal(jobs)
		require.NoError(t, err)
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/v1/jobs", strings.NewReader(string(body)))
		require.NoError(t, err)
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("Authorization", "Bearer "+key)
		status, answer := ask(t, request)
		require.Equal(t, http.StatusOK, status, answer)
	}
}

// 20,000 jobs, of which 10,000 are of as many tenants and the others have as many webhook targets, make no series that 300 did not, in any process; and
// nothing of what was planted is in any of them.
func TestMetricsStayBoundedAndTellNothing(t *testing.T) {
	t.Parallel()
	const few, many = 1000, 20_000
	d := newSite(t)
	d.env = append(d.env, "PLANTED_SECRET="+plantedSecret, "PLANTED_KEY="+plantedKey)
	d.edit(t, "simulated: {}", "simulated: {key_env: PLANTED_KEY}")
	d.edit(t, "auth: none", "auth: bearer")
	d.edit(t, "allow_http: false", "allow_http: true\n  allow_networks: [127.0.0.0/8]\n  secrets: [{keys: [{env: PLANTED_SECRET}]}]")
	start := func(args ...string) (*process, string) {
		p := d.start(t, append(args, "--ops-listen", "127.0.0.1:0", "--log-format", "json")...)
		return p, opsURL(t, p)
	}
	_, worker := start("worker", "--slots", "64")
	_, scheduler := start("scheduler")
	producer, ways := start("producer", "--listen", "127.0.0.1:0")
	api := "http://" + producer.address(t, "HTTP interface listens")
	var made struct{ Secret string }
	require.NoError(t, json.Unmarshal([]byte(d.ok(t, "keys", "create", "--operator", "--json")), &made))
	processes := map[string]string{"worker": worker, "scheduler": scheduler, "producer": ways}

	after := func(jobs int) map[string]string {
		eventuallyWithin(t, 3*time.Minute, fmt.Sprint(jobs, " jobs are done, and their webhooks tried"), func() bool {
			text := scrape(t, worker)
			return value(t, text, `forebay_jobs_ended_total{code="",status="succeeded",task_type="fast_summary",tier="low"}`) == float64(jobs-jobs/100) &&
				value(t, text, `forebay_webhook_attempts_total{outcome="unreachable"}`) >= float64(jobs/2-jobs/100)
		})
		texts := map[string]string{}
		for name, url := range processes {
			texts[name] = scrape(t, url)
		}
		return texts
	}
	manyJobs(t, api, made.Secret, 0, few)
	before := after(few)
	at := before
	for sent := few; sent < many; sent += few {
		manyJobs(t, api, made.Secret, sent, sent+few)
		at = after(sent + few)
	}
	documented := documentedSeries(t)
	for name, text := range at {
		documented.describe(t, name, text)
		assert.InDelta(t, len(own(before[name])), len(own(text)), 40, "%s: a reason or an outcome may be new, with its buckets", name)
		assert.Less(t, len(own(text)), 600, name)
		for _, planted := range []string{plantedPrompt, plantedTenant, plantedPath, plantedSecret, plantedKey, made.Secret, "made-up", "job-", "127.1"} {
			assert.NotContains(t, text, planted, name)
		}
	}
	assert.InDelta(t, many-many/100, value(t, at["producer"], `forebay_jobs_accepted_total{way="http"}`), 0)
	assert.InDelta(t, many/100, value(t, at["producer"], `forebay_jobs_refused_total{code="invalid_job",way="http"}`), 0)
	assert.InDelta(t, 64, value(t, at["worker"], `forebay_slots{state="total"}`), 0)
	assert.InDelta(t, many-many/100, value(t, at["worker"], `forebay_queue_latency_seconds_count{queue="bulk"}`), 0)
	assert.Regexp(t, `forebay_jobs_ended_by_route_total\{endpoint="simulated-[a-z0-9-]+",model="[^"]+",status="succeeded"\} `, at["worker"])
	assert.Regexp(t, `forebay_ledger_attempts_total\{endpoint="simulated-[a-z0-9-]+",state="settled"\} `, at["worker"])
	assert.Regexp(t, `forebay_open_attempts\{endpoint="simulated-[a-z0-9-]+"\} 0`, at["worker"])
	t.Logf("series: worker %d, scheduler %d, producer %d", len(own(at["worker"])), len(own(at["scheduler"])), len(own(at["producer"])))
	assert.InDelta(t, 1, value(t, at["scheduler"], "forebay_leader"), 0)
}

// documented are the series of docs/metrics.md by their names.
type documented map[string]struct {
	labels    []string
	processes string
}

var metricsRow = regexp.MustCompile("(?m)^\\| `(forebay_[a-z_]+)` \\| (?:counter|gauge|histogram) \\| ([a-z_`, -]*) \\| ([a-z, ]+) \\| .+ \\|$")

func documentedSeries(t *testing.T) documented {
	t.Helper()
	text, err := os.ReadFile("../../docs/metrics.md")
	require.NoError(t, err)
	known := documented{}
	for _, row := range metricsRow.FindAllStringSubmatch(string(text), -1) {
		entry := known[row[1]]
		entry.labels, entry.processes = strings.FieldsFunc(strings.Trim(row[2], "-"), func(r rune) bool { return strings.ContainsRune("`, ", r) }), row[3]
		known[row[1]] = entry
	}
	return known
}

var (
	metricName  = regexp.MustCompile(`^([a-z_]+?)(?:_bucket|_sum|_count)?(?:\{|$)`)
	metricLabel = regexp.MustCompile(`[{,]([a-z_]+)="`)
)

// describe checks that what a process shows is documented: its name, its labels, and that this process shows it.
func (d documented) describe(t *testing.T, process, text string) {
	t.Helper()
	for _, line := range own(text) {
		shown := line[:strings.LastIndexByte(line, ' ')]
		name := metricName.FindStringSubmatch(shown)[1]
		entry, found := d[name]
		if !assert.True(t, found, "docs/metrics.md lacks %s", name) {
			continue
		}
		assert.Contains(t, entry.processes, process, name)
		for _, label := range metricLabel.FindAllStringSubmatch(shown, -1) {
			if label[1] != "le" {
				assert.Contains(t, entry.labels, label[1], "docs/metrics.md on %s", name)
			}
		}
	}
}

// Every series that the code names is documented, and no other.
func TestEverySeriesIsDocumented(t *testing.T) {
	t.Parallel()
	named := map[string]bool{}
	literal := regexp.MustCompile(`"(forebay_[a-z_]+)"`)
	for _, folder := range []string{"tasks", "producer", "worker", "scheduler", "deploy"} {
		require.NoError(t, filepath.WalkDir(filepath.Join("../..", folder), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			for _, found := range literal.FindAllStringSubmatch(string(text), -1) {
				named[found[1]] = true
			}
			return err
		}))
	}
	require.Greater(t, len(named), 30)
	known := documentedSeries(t)
	assert.ElementsMatch(t, slices.Sorted(maps.Keys(named)), slices.Sorted(maps.Keys(known)))

	// What rules and dashboards are held against.
	text, err := os.ReadFile("../prometheus/series.txt")
	require.NoError(t, err)
	listed := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		if words := strings.Fields(line); strings.HasPrefix(line, "forebay_") {
			listed[words[0]] = true
			labels := strings.FieldsFunc(words[2], func(r rune) bool { return r == ',' || r == '-' })
			assert.ElementsMatch(t, known[words[0]].labels, labels, words[0])
		}
	}
	assert.ElementsMatch(t, slices.Sorted(maps.Keys(known)), slices.Sorted(maps.Keys(listed)))
}
