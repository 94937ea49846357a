package httpapi_test

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/producer/httpapi"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/jobstore"
)

// lines reads a stream of events line by line.
func lines(t *testing.T, url string, headers ...string) (read func() string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	require.NoError(t, err)
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	answer, err := (&http.Client{Transport: transport}).Do(request)
	require.NoError(t, err)
	t.Cleanup(func() { _ = answer.Body.Close() })
	require.Equal(t, "text/event-stream; charset=utf-8", answer.Header.Get("Content-Type"))
	reader := bufio.NewReader(answer.Body)
	return func() string {
		for {
			line, err := reader.ReadString('\n')
			if err == io.EOF {
				return "EOF"
			}
			require.NoError(t, err)
			if line != "\n" {
				return strings.TrimSuffix(line, "\n")
			}
		}
	}
}

// The stream tells how the job stands, that it runs, that nothing is new, and its end; then it ends.
func TestEvents(t *testing.T) {
	t.Parallel()
	b := embedded(t, func(c *httpapi.Config) { c.Heartbeat, c.Reread = 200*time.Millisecond, 50*time.Millisecond })
	url := serve(t, b.API)
	require.Equal(t, 201, b.ask("POST", "/v1/jobs", withID("a")).Code)
	read := lines(t, url+"/v1/jobs/a/events")
	require.Equal(t, "retry: 2000", read())
	require.Equal(t, "id: 1-queued-0", read())
	require.Equal(t, "event: status", read())
	require.Contains(t, read(), `data: {"id":"a","status":"queued"`)
	require.Equal(t, ": nothing new", read())
	_, err := b.store.Start(t.Context(), "a", jobstore.Delivery{ID: "d", Worker: "w"})
	require.NoError(t, err)
	next := read()
	for next == ": nothing new" {
		next = read()
	}
	require.Equal(t, "id: 1-running-0", next)
	require.Equal(t, "event: status", read())
	require.Contains(t, read(), `"status":"running"`)
	b.end("a", tasks.StatusSucceeded)
	for next = read(); next == ": nothing new"; {
		next = read()
	}
	require.Equal(t, "id: 1-succeeded-0", next)
	require.Equal(t, "event: result", read())
	require.Contains(t, read(), `"text":"<short> & good"`)
	require.Equal(t, "EOF", read())
}

// The end is told when it comes, not at the next look; what was seen before is not told again.
func TestTheEndIsToldAtOnce(t *testing.T) {
	t.Parallel()
	b := embedded(t, func(c *httpapi.Config) { c.Heartbeat, c.Reread = time.Hour, time.Hour })
	url := serve(t, b.API)
	require.Equal(t, 201, b.ask("POST", "/v1/jobs", withID("a")).Code)
	read := lines(t, url+"/v1/jobs/a/events", "Last-Event-ID", "1-queued-0")
	require.Equal(t, "retry: 2000", read())
	b.end("a", tasks.StatusSucceeded)
	require.Equal(t, "id: 1-succeeded-0", read())
}

// The first signal has those who wait answered with what stands, and lets nobody wait for long.
func TestDrain(t *testing.T) {
	t.Parallel()
	b := embedded(t)
	listener, err := httpapi.Listen(t.Context(), "127.0.0.1:0")
	require.NoError(t, err)
	server := httpapi.NewServer(b.API, zerolog.Nop())
	stopped := make(chan error, 1)
	go func() { stopped <- server.Serve(listener, nil) }()
	url := "http://" + listener.Addr().String()
	require.Equal(t, 201, b.ask("POST", "/v1/jobs", withID("a")).Code)
	answers := make(chan string, 20)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	for range cap(answers) {
		go func() {
			answer, err := (&http.Client{Transport: transport}).Get(url + "/v1/jobs/a?wait=60s")
			if err != nil {
				answers <- err.Error()
				return
			}
			defer answer.Body.Close()
			body, _ := io.ReadAll(answer.Body)
			answers <- answer.Status + " " + string(body)
		}()
	}
	read := lines(t, url+"/v1/jobs/a/events")
	require.Equal(t, "retry: 2000", read())
	require.Eventually(t, func() bool { // all are told of the end by one subscription
		channel := b.store.Keys().JobDone("a")
		return b.redis.PubSubNumSub(t.Context(), channel).Val()[channel] > 0
	}, 10*time.Second, 10*time.Millisecond)
	time.Sleep(100 * time.Millisecond) // the last of the requests has been read

	begun := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	require.NoError(t, server.Shutdown(ctx))
	require.NoError(t, <-stopped)
	require.Less(t, time.Since(begun), 5*time.Second)
	for range cap(answers) {
		got := <-answers
		require.Contains(t, got, "200 OK")
		require.Contains(t, got, `"status":"queued"`)
	}
	for read() != "EOF" { // the stream has ended as well
	}
}
