package httpapi

import (
	"context"
	_ "embed" // for the script
	"fmt"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks/keyspace"
)

// TenantLimits are what a tenant may ask of all producers together, over HTTP. No 60 s see more; 0 is no limit.
type TenantLimits struct {
	// RequestsPerMinute counts every request with a key of the tenant.
	RequestsPerMinute int
	// JobsPerMinute counts the jobs that are sent, each of an array by itself, also those that are refused or had been
	// accepted before.
	JobsPerMinute int
}

// What a tenant takes: the last part of a key and of the names of headers.
const (
	ofRequests = "requests"
	ofJobs     = "jobs"
)

const takeWithin = 2 * time.Second

//go:embed tenants_take.lua
var takeSource string

var takeScript = redis.NewScript(takeSource)

// meter keeps tenants to their limits. Where there is none it does not ask Redis.
type meter struct {
	client redis.UniversalClient
	keys   keyspace.Keyspace
	limits atomic.Pointer[map[string]TenantLimits]
}

// taken is what came of taking.
type taken struct {
	granted   bool
	remaining int
	// reset is when all of the limit is free again, wait when as much as was asked for is; negative: never.
	reset, wait time.Duration
}

func (m *meter) take(ctx context.Context, tenant, what string, limit, asked int) (taken, error) {
	ctx, cancel := context.WithTimeout(ctx, takeWithin)
	defer cancel()
	reply, err := takeScript.Run(ctx, m.client, []string{m.keys.TenantTaken(tenant, what)}, limit, asked).Int64Slice()
	if err == nil && len(reply) != 4 {
		err = fmt.Errorf("the script answered %d numbers, not 4", len(reply))
	}
	if err != nil {
		return taken{}, fmt.Errorf("count the %s of the tenant %s: %w", what, tenant, err)
	}
	return taken{
		granted: reply[0] == 1, remaining: int(reply[1]),
		reset: time.Duration(reply[2]) * time.Millisecond, wait: time.Duration(reply[3]) * time.Millisecond,
	}, nil
}

type jobMeterKey struct{}

// jobMeter counts the jobs of one request.
type jobMeter struct {
	meter  *meter
	tenant string
	// limit is that of its jobs.
	limit  int
	header http.Header
}

// admit counts a request, and gives its context what counts its jobs.
func (m *meter) admit(ctx context.Context, header http.Header, tenant string) (context.Context, *apiError) {
	limits := (*m.limits.Load())[tenant]
	if limits.JobsPerMinute > 0 {
		ctx = context.WithValue(ctx, jobMeterKey{}, jobMeter{m, tenant, limits.JobsPerMinute, header})
	}
	return ctx, m.charge(ctx, header, tenant, ofRequests, limits.RequestsPerMinute, 1)
}

// takeJobs counts the jobs of a request before any of them is accepted: all of them or none.
func takeJobs(ctx context.Context, jobs int) error {
	counted, found := ctx.Value(jobMeterKey{}).(jobMeter)
	if !found || jobs == 0 {
		return nil
	}
	if problem := counted.meter.charge(ctx, counted.header, counted.tenant, ofJobs, counted.limit, jobs); problem != nil {
		return problem
	}
	return nil
}

// charge takes, says in OpenAI's headers what is left, and refuses what passes the limit.
func (m *meter) charge(ctx context.Context, header http.Header, tenant, what string, limit, asked int) *apiError {
	if limit == 0 {
		return nil
	}
	got, err := m.take(ctx, tenant, what, limit, asked)
	if err != nil {
		return &apiError{
			status: http.StatusServiceUnavailable, code: "store_unavailable",
			message: "the tenant's " + what + " cannot be counted now; try again",
		}
	}
	header.Set("X-Ratelimit-Limit-"+what, strconv.Itoa(limit))
	header.Set("X-Ratelimit-Remaining-"+what, strconv.Itoa(got.remaining))
	header.Set("X-Ratelimit-Reset-"+what, got.reset.String())
	switch {
	case got.granted:
		return nil
	case got.wait < 0: // to try again would never help
		return &apiError{
			status: http.StatusBadRequest, code: "too_many_jobs",
			message: fmt.Sprintf("%d jobs in one request are more than the tenant %s may send in a minute; send at most %d, no job was accepted", asked, tenant, limit),
		}
	}
	problem := &apiError{
		status: http.StatusTooManyRequests, code: "rate_limit_exceeded", retryAfter: wholeSeconds(got.wait),
		message: fmt.Sprintf("the tenant %s may make %d requests a minute; try again in %s", tenant, limit, got.wait.Round(time.Second)),
	}
	if what == ofJobs {
		problem.message = fmt.Sprintf("the tenant %s may send %d jobs a minute, and %d of these %d would pass now; no job was accepted: send fewer, or try again in %s",
			tenant, limit, got.remaining, asked, got.wait.Round(time.Second))
	}
	return problem
}
