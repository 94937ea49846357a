package simulator

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Five minutes of latency pass at once in a bubble.
func TestLatencyInABubble(t *testing.T) {
	t.Parallel()
	begin := time.Now()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, Config{Regions: []RegionConfig{{Name: "a", Latency: Distribution{Min: 5 * time.Minute}}}})
		took := elapsed(func() { assert.Equal(t, http.StatusOK, b.chat("a").StatusCode) })
		assert.Equal(t, 5*time.Minute, took)
		took = elapsed(func() { assert.Equal(t, http.StatusOK, b.chat("a", HeaderFailure, "drip-body").StatusCode) })
		assert.Equal(t, 5*time.Minute+10*time.Second, took)
	})
	assert.Less(t, time.Since(begin), time.Minute)
}

func TestListener(t *testing.T) {
	t.Parallel()
	sim, err := New(Config{})
	require.NoError(t, err)
	l := sim.Listen()
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	conn, err := l.DialContext(t.Context(), "tcp", "anywhere:443")
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	require.NoError(t, l.Close())
	require.NoError(t, l.Close())
	_, err = l.DialContext(t.Context(), "tcp", "anywhere:443")
	require.ErrorContains(t, err, "closed")
	_, err = l.DialContext(cancelled, "tcp", "anywhere:443")
	require.Error(t, err)
	require.NoError(t, sim.Close())
	require.NoError(t, sim.Close())
}

func BenchmarkFixedAnswer(b *testing.B) {
	bundle := setup(b, Config{Regions: []RegionConfig{{Name: "a", Answer: AnswerFixed}}, MaxJobs: NoJobs})
	handler := bundle.sim.Handler("a")
	body := chatBody(ownCorpus[0].Text, "")
	b.ReportAllocs()
	for b.Loop() {
		serveOnce(handler, body)
	}
}

// discard is a response writer that costs nothing.
type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(p []byte) (int, error) { return len(p), nil }
func (d discard) WriteHeader(int)             {}

func serveOnce(handler http.Handler, body string) {
	handler.ServeHTTP(discard{http.Header{}}, httptest.NewRequest(http.MethodPost, chatPath, strings.NewReader(body)))
}
