package main_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/deploy/simulator"
	"github.com/forebay-queue/forebay/producer"
)

// openaiSDK installs OpenAI's client for Node and the library of Standard Webhooks, once, beside the programs of testdata that use it.
var openaiSDK = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(binaryDir, "openai")
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	output, err := exec.CommandContext(ctx, "npm", "install", "--no-audit", "--no-fund", "--prefix", dir, "openai@^6", "standardwebhooks@^1.1.1").CombinedOutput()
	if err != nil {
		return string(output), err
	}
	return dir, os.CopyFS(dir, os.DirFS("testdata"))
})

// node runs a program of testdata with OpenAI's client. Where Node or npm is missing the test is skipped, and says so.
func node(t *testing.T, args ...string) string {
	t.Helper()
	output, err := nodeCommand(t, args...).CombinedOutput()
	require.NoError(t, err, string(output))
	return strings.TrimSpace(string(output))
}

func nodeCommand(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	if _, err := exec.LookPath("node"); err != nil {
		t.Skip("SKIPPED: node is not installed, so that OpenAI's client is not tried")
	}
	dir, err := openaiSDK()
	if err != nil {
		t.Skipf("SKIPPED: OpenAI's client for Node cannot be installed: %v: %s", err, lastLines(dir, 3))
	}
	cmd := exec.CommandContext(t.Context(), "node", args...)
	cmd.Dir = dir
	return cmd
}

// serveHTTP starts a producer and waits until it serves.
func (d *deployment) serveHTTP(t *testing.T) (cmd *exec.Cmd, address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address = listener.Addr().String()
	require.NoError(t, listener.Close())
	cmd = d.failing("", "producer", "--listen", address)
	d.eventually("a producer serves", func() bool {
		answer, err := http.Get("http://" + address + "/readyz")
		if err == nil {
			_ = answer.Body.Close()
		}
		return err == nil && answer.StatusCode == http.StatusOK
	})
	return cmd, address
}

// balance passes connections on to the first of the addresses that takes them.
func balance(t *testing.T, addresses ...string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var group sync.WaitGroup
	t.Cleanup(func() {
		_ = listener.Close()
		group.Wait()
	})
	pass := func(client net.Conn) {
		defer client.Close()
		for _, address := range addresses {
			server, err := net.Dial("tcp", address)
			if err != nil {
				continue
			}
			group.Go(func() {
				_, _ = io.Copy(server, client)
				_ = server.Close()
			})
			_, _ = io.Copy(client, server)
			return
		}
	}
	group.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			group.Go(func() { pass(client) })
		}
	})
	return listener.Addr().String()
}

// Programs that use OpenAI's client change its base URL, and nothing else.
func TestOpenAIsClient(t *testing.T) {
	t.Parallel()
	d := deploy(t, site{})
	d.startWorkers(1)
	_, address := d.serveHTTP(t)
	for _, what := range []string{"chat", "stream", "embeddings", "models", "errors"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			node(t, "openai_calls.mjs", "http://"+address+"/v1", what)
		})
	}
}

// What OpenAI's client repeats, since it gave up or its producer was killed, is done and paid for once.
func TestOpenAIsClientComesAgain(t *testing.T) {
	t.Parallel()
	d := deploy(t, site{regions: []simulator.RegionConfig{{Name: "first", Latency: simulator.Distribution{Min: 2 * time.Second}}}})
	d.startWorkers(1)
	first, firstAddress := d.serveHTTP(t)
	_, secondAddress := d.serveHTTP(t)
	jobs := func() []string {
		page, err := d.producer.List(t.Context(), producer.Filter{}, "", 100)
		require.NoError(t, err)
		var ids []string
		for _, row := range page.Jobs {
			ids = append(ids, row.ID)
		}
		return ids
	}
	calls := func() int {
		made := 0
		for _, id := range jobs() {
			result, err := d.producer.Get(t.Context(), id)
			require.NoError(t, err)
			made += len(result.Attempts)
		}
		return made
	}

	assert.Equal(t, []string{node(t, "openai_calls.mjs", "http://"+firstAddress+"/v1", "retry")}, jobs())
	assert.Equal(t, 1, calls())

	balanced := balance(t, firstAddress, secondAddress)
	var output bytes.Buffer
	again := nodeCommand(t, "openai_calls.mjs", "http://"+balanced+"/v1", "killed")
	again.Stdout, again.Stderr = &output, &output
	require.NoError(t, again.Start())
	d.eventually("the second call is out", func() bool { return calls() == 2 })
	require.NoError(t, first.Process.Kill())
	require.NoError(t, again.Wait(), output.String())
	assert.Contains(t, jobs(), strings.TrimSpace(output.String()))
	assert.Len(t, jobs(), 2)
	assert.Equal(t, 2, calls())
}
