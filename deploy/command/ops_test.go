package command

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/deploy/config"
)

// opsURL is where a process serves health and metrics.
func opsURL(t *testing.T, p *process) string {
	t.Helper()
	return "http://" + p.address(t, "health and metrics are served")
}

// address waits for a line of the log that names an address, and returns it.
func (p *process) address(t *testing.T, told string) string {
	t.Helper()
	p.stderr.await(t, told)
	for line := range strings.SplitSeq(p.stderr.text(), "\n") {
		var said struct{ Message, Address string }
		if json.Unmarshal([]byte(line), &said) == nil && said.Message == told {
			return said.Address
		}
	}
	require.Fail(t, "no line names an address and says: "+told, p.stderr.text())
	return ""
}

// fetch asks an address. The status is 0 where nobody answers.
func fetch(t *testing.T, url string) (int, string) {
	t.Helper()
	answer, err := http.Get(url)
	if err != nil {
		return 0, err.Error()
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return answer.StatusCode, string(body)
}

// Each process that stays says how it is, of the built program; without Redis it lives and takes no work.
func TestEveryProcessSaysHowItIs(t *testing.T) {
	t.Parallel()
	d := newSite(t)
	flags := []string{"--ops-listen", "127.0.0.1:0", "--log-format", "json"}
	processes := map[string]*process{
		"worker":    d.start(t, append(flags, "worker")...),
		"scheduler": d.start(t, append(flags, "scheduler")...),
		"producer":  d.start(t, append(flags, "producer", "--listen", "off")...),
	}
	for name, p := range processes {
		url := opsURL(t, p)
		eventually(t, name+" is ready", func() bool {
			status, _ := fetch(t, url+"/readyz")
			return status == http.StatusOK
		})
		status, body := fetch(t, url+"/healthz")
		assert.Equal(t, http.StatusOK, status, name)
		assert.JSONEq(t, `{"status":"ok"}`, body, name)
		status, body = fetch(t, url+"/metrics")
		assert.Equal(t, http.StatusOK, status, name)
		assert.Contains(t, body, "forebay_build_info{", name)
		assert.Contains(t, body, "go_goroutines", name)
	}
	require.NoError(t, d.client.Do(t.Context(), "CLIENT", "PAUSE", "60000", "ALL").Err())
	for name, p := range processes {
		url := opsURL(t, p)
		status, body := fetch(t, url+"/readyz")
		assert.Equal(t, http.StatusServiceUnavailable, status, name)
		assert.Contains(t, body, `"reason":"`, name)
		status, _ = fetch(t, url+"/healthz")
		assert.Equal(t, http.StatusOK, status, "%s: a new start would not bring Redis back", name)
	}
}

// Two processes of a machine share a configuration: the second goes on without. The flag is meant for one.
func TestAnAddressThatIsTaken(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	address := taken.Addr().String()
	d := newSite(t)
	refused := d.run(t, "worker", "--ops-listen", address)
	assert.Equal(t, exitFailed, refused.status)
	assert.Equal(t, fmt.Sprintf("forebay: cannot listen on %s: bind: address already in use; choose another address, or port 0 for a free one\n", address), refused.stderr)

	d.edit(t, "listen: "+config.DefaultOpsListen, "listen: "+address)
	worker := d.worker(t)
	assert.Contains(t, worker.stderr.text(), "health and metrics are not served: another process has the address")
	assert.Equal(t, exitUsage, d.run(t, "worker", "--ops-listen", "9464").status)
	assert.Equal(t, exitUsage, d.run(t, "scheduler", "--ops-listen", "").status)
	off := d.start(t, "scheduler", "--ops-listen", "off", "--log-format", "json")
	off.stderr.await(t, "scheduler started")
	assert.NotContains(t, off.stderr.text(), "health and metrics")
}

// A configuration that is refused is counted once, however often it is looked at, and one that holds says since when.
func TestReloadsAreCounted(t *testing.T) {
	t.Parallel()
	d := newSite(t)
	worker := d.start(t, "worker", "--ops-listen", "127.0.0.1:0", "--log-format", "json")
	url := opsURL(t, worker)
	const failures, loaded = "forebay_config_reload_failures_total", "forebay_config_loaded_timestamp_seconds"
	before := scrape(t, url)
	assert.Zero(t, value(t, before, failures))
	assert.Positive(t, value(t, before, loaded))
	d.edit(t, "slots: 16", "slots: none")
	eventually(t, "the refusal is counted", func() bool { return value(t, scrape(t, url), failures) == 1 })
	d.edit(t, "slots: none", "slots: 16")
	d.edit(t, "daily_usd: 100", "daily_usd: 90")
	eventually(t, "the change is shown", func() bool { return value(t, scrape(t, url), loaded) > value(t, before, loaded) })
	assert.InDelta(t, 1, value(t, scrape(t, url), failures), 0)
}
