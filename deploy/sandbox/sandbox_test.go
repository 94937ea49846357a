package sandbox_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/forebay-queue/forebay/deploy/config"
	"github.com/forebay-queue/forebay/deploy/sandbox"
	"github.com/forebay-queue/forebay/deploy/simulator"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/gate"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

const text = "Water waits in front of the turbines. A gate lets it through when it can be used. " +
	"The pool is called a forebay, and it evens out what the river brings. Its gate is opened by hand."

// quick are two regions that answer at once.
func quick() []sandbox.Region {
	return []sandbox.Region{{Name: "simulated-a", Region: "a-1"}, {Name: "simulated-b", Region: "b-1"}}
}

func start(t *testing.T, c sandbox.Config) *sandbox.Sandbox {
	t.Helper()
	s, err := sandbox.Start(t.Context(), c)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close(context.WithoutCancel(t.Context()))) })
	return s
}

func run(t *testing.T, s *sandbox.Sandbox) tasks.Result {
	t.Helper()
	receipt, err := s.Client.Enqueue(t.Context(), tasks.Job{TaskType: "fast_summary", Input: text})
	require.NoError(t, err)
	result, err := s.Client.Wait(t.Context(), receipt.ID)
	require.NoError(t, err)
	require.Equal(t, tasks.StatusSucceeded, result.Status, "%+v", result.Error)
	return result
}

// TestStartAndClose is not parallel: it looks at all goroutines of the process.
func TestStartAndClose(t *testing.T) { //nolint:paralleltest // goroutines of other tests would count as leaks
	defer goleak.VerifyNone(t)
	s, err := sandbox.Start(t.Context(), sandbox.Config{Regions: quick(), Workers: 2, Slots: 2})
	require.NoError(t, err)
	result := run(t, s)
	assert.Equal(t, "simulated-a", result.Endpoint)
	assert.Equal(t, "a-1", result.Region)
	for sentence := range strings.SplitSeq(result.Text, "\n\n") {
		assert.Contains(t, text, sentence)
	}
	assert.Positive(t, result.CostUSD)

	var states []gate.EndpointState
	require.Eventually(t, func() bool { // the breaker is told right after the result has been written
		states, err = s.Endpoints(t.Context())
		return err == nil && len(states) == 2 && states[0].Successes == 1
	}, 5*time.Second, time.Millisecond)
	assert.Equal(t, gate.Endpoint{Account: "simulated", Name: "simulated-a"}, states[0].Endpoint)
	assert.EqualValues(t, 1, s.Simulator.Counters().Total.Answered)

	http.DefaultClient.CloseIdleConnections()
	require.NoError(t, s.Close(t.Context()))
	require.NoError(t, s.Close(t.Context()), "a second Close does nothing")
}

func TestCloseGivesUpWhatHangs(t *testing.T) { //nolint:paralleltest // goroutines of other tests would count as leaks
	defer goleak.VerifyNone(t)
	regions := quick()
	regions[0].Outages = []simulator.Outage{{Kinds: []string{"hang"}}}
	s, err := sandbox.Start(t.Context(), sandbox.Config{Regions: regions})
	require.NoError(t, err)
	_, err = s.Client.Enqueue(t.Context(), tasks.Job{TaskType: "fast_summary", Input: text})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return s.Simulator.Counters().Total.Asked == 1 }, 5*time.Second, time.Millisecond)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	begun := time.Now()
	require.NoError(t, s.Close(ended))
	assert.Less(t, time.Since(begun), 5*time.Second, "the endpoint's timeout is 30s")
}

func TestStartEndsWithItsContext(t *testing.T) { //nolint:paralleltest // goroutines of other tests would count as leaks
	defer goleak.VerifyNone(t)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := sandbox.Start(ended, sandbox.Config{})
	require.ErrorIs(t, err, context.Canceled)
}

func TestHTTP(t *testing.T) {
	t.Parallel()
	s := start(t, sandbox.Config{Regions: quick()})
	result := run(t, s)
	get := func(path string) (int, string) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.HTTPURL+path, nil)
		require.NoError(t, err)
		response, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		return response.StatusCode, string(body)
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		status, _ := get(path)
		assert.Equal(t, http.StatusOK, status, path)
	}
	status, body := get("/v1/jobs/" + result.ID)
	assert.Equal(t, http.StatusOK, status)
	var read tasks.Result
	require.NoError(t, json.Unmarshal([]byte(body), &read))
	assert.Equal(t, result.Text, read.Text)
}

func TestFileDescribesTheDeployment(t *testing.T) {
	t.Parallel()
	s := start(t, sandbox.Config{Recovery: 5 * time.Second, Prefix: "other:"})
	file, err := config.Parse("written", s.File)
	require.NoError(t, err)
	assert.Empty(t, config.Check(file), "it needs no key")
	assert.Equal(t, s.RedisURL, file.Redis.URL)
	assert.Equal(t, "other:", file.Redis.Prefix)
	assert.Equal(t, 5*time.Second, file.Catalog.Breaker.Recovery)
	assert.Len(t, file.Catalog.Endpoints, 3)
	for name, endpoint := range file.Catalog.Endpoints {
		assert.True(t, endpoint.Simulated)
		assert.Equal(t, s.SimulatorURL+"/"+name+"/v1", endpoint.URL)
	}
	assert.Equal(t, []int{3, 2, 1}, []int{s.EndpointOrder()[0].Tries, s.EndpointOrder()[1].Tries, s.EndpointOrder()[2].Tries})
}

func TestGivenRedisAndCatalog(t *testing.T) {
	t.Parallel()
	simulated := start(t, sandbox.Config{Regions: quick()})
	client, _ := redistest.Embedded(t)
	s := start(t, sandbox.Config{Redis: client, Catalog: simulated.Catalog})
	run(t, s)
	assert.Nil(t, s.Simulator)
	assert.Empty(t, s.RedisURL)
	require.NoError(t, s.Close(t.Context()))
	assert.NoError(t, client.Ping(t.Context()).Err(), "a Redis that was given stays open")
}

func TestEmbeddedRedisForgets(t *testing.T) {
	t.Parallel()
	s := start(t, sandbox.Config{Regions: quick()})
	require.NoError(t, s.Redis.Set(t.Context(), "a", 1, time.Second).Err())
	require.Eventually(t, func() bool { return s.Redis.Exists(t.Context(), "a").Val() == 0 }, 5*time.Second, 50*time.Millisecond)
}

func TestListenOff(t *testing.T) {
	t.Parallel()
	s := start(t, sandbox.Config{Regions: quick(), Listen: sandbox.ListenOff})
	assert.Empty(t, s.HTTPURL)
	run(t, s)
}

func TestListenRefusals(t *testing.T) {
	t.Parallel()
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = taken.Close() })
	_, port, _ := net.SplitHostPort(taken.Addr().String())
	for _, test := range []struct{ listen, want string }{
		{"0.0.0.0:0", "not on loopback"},
		{":0", "not on loopback"},
		{"8080", "cannot be read"},
		{"127.0.0.1:" + port, "address already in use; choose another address"},
	} {
		t.Run(test.listen, func(t *testing.T) {
			t.Parallel()
			_, err := sandbox.Start(t.Context(), sandbox.Config{Listen: test.listen})
			require.ErrorContains(t, err, test.want)
		})
	}
	for _, good := range []string{"", sandbox.ListenOff, "127.0.0.1:0", "localhost:8080", "[::1]:8080", "127.0.0.2:" + strconv.Itoa(1)} {
		assert.NoError(t, sandbox.CheckListen(good), good)
	}
}
