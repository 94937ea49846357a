package alerts

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/forebay-queue/forebay/tasks/alerts"
)

var noon = time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)

// desk is a judging that goes on, second by second.
type desk struct {
	settings alerts.Settings
	states   map[string]alerts.State
	now      time.Time
	holding  []Finding
	unknown  map[string]bool
	told     []alerts.Message
}

func newDesk() *desk {
	settings := alerts.DefaultSettings()
	settings.Channels = []alerts.Channel{{Name: "ops", Type: alerts.Slack}, {Name: "night", Type: alerts.Email, Severity: alerts.Critical}}
	return &desk{settings: settings, states: map[string]alerts.State{}, now: noon}
}

// pass judges once a second, and has events written as a Watch does.
func (d *desk) pass(length time.Duration) {
	for range length / time.Second {
		d.step()
		d.now = d.now.Add(time.Second)
	}
}

func (d *desk) step() {
	change := Judge(d.states, Seen{At: d.now, Holding: d.holding, Unknown: d.unknown}, d.settings)
	for _, key := range change.Forget {
		delete(d.states, key)
	}
	for _, state := range change.Write {
		state.Event = alerts.SaysFiring
		if state.Over() {
			state.Event = alerts.SaysResolved
		}
		d.states[state.Key()] = state
	}
	d.told = append(d.told, change.Messages...)
}

// said are the messages of a channel: "+" fires, "-" is over, in the order of their alerts.
func (d *desk) said(channel string) []string {
	found := []string{}
	for _, message := range d.told {
		if message.Channel != channel {
			continue
		}
		text := ""
		for _, alert := range message.Alerts {
			sign := "+"
			if alert.Over() {
				sign = "-"
			}
			text += sign + alert.Key() + " "
		}
		if message.Reminder {
			text += "again "
		}
		found = append(found, text)
	}
	return found
}

func TestItFiresAfterItsTimeAndIsOverAfterItsOwn(t *testing.T) {
	t.Parallel()
	d := newDesk()
	d.holding = []Finding{{alerts.BreakerOpen, "first", "It is open."}}
	d.pass(10 * time.Second)
	require.False(t, d.states["breaker_open/first"].Fires(), "not for long enough")
	d.pass(time.Second)
	require.True(t, d.states["breaker_open/first"].Fires())
	d.pass(14 * time.Second)
	require.Empty(t, d.told, "it waits for others")
	d.pass(time.Second)
	require.Equal(t, []string{"+breaker_open/first "}, d.said("ops"))
	require.Empty(t, d.said("night"), "it is told of what is critical")
	require.Equal(t, noon, d.told[0].Alerts[0].Since)
	d.pass(time.Hour)
	require.Len(t, d.told, 1, "once")

	d.holding = nil
	good := d.now
	d.pass(75 * time.Second)
	require.Len(t, d.told, 1)
	d.pass(time.Second)
	require.Equal(t, []string{"+breaker_open/first ", "-breaker_open/first "}, d.said("ops"))
	require.Equal(t, good, d.told[1].Alerts[0].Until, "since when it was good")
	d.pass(time.Second)
	require.Empty(t, d.states)
}

func TestWhatFlapsIsToldOnce(t *testing.T) {
	t.Parallel()
	d := newDesk()
	open := []Finding{{alerts.BreakerOpen, "first", "It is open."}}
	for range 50 { // shorter than its time: nothing
		d.holding = open
		d.pass(9 * time.Second)
		d.holding = nil
		d.pass(time.Second)
	}
	require.Empty(t, d.told)
	d.holding = open
	d.pass(30 * time.Second)
	for range 50 { // good for shorter than is needed to be over
		d.holding = nil
		d.pass(59 * time.Second)
		d.holding = open
		d.pass(time.Second)
	}
	require.Equal(t, []string{"+breaker_open/first "}, d.said("ops"))
	// Over, and again before anybody is told: it was never over.
	d.holding = nil
	d.pass(65 * time.Second)
	require.True(t, d.states["breaker_open/first"].Over())
	d.holding = open
	d.pass(time.Hour)
	require.Equal(t, []string{"+breaker_open/first "}, d.said("ops"))
	require.True(t, d.states["breaker_open/first"].Fires())
}

func TestSeveralAreOneMessage(t *testing.T) {
	t.Parallel()
	d := newDesk()
	d.holding = []Finding{{alerts.BreakerOpen, "first", "It is open."}}
	d.pass(5 * time.Second)
	d.holding = append(d.holding, Finding{alerts.BreakerOpen, "second", "It is open."}, Finding{alerts.TierDown, "low", "It is down."})
	d.pass(time.Minute)
	require.Equal(t, []string{"+tier_down/low +breaker_open/first +breaker_open/second "}, d.said("ops"), "the gravest first")
	require.Equal(t, []string{"+tier_down/low "}, d.said("night"))
	d.holding = nil
	d.pass(2 * time.Minute)
	require.Equal(t, "-tier_down/low -breaker_open/first -breaker_open/second ", d.said("ops")[1])
	require.Len(t, d.told, 4)
}

func TestWhatIsOverBeforeItIsToldIsToldAsOver(t *testing.T) {
	t.Parallel()
	d := newDesk()
	d.settings.Group, d.settings.ResolveAfter = time.Minute, time.Second
	d.holding = []Finding{{alerts.BudgetSpent, "all", "It is spent."}}
	d.pass(10 * time.Second)
	d.holding = nil
	d.pass(5 * time.Minute)
	require.Equal(t, []string{"-budget_spent/all "}, d.said("ops"))
}

func TestWhatCannotBeReadStays(t *testing.T) {
	t.Parallel()
	d := newDesk()
	d.holding = []Finding{{alerts.NoWorker, "", "None is alive."}}
	d.pass(2 * time.Minute)
	require.Len(t, d.told, 2)
	d.holding, d.unknown = nil, map[string]bool{alerts.NoWorker: true}
	d.pass(time.Hour)
	require.Len(t, d.told, 2)
	d.unknown = nil
	d.pass(2 * time.Minute)
	require.Equal(t, []string{"+no_worker/ ", "-no_worker/ "}, d.said("night"))
}

func TestReminders(t *testing.T) {
	t.Parallel()
	d := newDesk()
	d.settings.Repeat = time.Hour
	d.holding = []Finding{{alerts.BudgetNear, "all", "It is nearly spent."}}
	d.pass(2*time.Hour + 30*time.Minute)
	require.Equal(t, []string{"+budget_near/all ", "+budget_near/all again ", "+budget_near/all again "}, d.said("ops"))
}

func TestAReloadChangesWhoIsTold(t *testing.T) {
	t.Parallel()
	d := newDesk()
	d.holding = []Finding{{alerts.TierDown, "low", "It is down."}}
	d.pass(time.Minute)
	require.Len(t, d.told, 2)
	d.settings.Channels = append(slices.Clone(d.settings.Channels[:1]), alerts.Channel{Name: "new", Type: alerts.Lark})
	d.settings.Off = []string{alerts.TierDown} // it is no longer judged: over
	d.pass(5 * time.Minute)
	require.Equal(t, []string{"+tier_down/low ", "-tier_down/low "}, d.said("ops"))
	require.Empty(t, d.said("new"), "who was not told that it fires is not told that it is over")
	require.Len(t, d.said("night"), 1, "it is no more")
	require.Empty(t, d.states)
}

// A model is told by what was true at each second; whatever happens, each channel hears of each alert that it fires and
// that it is over, in turns, and of nothing twice; and what held for long enough was told.
func TestJudgingAgainstModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		d := newDesk()
		d.settings.Group = time.Duration(rapid.IntRange(1, 20).Draw(rt, "group")) * time.Second
		d.settings.ResolveAfter = time.Duration(rapid.IntRange(1, 20).Draw(rt, "resolve")) * time.Second
		for name := range alerts.Kinds {
			d.settings.For[name] = time.Duration(rapid.IntRange(0, 10).Draw(rt, "for "+name)) * time.Second
		}
		keys := []Finding{{alerts.BreakerOpen, "first", "open"}, {alerts.TierDown, "low", "down"}, {alerts.NoWorker, "", "none"}}
		held := map[string]time.Duration{}
		fires := map[string]bool{} // by the model
		for range rapid.IntRange(1, 40).Draw(rt, "stretches") {
			holding := map[string]bool{}
			d.holding = nil
			for _, finding := range keys {
				if rapid.Bool().Draw(rt, finding.Name) {
					d.holding = append(d.holding, finding)
					holding[finding.Name] = true
				}
			}
			for range rapid.IntRange(1, 30).Draw(rt, "seconds") {
				d.pass(time.Second)
				for _, finding := range keys {
					follow(finding, holding[finding.Name], d.settings, held, fires)
				}
			}
		}
		d.holding = nil
		d.pass(3 * time.Minute)
		require.Empty(rt, d.states, "all is over, told and forgotten")
		for _, channel := range d.settings.Channels {
			up := map[string]bool{}
			for _, message := range d.told {
				if message.Channel != channel.Name {
					continue
				}
				require.NotEmpty(rt, message.Alerts)
				for _, alert := range message.Alerts {
					require.True(rt, channel.Wants(alert), "only what it is to be told")
					if !alert.Over() {
						require.False(rt, up[alert.Key()], "that it fires is told once")
					}
					up[alert.Key()] = !alert.Over()
				}
			}
			require.NotContains(rt, slices.Collect(maps.Values(up)), true, "each is told to be over")
		}
		for _, finding := range keys {
			told := slices.ContainsFunc(d.told, func(m alerts.Message) bool {
				return slices.ContainsFunc(m.Alerts, func(a alerts.Alert) bool { return a.Name == finding.Name })
			})
			require.Equal(rt, fires[finding.Name], told, "%s is told if and only if it held for long enough", finding.Name)
		}
	})
}

// follow is the model: how long a condition has held, and whether it ever held for long enough.
func follow(finding Finding, holds bool, settings alerts.Settings, held map[string]time.Duration, fires map[string]bool) {
	if !holds {
		held[finding.Name] = 0
		return
	}
	// The first second that it is seen to hold, it has held for none.
	if held[finding.Name] >= settings.For[finding.Name] {
		fires[finding.Name] = true
	}
	held[finding.Name] += time.Second
}

func TestKindsHaveAllThatIsSaidOfThem(t *testing.T) {
	t.Parallel()
	for name, kind := range alerts.Kinds {
		assert.NotEmpty(t, kind.Title, name)
		assert.NotEmpty(t, kind.Do, name)
		assert.NotEmpty(t, kind.Severity, name)
		assert.FileExists(t, fmt.Sprintf("../../../docs/runbooks/%s.md", kind.Runbook), name)
	}
}
