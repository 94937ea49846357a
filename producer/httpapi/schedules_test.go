package httpapi_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/schedules"
)

const nightly = `{"cron":"30 2 * * *","time_zone":"Europe/Berlin","missed":"once","job":{"task_type":"fast_summary","input":"the day"}}`

func TestSchedules(t *testing.T) {
	t.Parallel()
	b := embedded(t)
	acme := []string{"X-Tenant", "acme"}
	answer := b.ask("PUT", "/v1/schedules/nightly", nightly, acme...)
	require.Equal(t, 200, answer.Code, answer.Body)
	made := decoded[schedules.Entry](t, answer)
	require.Equal(t, "acme", made.Tenant)
	require.Equal(t, "acme", made.Job.Tenant)
	require.NotNil(t, made.Next)
	require.JSONEq(t, answer.Body.String(), b.ask("GET", "/v1/schedules/nightly", "", acme...).Body.String())
	require.JSONEq(t, answer.Body.String(), b.ask("GET", "/v1/schedules/nightly?tenant=acme", "").Body.String(), "an operator's view")

	for _, headers := range [][]string{{"X-Tenant", "other"}, {}} {
		assertError(t, "another's", b.ask("GET", "/v1/schedules/nightly", "", headers...), "schedule_not_found")
		assertError(t, "another's", b.ask("DELETE", "/v1/schedules/nightly", "", headers...), "schedule_not_found")
	}
	assertError(t, "another's by name", b.ask("GET", "/v1/schedules/nightly?tenant=acme", "", "X-Tenant", "other"), "schedule_not_found")
	require.Contains(t, b.ask("GET", "/v1/schedules", "", "X-Tenant", "other").Body.String(), `"schedules":[]`)
	require.Contains(t, b.ask("GET", "/v1/schedules", "").Body.String(), `"nightly"`)
	for _, call := range [][2]string{{"PUT", ""}, {"DELETE", ""}, {"POST", "/pause"}, {"POST", "/run"}} {
		body := ""
		if call[0] == "PUT" {
			body = nightly
		}
		assertError(t, "a reader", b.ask(call[0], "/v1/schedules/nightly"+call[1], body, "X-Tenant", "acme", "X-Reads", "1"), "write_forbidden")
	}

	paused := decoded[schedules.Entry](t, b.ask("POST", "/v1/schedules/nightly/pause", "", acme...))
	require.True(t, paused.State.Paused)
	require.Nil(t, paused.Next)
	resumed := decoded[schedules.Entry](t, b.ask("POST", "/v1/schedules/nightly/resume", "", acme...))
	require.NotNil(t, resumed.Next)

	run := b.ask("POST", "/v1/schedules/nightly/run", "", acme...)
	require.Equal(t, 201, run.Code, run.Body)
	job := b.ask("GET", run.Header().Get("Location"), "", acme...)
	require.Contains(t, job.Body.String(), `"status":"queued"`)

	require.Equal(t, 204, b.ask("DELETE", "/v1/schedules/nightly", "", acme...).Code)
	assertError(t, "gone", b.ask("GET", "/v1/schedules/nightly", "", acme...), "schedule_not_found")
}

func TestSchedulesThatCannotBe(t *testing.T) {
	t.Parallel()
	b := embedded(t)
	for name, row := range map[string][2]string{
		"no JSON":         {"{", "invalid_schedule"},
		"unknown field":   {strings.Replace(nightly, `"cron"`, `"crom"`, 1), "invalid_schedule"},
		"no time":         {strings.Replace(nightly, "30 2 * * *", "sometimes", 1), "invalid_schedule"},
		"another zone":    {strings.Replace(nightly, "Europe/Berlin", "Nowhere", 1), "invalid_schedule"},
		"another policy":  {strings.Replace(nightly, "once", "twice", 1), "invalid_schedule"},
		"no job":          {`{"cron":"@daily"}`, "invalid_job"},
		"no task type":    {strings.Replace(nightly, "fast_summary", "slow_summary", 1), "invalid_job"},
		"odd field":       {strings.Replace(nightly, `"input"`, `"imput"`, 1), "invalid_job"},
		"an id":           {strings.Replace(nightly, `"input"`, `"id":"x","input"`, 1), "invalid_schedule"},
		"somebody else's": {strings.Replace(nightly, `"input"`, `"tenant":"other","input"`, 1), "tenant_forbidden"},
	} {
		assertError(t, name, b.ask("PUT", "/v1/schedules/nightly", row[0], "X-Tenant", "acme"), row[1])
	}
	configured := schedules.Schedule{Name: "fixed", Tenant: "acme", Cron: "@daily", TimeZone: "UTC", Missed: schedules.Skip, Source: schedules.SourceConfig}
	require.NoError(t, schedules.New(b.redis, keyspace.New(""), nil).Put(t.Context(), configured))
	assertError(t, "of the configuration", b.ask("PUT", "/v1/schedules/fixed", nightly, "X-Tenant", "acme"), "schedule_configured")
	assertError(t, "of the configuration", b.ask("DELETE", "/v1/schedules/fixed", "", "X-Tenant", "acme"), "schedule_configured")
}
