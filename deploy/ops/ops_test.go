package ops

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func ask(handler http.Handler, method, path string) *httptest.ResponseRecorder {
	recorder := httptest.NewRecorder()
	handler.ServeHTTP(recorder, httptest.NewRequest(method, path, http.NoBody))
	return recorder
}

func TestTheProbesSayWhyNot(t *testing.T) {
	t.Parallel()
	var health, ready error
	handler := Handler(Config{
		Process: "worker", Metrics: prometheus.NewRegistry(),
		Healthy: func() error { return health }, Ready: func(context.Context) error { return ready },
	})
	for path, well := range map[string]string{HealthPath: "ok", ReadyPath: "ready"} {
		got := ask(handler, http.MethodGet, path)
		assert.Equal(t, http.StatusOK, got.Code)
		assert.JSONEq(t, `{"status":"`+well+`"}`, got.Body.String())
		assert.Equal(t, "no-store", got.Header().Get("Cache-Control"))
		assert.Empty(t, ask(handler, http.MethodPost, path).Header().Get("Location"))
		assert.Equal(t, http.StatusMethodNotAllowed, ask(handler, http.MethodPost, path).Code)
	}
	health, ready = errors.New("its heart stands still"), errors.New("Redis is away")
	got := ask(handler, http.MethodGet, HealthPath)
	assert.Equal(t, http.StatusServiceUnavailable, got.Code)
	assert.JSONEq(t, `{"status":"not healthy","reason":"its heart stands still"}`, got.Body.String())
	got = ask(handler, http.MethodGet, ReadyPath)
	assert.Equal(t, http.StatusServiceUnavailable, got.Code)
	assert.JSONEq(t, `{"status":"not ready","reason":"Redis is away"}`, got.Body.String())
	assert.Equal(t, "forebay worker\n/healthz\n/readyz\n/metrics\n", ask(handler, http.MethodGet, "/").Body.String())
	assert.Equal(t, http.StatusNotFound, ask(handler, http.MethodGet, "/debug/pprof/").Code)
}

// A Redis that hangs, and a check that does not look at its context, do not hold the answer.
func TestReadinessIsAnsweredInTime(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	defer close(release)
	handler := Handler(Config{Metrics: prometheus.NewRegistry(), Ready: func(context.Context) error {
		<-release
		return nil
	}})
	begun := time.Now()
	got := ask(handler, http.MethodGet, ReadyPath)
	assert.Less(t, time.Since(begun), 3*readyWithin)
	assert.JSONEq(t, `{"status":"not ready","reason":"Redis has not answered within 1s"}`, got.Body.String())
}

func TestTheRegistryShowsBuildAndRuntime(t *testing.T) {
	t.Parallel()
	registry := NewRegistry(Build{Version: "v1.2.3", Commit: "abc", GoVersion: "go1.26"})
	text := ask(MetricsHandler(registry, zerolog.Nop()), http.MethodGet, MetricsPath).Body.String()
	assert.Contains(t, text, `forebay_build_info{commit="abc",go_version="go1.26",version="v1.2.3"} 1`)
	assert.Contains(t, text, "\ngo_goroutines ")
	problems, err := testutil.GatherAndLint(registry)
	require.NoError(t, err)
	assert.Empty(t, problems)
}

// What one collector cannot tell is logged and left out; the rest is shown.
func TestWhatCannotBeGatheredIsLogged(t *testing.T) {
	t.Parallel()
	registry := NewRegistry(Build{})
	desc := prometheus.NewDesc("broken", "Broken.", nil, nil)
	registry.MustRegister(prometheus.CollectorFunc(func(out chan<- prometheus.Metric) {
		out <- prometheus.NewInvalidMetric(desc, errors.New("it is broken"))
	}))
	var lines strings.Builder
	got := ask(MetricsHandler(registry, zerolog.New(&lines)), http.MethodGet, MetricsPath)
	assert.Equal(t, http.StatusOK, got.Code)
	assert.Contains(t, got.Body.String(), "forebay_build_info")
	assert.Contains(t, lines.String(), "it is broken")
}

func TestTheServerEnds(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := Start(listener, Config{Metrics: prometheus.NewRegistry(), Ready: func(context.Context) error { return nil }})
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get("http://" + listener.Addr().String() + ReadyPath)
	require.NoError(t, err)
	body, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	assert.JSONEq(t, `{"status":"ready"}`, string(body))
	server.Close()
	_, err = client.Get("http://" + listener.Addr().String() + ReadyPath)
	assert.Error(t, err)
}
