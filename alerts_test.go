package main_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/deploy/simulator"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/alerts"
	"github.com/forebay-queue/forebay/tasks/alerts/alertstest"
)

// alerted is a deployment of two regions and five channels, whose times are short.
type alerted struct {
	*deployment
	receivers *alertstest.Receivers
}

func deployAlerts(t *testing.T, channels func(r *alertstest.Receivers, dir string) string) *alerted {
	t.Helper()
	a := &alerted{receivers: alertstest.Start(t)}
	a.deployment = deploy(t, site{fsync: "everysec", regions: []simulator.RegionConfig{
		{Name: "first", Answer: simulator.AnswerFixed}, {Name: "second", Answer: simulator.AnswerFixed},
	}})
	a.appendConfig("\nhealth: {probes: off}\nalerts:\n  group: 1s\n  resolve_after: 2s\n  for: {breaker_open: 1s}\n" + channels(a.receivers, a.dir))
	return a
}

// tick does a job, so that a breaker that is due is tried.
func (a *alerted) tick() {
	a.t.Helper()
	ids := a.enqueueJobs(fmt.Sprintf("job-%d", time.Now().UnixNano()), 1)
	for _, result := range a.await(time.Minute, ids...) {
		require.Equal(a.t, tasks.StatusSucceeded, result.Status)
	}
}

// open breaks the first region and has its breaker open.
func (a *alerted) open() {
	a.t.Helper()
	require.NoError(a.t, a.sim.Region("first").SetOutage("500"))
	a.eventually("the breaker opens", func() bool {
		a.tick()
		return a.breaker().Trips > 0
	})
}

// heal ends the outage and has the breaker close.
func (a *alerted) heal() {
	a.t.Helper()
	a.sim.Region("first").ClearOutage()
	a.eventually("the breaker closes", func() bool {
		a.tick()
		return a.breaker().Recoveries > 0
	})
}

// told waits until all channels have so many messages.
func (a *alerted) told(count int, channels ...string) {
	a.t.Helper()
	for _, channel := range channels {
		a.eventually(channel+" is told", func() bool { return len(a.receivers.Taken(channel)) >= count })
	}
}

// leader is the scheduler that has the lease.
func (a *alerted) leader(schedulers []*process) *process {
	a.t.Helper()
	var found *process
	a.eventually("a scheduler leads", func() bool {
		var last time.Time
		for _, scheduler := range schedulers {
			for line := range strings.Lines(scheduler.log.text()) {
				var said struct {
					Message string
					Time    time.Time
				}
				if json.Unmarshal([]byte(line), &said) == nil && said.Message == "leads" && scheduler.alive() && !said.Time.Before(last) {
					found, last = scheduler, said.Time
				}
			}
		}
		return found != nil
	})
	return found
}

// An outage of the primary gives one alert and one all-clear per channel, with three schedulers, and also where the leader
// is killed before it has told of the one and of the other.
func TestAnOutageIsToldOnce(t *testing.T) {
	t.Parallel()
	for name, kill := range map[string]bool{"by three schedulers": false, "with killed leaders": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := deployAlerts(t, func(r *alertstest.Receivers, dir string) string { return r.Config(dir) })
			a.startWorkers(1)
			schedulers := a.startSchedulers(3)
			a.leader(schedulers)
			a.tick()

			a.open()
			if kill {
				a.eventually("the condition is seen", func() bool { return a.redis.HLen(t.Context(), a.store.Keys().Alerts()).Val() > 0 })
				a.leader(schedulers).kill()
			}
			a.told(1, alertstest.Types...)
			firing, err := alerts.Firing(t.Context(), a.redis, a.store.Keys())
			require.NoError(t, err)
			require.Len(t, firing, 1)
			require.Equal(t, "breaker_open/first", firing[0].Key())

			a.heal()
			if kill {
				a.leader(schedulers).kill()
			}
			a.told(2, alertstest.Types...)
			time.Sleep(5 * time.Second) // nothing else is told, a while long
			for _, channel := range alertstest.Types {
				taken := a.receivers.Taken(channel)
				require.Len(t, taken, 2, channel)
				assert.Contains(t, taken[0].Text, "first", channel)
				assert.Contains(t, taken[0].Text, "ForebayBreakerOpen.md", channel)
				if channel != "webhook" {
					assert.Contains(t, taken[0].Text, "UTC", channel)
					assert.Contains(t, taken[0].Text, "FIRING", channel)
					assert.Contains(t, taken[1].Text, "OVER", channel)
				}
			}
			a.requireEvents(t, "alert.firing", "alert.resolved")
			a.requireNoSecret(t, schedulers)
		})
	}
}

// requireEvents checks that these events of alerts were written, each once.
func (a *alerted) requireEvents(t *testing.T, want ...string) {
	t.Helper()
	var found []string
	for _, entry := range a.redis.XRange(t.Context(), a.store.Keys().Events(), "-", "+").Val() {
		if kind, _ := entry.Values["type"].(string); strings.HasPrefix(kind, "alert.") {
			found = append(found, kind)
		}
	}
	require.Equal(t, want, found)
}

// requireNoSecret looks for what the receivers know in the logs, in all of Redis and in what commands print.
func (a *alerted) requireNoSecret(t *testing.T, schedulers []*process) {
	t.Helper()
	for _, scheduler := range schedulers {
		assert.NotContains(t, scheduler.log.text(), alertstest.Planted)
	}
	for _, args := range [][]string{{"alerts", "list"}, {"alerts", "test"}, {"alerts", "test", "--json"}, {"status", "--json"}, {"config", "check"}} {
		printed, err := a.command(args...).CombinedOutput()
		require.NoError(t, err, "%s", printed)
		assert.NotContains(t, string(printed), alertstest.Planted, args)
	}
	for _, key := range a.redis.Keys(t.Context(), "*").Val() {
		dumped := a.redis.Dump(t.Context(), key).Val()
		assert.NotContains(t, dumped, alertstest.Planted, key)
	}
}

// A leader dies between any two of its steps, and another one goes on. Only where it dies after the channel has taken the
// message is it sent a second time, with the same id.
func TestTheLeaderKilledAtEveryStepOfAnAlert(t *testing.T) {
	t.Parallel()
	for failpoint, times := range map[string]int{"alert.recorded": 1, "alert.begun": 1, "alert.sent": 2} {
		t.Run(failpoint, func(t *testing.T) {
			t.Parallel()
			a := deployAlerts(t, func(r *alertstest.Receivers, dir string) string {
				for name, secret := range map[string]string{"url": r.URL("webhook"), "secret": alertstest.WebhookSecret} {
					require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(secret), 0o600))
				}
				return "  channels: [{name: webhook, type: webhook, url_file: url, secret_file: secret}]\n"
			})
			a.startWorkers(1)
			dying := a.failing(failpoint, "scheduler")
			a.open()
			requireKilled(t, dying)
			a.startSchedulers(1)
			a.told(times, "webhook")
			a.heal()
			a.told(times+1, "webhook")
			taken := a.receivers.Taken("webhook")
			require.Len(t, taken, times+1)
			ids := map[string]int{}
			for _, message := range taken {
				ids[message.ID]++
			}
			require.Len(t, ids, 2, "what is sent again has its id")
			require.Equal(t, times, ids[taken[0].ID])
			a.requireEvents(t, "alert.firing", "alert.resolved")
		})
	}
}
