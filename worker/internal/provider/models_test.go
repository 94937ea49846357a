package provider_test

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/worker/internal/provider"
)

// The list of models is asked for as a call is made: the same address, key, headers and query.
func TestListModels(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 1 {
			time.Sleep(60 * time.Millisecond) // what a new connection costs on a long way
		}
		assert.Equal(t, http.MethodGet, r.Method)
		assert.Equal(t, "/base/v1/models", r.URL.Path)
		assert.Equal(t, "2026-01-01", r.URL.Query().Get("api-version"))
		assert.Equal(t, "secret", r.Header.Get("Api-Key"))
		assert.Equal(t, "yes", r.Header.Get("X-Own"))
		assert.Empty(t, r.Header.Get("Content-Type"))
		_, _ = w.Write([]byte(`{"object":"list","data":[]}`))
	}))
	defer server.Close()
	client, err := provider.New(provider.Config{Endpoint: &catalog.Endpoint{
		Name: "e", URL: server.URL + "/base/v1", Auth: catalog.AuthAPIKey, LatencyThreshold: 50 * time.Millisecond,
		Headers: map[string]string{"X-Own": "yes"}, Query: map[string]string{"api-version": "2026-01-01"},
	}})
	require.NoError(t, err)
	defer client.Close()
	answer := client.ListModels(t.Context(), "secret")
	require.NoError(t, answer.Err)
	assert.Equal(t, http.StatusOK, answer.Status)
	assert.EqualValues(t, 2, asked.Load(), "a new connection was slow: it is asked once more")
	assert.Less(t, answer.Latency, 60*time.Millisecond)
	client.ListModels(t.Context(), "secret")
	assert.EqualValues(t, 3, asked.Load(), "over the connection that stands it is asked once")
}
