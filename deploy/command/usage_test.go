package command

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestWhatIsNotUnderstoodEndsWithTwo(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ line, want string }{
		{"stauts", "unknown command \"stauts\", did you mean status?; see `forebay --help`"},
		{"xyzzy --with flags", "unknown command \"xyzzy\"; see `forebay --help`"},
		{"--bogus", "unknown flag: --bogus; see `forebay --help`"},
		{"config chekc", "unknown command \"chekc\", did you mean check?; see `forebay config --help`"},
		{"get", "takes the id of one job, got 0 arguments; see `forebay get --help`"},
		{"get a --timeout 3s", "--timeout must be positive, and belongs to --wait; see `forebay get --help`"},
		{"get a --text --json", "--text stands beside --json; give one of them; see `forebay get --help`"},
		{"cancel a b", "takes the id of one job, got 2 arguments; see `forebay cancel --help`"},
		{"version x", "unknown command \"x\" for \"forebay version\"; see `forebay version --help`"},
		{"enqueue", "give what the job asks for, once: --file, --input, --request, --job, or - for the standard input; see `forebay enqueue --help`"},
		{"enqueue --input a --job b", "give what the job asks for, once: --file, --input, --request, --job, or - for the standard input; see `forebay enqueue --help`"},
		{"enqueue doc.txt", "takes flags only, or - for the standard input, got \"doc.txt\"; a file is named with --file; see `forebay enqueue --help`"},
		{"enqueue - --file x", "- stands beside --file; give one of them; see `forebay enqueue --help`"},
		{"enqueue --input a --metadata b", "--metadata must be key=value, got \"b\"; see `forebay enqueue --help`"},
		{"enqueue --input a --deadline soon", "--deadline must be a time such as 2026-12-31T08:00:00Z or a duration such as 90m, got \"soon\"; see `forebay enqueue --help`"},
		{"enqueue --input a --retention 0", "--retention must be 1s to 8784h, got 0s; leave it out for the configuration's; see `forebay enqueue --help`"},
		{"enqueue --input a --max-retries 99999999999999999999", "--max-retries: 99999999999999999999 is too large a number; see `forebay enqueue --help`"},
		{"enqueue --input a --max-cost 0", "--max-cost must be more than 0 and at most 1000000 US dollars, got 0; leave it out for no limit; see `forebay enqueue --help`"},
		{"enqueue --input a --max-cost=-1", "--max-cost must be more than 0 and at most 1000000 US dollars, got -1; leave it out for no limit; see `forebay enqueue --help`"},
		{"enqueue --input a --max-cost NaN", "--max-cost must be more than 0 and at most 1000000 US dollars, got NaN; leave it out for no limit; see `forebay enqueue --help`"},
		{"enqueue --input a --max-cost $1", "--max-cost must be a number, got \"$1\"; see `forebay enqueue --help`"},
		{"enqueue --input a --max-retries many", "--max-retries must be a whole number, got \"many\"; see `forebay enqueue --help`"},
		{"enqueue --input a --max-retries " + strings.Repeat("x", 1000), "--max-retries must be a whole number, got \"" + strings.Repeat("x", 39) + "...\"; see `forebay enqueue --help`"},
		{"get a --timeout soon", "--timeout must be a duration such as 90s or 24h, got \"soon\"; see `forebay get --help`"},
		{"get a --wait=maybe", "--wait must be true or false, got \"maybe\"; see `forebay get --help`"},
		{"status --log-level loud", "--log-level must be debug, info, warn or error, got \"loud\"; see `forebay status --help`"},
		{"version --log-format xml", "--log-format must be console, json or auto, got \"xml\"; see `forebay version --help`"},
		{"simulate --region tokyo:fast", "--region \"tokyo:fast\": \"fast\" cannot be read; write it as in tokyo:50ms-300ms:rpm=60:failures=0.1; see `forebay simulate --help`"},
		{"simulate --outage mars:500", "--outage \"mars:500\": there is no region \"mars\"; see `forebay simulate --help`"},
		{"bench list --all", "`forebay bench` is not available yet; `forebay --help` lists what is"},
	} {
		t.Run(test.line, func(t *testing.T) {
			t.Parallel()
			got := inProcess(t, "", strings.Fields(test.line)...)
			assert.Equal(t, "forebay: "+test.want+"\n", got.stderr)
			assert.Equal(t, exitUsage, got.status)
			assert.Empty(t, got.stdout)
		})
	}
}

func TestCommandsToComeAreRefusedByName(t *testing.T) {
	t.Parallel()
	help := inProcess(t, "", "--help")
	assert.Equal(t, exitOK, help.status)
	for _, name := range later {
		got := inProcess(t, "", name, "--help")
		assert.Equal(t, exitUsage, got.status, name)
		assert.Contains(t, got.stderr, "`forebay "+name+"` is not available yet")
		assert.NotContains(t, help.stdout, "\n  "+name+" ", "what cannot be used is not offered")
	}
	for _, name := range []string{"demo", "dev", "worker", "producer", "scheduler", "enqueue", "get", "cancel", "jobs", "status", "queue", "breaker", "keys", "doctor", "simulate", "config", "version"} {
		assert.Contains(t, help.stdout, "\n  "+name+" ")
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	got := inProcess(t, "", "version", "--json")
	require.Equal(t, exitOK, got.status, got.stderr)
	var reply versionReply
	require.NoError(t, json.Unmarshal([]byte(got.stdout), &reply))
	assert.NotEmpty(t, reply.Version)
	assert.True(t, strings.HasPrefix(reply.Go, "go1."), reply.Go)
	assert.Equal(t, "forebay v1.2.3 (0123456789ab, modified, 2026-01-02T03:04:05Z) go1.26.0 linux/amd64", versionReply{
		Version: "v1.2.3", Commit: "0123456789abcdef", Date: "2026-01-02T03:04:05Z", Modified: true, Go: "go1.26.0", Platform: "linux/amd64",
	}.String())
}

func TestReportWritesHarmlessLines(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	status := report(&out, assert.AnError)
	assert.Equal(t, exitFailed, status)
	assert.Equal(t, "forebay: "+assert.AnError.Error()+"\n", out.String())
	assert.Equal(t, "[31mred  of two lines", printable("\x1b[31mred\n\tof two lines\a\n"))
	assert.Equal(t, exitOK, report(&out, nil))
	assert.Equal(t, exitFailed, report(&out, errTold))
}

func TestTheVersionIsAFlagToo(t *testing.T) {
	t.Parallel()
	got := inProcess(t, "", "--version")
	assert.Equal(t, exitOK, got.status, got.stderr)
	assert.Equal(t, inProcess(t, "", "version").stdout, got.stdout)
}
