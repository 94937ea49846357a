package sandbox_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/deploy/sandbox"
	"github.com/forebay-queue/forebay/producer/httpapi"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/apikeys"
	"github.com/forebay-queue/forebay/tasks/gate"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

// tenantClient is a client with a key of its own.
type tenantClient struct {
	tenant, key, url string
	http             *http.Client

	statuses map[int]int
	ids      []string
	latency  []time.Duration
}

func (c *tenantClient) ask(ctx context.Context, method, path, body string) (status int, answer []byte, err error) {
	request, err := http.NewRequestWithContext(ctx, method, c.url+path, bytes.NewReader([]byte(body)))
	if err != nil {
		return 0, nil, err
	}
	request.Header.Set("Authorization", "Bearer "+c.key)
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	begun := time.Now()
	response, err := c.http.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	answer, err = io.ReadAll(response.Body)
	c.statuses[response.StatusCode]++
	c.latency = append(c.latency, time.Since(begun))
	return response.StatusCode, answer, err
}

// send sends a job and keeps its id where it was accepted.
func (c *tenantClient) send(ctx context.Context, number int) error {
	id := fmt.Sprintf("%s-%d", c.tenant, number)
	status, answer, err := c.ask(ctx, http.MethodPost, "/v1/jobs", fmt.Sprintf(`{"id":%q,"task_type":"fast_summary","input":%q}`, id, text))
	if err == nil && status == http.StatusCreated {
		c.ids = append(c.ids, id)
	} else if err == nil && status != http.StatusTooManyRequests {
		err = fmt.Errorf("%d: %s", status, answer)
	}
	return err
}

// fourTenants is a deployment with a key for each of four tenants, of which "flood" may send 50 jobs a minute.
func fourTenants(t testing.TB) (*sandbox.Sandbox, []*tenantClient) {
	t.Helper()
	_, server := redistest.Real(t)
	options := redistest.Options(server.Addr)
	options.PoolSize = sandbox.Connections(1, 8, 1) + 32
	client := redis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	s, err := sandbox.Start(context.Background(), sandbox.Config{
		Redis: client, Regions: quick(), Slots: 8, Tenants: map[string]httpapi.TenantLimits{"flood": {JobsPerMinute: 50}},
	})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close(context.Background())) })
	var clients []*tenantClient
	for _, tenant := range []string{"flood", "north", "east", "south"} {
		_, text, err := apikeys.New(client, keyspace.New("")).Create(t.Context(), apikeys.Key{Tenant: tenant, Write: true})
		require.NoError(t, err)
		transport := &http.Transport{}
		t.Cleanup(transport.CloseIdleConnections)
		clients = append(clients, &tenantClient{tenant: tenant, key: text, url: s.HTTPURL, http: &http.Client{Transport: transport}, statuses: map[int]int{}})
	}
	require.Eventually(t, func() bool {
		clients[3].statuses = map[int]int{}
		_, _, err := clients[3].ask(t.Context(), http.MethodGet, "/v1/jobs", "")
		return err == nil && clients[3].statuses[200] == 1
	}, 10*time.Second, 10*time.Millisecond, "the keys are known")
	clients[3].statuses, clients[3].latency = map[int]int{}, nil
	return s, clients
}

// Four tenants at once, one of which floods: no request of one sees, refuses or is billed to another.
func TestTenantsDoNotMeet(t *testing.T) {
	t.Parallel()
	s, clients := fourTenants(t)
	const jobs, flood = 40, 400
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var group sync.WaitGroup
	for _, c := range clients {
		group.Go(func() {
			count := jobs
			if c.tenant == "flood" {
				count = flood
			}
			for i := range count {
				if !assert.NoError(t, c.send(ctx, i), c.tenant) {
					return
				}
			}
		})
	}
	group.Wait()
	flooded := clients[0]
	require.Equal(t, map[int]int{201: 50, 429: 350}, flooded.statuses)
	for _, c := range clients[1:] {
		require.Equal(t, map[int]int{201: jobs}, c.statuses, "nobody else is refused: %s", c.tenant)
	}

	costs := map[string]float64{}
	for _, c := range clients {
		for _, id := range c.ids {
			result, err := s.Client.Wait(ctx, id)
			require.NoError(t, err)
			require.Equal(t, tasks.StatusSucceeded, result.Status)
			require.Equal(t, c.tenant, result.Tenant)
			costs[c.tenant] += result.CostUSD
		}
	}
	for i, c := range clients {
		c.seesItsOwn(ctx, t, clients[(i+1)%len(clients)])
	}

	// The ledger of the budget is settled with the commit.
	day := s.Catalog.Budget.Day(time.Now()).Name
	billed := map[string]float64{}
	list, err := gate.NewBudget(s.Redis, keyspace.New(""), s.Catalog.Budget).Costs(ctx, []string{day})
	require.NoError(t, err)
	for _, cost := range list {
		billed[cost.Tenant] += float64(cost.Nanos) / 1e9
	}
	for tenant, cost := range costs {
		require.Positive(t, cost)
		require.InDelta(t, cost, billed[tenant], cost*1e-6, tenant)
	}
	require.Len(t, billed, len(clients))
}

// seesItsOwn checks that a tenant finds all its own jobs, and nothing of another's.
func (c *tenantClient) seesItsOwn(ctx context.Context, t *testing.T, other *tenantClient) {
	t.Helper()
	seen, next := map[string]bool{}, ""
	for {
		status, answer, err := c.ask(ctx, http.MethodGet, "/v1/jobs?limit=100"+next, "")
		require.NoError(t, err)
		require.Equal(t, 200, status, string(answer))
		var page struct {
			Jobs []struct{ ID, Tenant string }
			Next string
		}
		require.NoError(t, json.Unmarshal(answer, &page), string(answer))
		for _, job := range page.Jobs {
			require.Equal(t, c.tenant, job.Tenant)
			seen[job.ID] = true
		}
		if page.Next == "" {
			break
		}
		next = "&cursor=" + url.QueryEscape(page.Next)
	}
	require.Len(t, seen, len(c.ids))
	for _, method := range []string{http.MethodGet, http.MethodDelete} {
		status, answer, err := c.ask(ctx, method, "/v1/jobs/"+other.ids[0], "")
		require.NoError(t, err)
		require.Equal(t, 404, status)
		require.NotContains(t, string(answer), other.tenant+`"`)
	}
	status, answer, err := c.ask(ctx, http.MethodPost, "/v1/jobs", fmt.Sprintf(`{"id":%q,"task_type":"fast_summary","input":"mine"}`, other.ids[0]))
	require.NoError(t, err)
	if c.tenant != "flood" { // which may send nothing now
		require.Equal(t, 409, status, string(answer))
		require.Contains(t, string(answer), "id_conflict")
	}
	require.NotContains(t, string(answer), "turbines")
}

// BenchmarkNeighbours tells how the requests of three tenants fare beside one that floods past its limit, against the
// same three without it, in turns.
func BenchmarkNeighbours(b *testing.B) {
	_, clients := fourTenants(b)
	flood, others := clients[0], clients[1:]
	const each = 200
	var quiet, flooded []time.Duration
	number := 0
	round := func() []time.Duration {
		var group sync.WaitGroup
		for _, c := range others {
			c.latency = nil
			group.Go(func() {
				for i := range each {
					assert.NoError(b, c.send(b.Context(), number+i))
				}
			})
		}
		group.Wait()
		number += each
		var all []time.Duration
		for _, c := range others {
			all = append(all, c.latency...)
		}
		return all
	}
	for b.Loop() {
		quiet = append(quiet, round()...)
		ctx, stop := context.WithCancel(b.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for i := 0; ctx.Err() == nil; i++ {
				_ = flood.send(ctx, i)
			}
		}()
		flooded = append(flooded, round()...)
		stop()
		<-ended
	}
	p99 := func(all []time.Duration) float64 {
		slices.Sort(all)
		return float64(all[len(all)*99/100]) / float64(time.Millisecond)
	}
	b.ReportMetric(p99(quiet), "p99-alone-ms")
	b.ReportMetric(p99(flooded), "p99-flooded-ms")
	b.ReportMetric(p99(flooded)/p99(quiet), "p99-ratio")
	b.ReportMetric(float64(flood.statuses[429]), "refused")
}
