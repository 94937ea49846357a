package config_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/deploy/config"
)

const scheduled = good + `schedules:
  - name: nightly
    cron: "30 2 * * *"
    expires_after: 4h
    job:
      task_type: summary
      input: the day
      metadata: {from: config}
`

func TestSchedulesOfTheFile(t *testing.T) {
	t.Parallel()
	file, err := config.Parse("forebay.yaml", []byte(scheduled))
	require.NoError(t, err)
	require.Len(t, file.Recurring(), 1)
	schedule := file.Recurring()[0]
	assert.Equal(t, "default", schedule.Tenant)
	assert.Equal(t, "UTC", schedule.TimeZone)
	assert.Equal(t, 4*time.Hour, time.Duration(schedule.ExpiresAfter))
	assert.Equal(t, map[string]string{"from": "config"}, schedule.Job.Metadata)

	for want, change := range map[string][2]string{
		"schedules[0].cron: \"sometimes\" is no time":        {"30 2 * * *", "sometimes"},
		"schedules[0].job.task_type: no task type \"other\"": {"task_type: summary", "task_type: other"},
		"schedules[0].job.imput: unknown field":              {"input: the day", "imput: the day"},
		"schedules[0].name: must be 1 to 64 characters":      {"name: nightly", "name: a b"},
		"schedules[0].every: unknown field":                  {"    expires_after: 4h\n", "    every: 4h\n"},
		"schedules[0].job.id: is made anew for every tick":   {"input: the day", "id: x"},
	} {
		_, err := config.Parse("forebay.yaml", []byte(strings.Replace(scheduled, change[0], change[1], 1)))
		require.ErrorContains(t, err, want)
		require.Regexp(t, `forebay\.yaml:(1[6-9]|2\d):`, err.Error(), "with its line")
	}
	_, err = config.Parse("forebay.yaml", []byte(scheduled+strings.SplitAfter(scheduled, "schedules:\n")[1]))
	require.ErrorContains(t, err, "schedules[1].name: stands here twice for tenant default")
}
