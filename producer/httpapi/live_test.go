package httpapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/producer/httpapi"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/events"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

// told is a frame as a client reads it.
type told struct {
	id, name string
	data     map[string]any
}

// frames reads a stream frame by frame; "EOF" is the name of its end.
func frames(t *testing.T, url string, headers ...string) func() told {
	t.Helper()
	read := lines(t, url, headers...)
	return func() told {
		var f told
		for {
			line := read()
			switch {
			case line == "EOF":
				return told{name: line}
			case strings.HasPrefix(line, "id: "):
				f.id = line[4:]
			case strings.HasPrefix(line, "event: "):
				f.name = line[7:]
			case strings.HasPrefix(line, "data: "):
				require.NoError(t, json.Unmarshal([]byte(line[6:]), &f.data))
				return f
			}
		}
	}
}

// jobs reads on until so many events of jobs have come, and returns their ids and the last frame's id.
func jobs(t *testing.T, read func() told, many int) (ids []string, last string, dropped int) {
	t.Helper()
	for len(ids)+dropped < many {
		f := read()
		require.NotEqual(t, "EOF", f.name)
		if f.name != "events" {
			continue
		}
		last = f.id
		require.LessOrEqual(t, len(f.data["events"].([]any)), 200)
		for _, event := range f.data["events"].([]any) {
			if id, found := event.(map[string]any)["job"]; found {
				ids = append(ids, id.(string))
			}
		}
		if count, found := f.data["dropped"].(float64); found {
			dropped += int(count)
		}
	}
	return ids, last, dropped
}

func (b bundle) tell(tenant string, from, to int) {
	b.t.Helper()
	pipe := b.redis.Pipeline()
	for i := from; i < to; i++ {
		pipe.XAdd(b.t.Context(), &redis.XAddArgs{Stream: b.jobs.Keys().JobEvents(), Values: []any{"type", "job.succeeded", "tenant", tenant, "job", fmt.Sprintf("%s-%d", tenant, i)}})
	}
	_, err := pipe.Exec(b.t.Context())
	require.NoError(b.t, err)
}

func named(tenant string, from, to int) (ids []string) {
	for i := from; i < to; i++ {
		ids = append(ids, fmt.Sprintf("%s-%d", tenant, i))
	}
	return ids
}

// Events come once each and in order, those before the beginning as well; whoever comes back goes on where it was.
func TestLiveGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	b := embedded(t)
	url := serve(t, b.API) + "/v1/events"
	b.tell("acme", 0, 20)
	read := frames(t, url)
	first := read()
	require.Equal(t, "hello", first.name)
	require.Equal(t, true, first.data["session"].(map[string]any)["operator"])
	b.tell("acme", 20, 120)
	ids, last, dropped := jobs(t, read, 120)
	require.Equal(t, named("acme", 0, 120), ids)
	require.Zero(t, dropped)
	b.tell("acme", 120, 130)
	require.NoError(t, events.Publish(t.Context(), b.redis, b.jobs.Keys(), "breaker.opened", "endpoint", "here"))
	ids, _, _ = jobs(t, frames(t, url, "Last-Event-ID", last), 10)
	require.Equal(t, named("acme", 120, 130), ids)
	for _, broken := range []string{"x", "1,2,3", "-,-", strings.Repeat("9", 3000)} {
		ids, _, _ = jobs(t, frames(t, url, "Last-Event-ID", broken), 30)
		require.Equal(t, named("acme", 100, 130), ids, broken)
	}
}

// A tenant's key is shown its own jobs, however many others there are, and nothing of the deployment.
func TestLiveShowsTenantsTheirOwn(t *testing.T) {
	t.Parallel()
	b := embedded(t)
	url := serve(t, b.API) + "/v1/events"
	read := frames(t, url, "X-Tenant", "acme")
	require.Equal(t, "acme", read().data["session"].(map[string]any)["tenant"])
	require.NoError(t, events.Publish(t.Context(), b.redis, b.jobs.Keys(), "breaker.opened", "endpoint", "here", "tenant", "acme"))
	b.tell("acme", 0, 1)
	require.Eventually(t, func() bool { f := read(); return f.name == "events" && len(f.data["events"].([]any)) == 1 }, 10*time.Second, time.Millisecond)
	b.tell("acme", 1, 3)
	b.tell("other", 0, 900)
	for i := 1; i < 3; {
		f := read()
		require.Equal(t, "events", f.name, "neither status nor activity")
		require.NotContains(t, f.data, "dropped")
		for _, event := range f.data["events"].([]any) {
			require.Equal(t, fmt.Sprintf("acme-%d", i), event.(map[string]any)["job"])
			i++
		}
	}
	require.Equal(t, http.StatusForbidden, b.ask("GET", "/v1/events", "", "X-Nobody", "1").Code)
	require.Equal(t, http.StatusForbidden, b.ask("GET", "/v1/activity", "", "X-Tenant", "acme").Code)
}

// More than a frame holds is counted, and what operators are told is never left out for it.
func TestLiveCountsWhatIsTooMuch(t *testing.T) {
	t.Parallel()
	b := embedded(t)
	read := frames(t, serve(t, b.API)+"/v1/events")
	b.tell("acme", 0, 1)
	jobs(t, read, 1)
	require.NoError(t, events.Publish(t.Context(), b.redis, b.jobs.Keys(), "breaker.opened", "endpoint", "here"))
	b.tell("acme", 1, 901)
	operators, came, dropped := 0, 0, 0
	for came+dropped < 900 || operators == 0 {
		f := read()
		if f.name != "events" {
			continue
		}
		for _, event := range f.data["events"].([]any) {
			if event.(map[string]any)["stream"] == "operators" {
				operators++
			} else {
				came++
			}
		}
		if count, found := f.data["dropped"].(float64); found {
			dropped += int(count)
		}
	}
	require.Equal(t, 1, operators)
	require.Equal(t, 900, came+dropped)
	require.Positive(t, dropped)
}

// However many listen, the status is read at most once a second; when nobody does, it is not, and the end of the
// process ends all streams.
func TestLiveReadsOnceForAll(t *testing.T) {
	t.Parallel()
	var reads, at atomic.Int64
	b := embedded(t, func(c *httpapi.Config) {
		c.Status = func(context.Context) (any, error) {
			if before := at.Swap(time.Now().UnixMilli()); before > 0 && time.Now().UnixMilli()-before < 900 {
				t.Error("the status was read twice in a second")
			}
			return map[string]int64{"read": reads.Add(1)}, nil
		}
	})
	url := serve(t, b.API) + "/v1/events"
	listeners := []func() told{}
	for range 20 {
		listeners = append(listeners, frames(t, url))
	}
	for _, read := range listeners {
		for f := read(); f.name != "status" || f.data["read"].(float64) < 2; f = read() {
			require.NotEqual(t, "EOF", f.name)
		}
	}
	require.LessOrEqual(t, reads.Load(), int64(12))
	b.Drain()
	for _, read := range listeners {
		for f := read(); f.name != "EOF"; f = read() {
		}
	}
}

// A Redis that is away ends no stream, and afterwards nothing is missing.
func TestLiveWhileRedisIsAway(t *testing.T) {
	t.Parallel()
	client, server := redistest.Embedded(t)
	b := newBundle(t, client)
	read := frames(t, serve(t, b.API)+"/v1/events")
	b.tell("acme", 0, 1)
	jobs(t, read, 1)
	server.SetError("LOADING Redis is away")
	require.Equal(t, 503, b.ask("GET", "/v1/activity?window=15m", "").Code)
	server.SetError("")
	b.tell("acme", 1, 51)
	ids, _, _ := jobs(t, read, 50)
	require.Equal(t, named("acme", 1, 51), ids)
}

// Many jobs are run again by a filter, each once; a tenant's own only.
func TestRetryMany(t *testing.T) {
	t.Parallel()
	b := embedded(t)
	for _, tenant := range []string{"acme", "other"} {
		for i := range 12 {
			id := fmt.Sprintf("%s-%d", tenant, i)
			require.Equal(t, 201, b.ask("POST", "/v1/jobs", withID(id), "X-Tenant", tenant).Code)
			b.end(id, tasks.StatusFailed)
		}
	}
	ask := func(body string, headers ...string) (reply struct {
		Retried, Skipped int
		More             bool
	},
	) {
		answer := b.ask("POST", "/v1/retries", body, headers...)
		require.Equal(t, 200, answer.Code, answer.Body)
		require.NoError(t, json.Unmarshal(answer.Body.Bytes(), &reply))
		return reply
	}
	assertError(t, "of another", b.ask("POST", "/v1/retries", `{"tenant":"other"}`, "X-Tenant", "acme"), "tenant_forbidden")
	assertError(t, "reads only", b.ask("POST", "/v1/retries", `{}`, "X-Reads", "1"), "write_forbidden")
	require.Equal(t, 400, b.ask("POST", "/v1/retries", `{"limit":1001}`).Code)
	require.Zero(t, ask(`{"code":["another"]}`).Retried)
	require.Zero(t, ask(`{"before":"2020-01-01T00:00:00Z"}`).Retried)
	part := ask(`{"code":["bad"],"limit":5}`, "X-Tenant", "acme")
	require.Equal(t, 5, part.Retried)
	require.True(t, part.More)
	rest := ask(`{"code":["bad"]}`, "X-Tenant", "acme")
	require.Equal(t, 7, rest.Retried)
	require.False(t, rest.More)
	require.Equal(t, tasks.StatusQueued, b.result("acme-3").Status)
	require.Equal(t, tasks.StatusFailed, b.result("other-3").Status)
	require.Equal(t, 12, ask(`{}`).Retried)
}

func TestSession(t *testing.T) {
	t.Parallel()
	b := embedded(t)
	answer := b.ask("GET", "/v1/session", "", "X-Tenant", "acme", "X-Reads", "1")
	require.JSONEq(t, `{"key":"","tenant":"acme","operator":false,"write":false,"features":{"jobs":true,"batches":true,"status":true,"monitor":true}}`, answer.Body.String())
}
