package catalog_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
)

func TestTheBudgetHasDefaults(t *testing.T) {
	t.Parallel()
	budget := valid(t).Budget
	assert.Equal(t, catalog.DailyLimit(100), budget.DailyUSD)
	assert.Equal(t, catalog.Defer, budget.OnExhausted)
	assert.Equal(t, "UTC", budget.TimeZone)
	assert.Equal(t, "off", catalog.Unlimited.String())
	assert.Equal(t, "0.5", catalog.DailyLimit(0.5).String())
}

func TestValidateRefusesBudgets(t *testing.T) {
	t.Parallel()
	for want, breakIt := range map[string]func(*catalog.Catalog){
		"budget.daily_usd: must be more than 0 and at most 1000000 US dollars, or off, got -1":             func(c *catalog.Catalog) { c.Budget.DailyUSD = -1 },
		"budget.tenants.acme: must be 0 to 1000000 US dollars, got 2000000; leave it out for no limit":     func(c *catalog.Catalog) { c.Budget.Tenants = map[string]float64{"acme": 2e6} },
		"budget.tenants.a b: a name must be 1 to 64 characters of A-Z a-z 0-9 _ . -":                       func(c *catalog.Catalog) { c.Budget.Tenants = map[string]float64{"a b": 1} },
		`budget.task_types.summery: no task type "summery", did you mean "summary"?`:                       func(c *catalog.Catalog) { c.Budget.TaskTypes = map[string]float64{"summery": 1} },
		`budget.time_zone: must be a name of the IANA database, such as Europe/Berlin, got "Local"`:        func(c *catalog.Catalog) { c.Budget.TimeZone = "Local" },
		`budget.time_zone: must be a name of the IANA database, such as Europe/Berlin, got "Mars/Olympus"`: func(c *catalog.Catalog) { c.Budget.TimeZone = "Mars/Olympus" },
		"budget.on_exhausted: must be defer, degrade or fail, got \"stop\"":                                func(c *catalog.Catalog) { c.Budget.OnExhausted = "stop" },
		"task_types.summary.on_budget_exhausted: must be defer, degrade or fail, got \"stop\"":             func(c *catalog.Catalog) { c.TaskTypes["summary"].OnBudgetExhausted = "stop" },
	} {
		c := valid(t)
		breakIt(c)
		assert.EqualError(t, c.Validate(), want)
	}
}

func TestOnExhaustedIsTheTaskTypesFirst(t *testing.T) {
	t.Parallel()
	c := valid(t)
	c.TaskTypes["summary"].OnBudgetExhausted = catalog.Fail
	assert.Equal(t, catalog.Fail, c.OnExhausted(tasks.Job{TaskType: "summary"}))
	assert.Equal(t, catalog.Defer, c.OnExhausted(tasks.Job{TaskType: "plain"}))
	assert.Equal(t, catalog.Defer, c.OnExhausted(tasks.Job{Tier: "low"}))
}

func TestADayBeginsAtMidnightOfItsZone(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		zone, at, day, begins, ends string
	}{
		{"UTC", "2026-11-24T23:59:59Z", "2026-11-24", "2026-11-24T00:00:00Z", "2026-11-25T00:00:00Z"},
		{"Asia/Shanghai", "2026-11-24T16:00:00Z", "2026-11-25", "2026-11-24T16:00:00Z", "2026-11-25T16:00:00Z"},
		{"Europe/Berlin", "2026-10-25T12:00:00Z", "2026-10-25", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z"},
		// Clocks that change at midnight: the day begins at one o'clock, or the hour before it comes twice.
		{"Africa/Cairo", "2026-04-24T09:00:00Z", "2026-04-24", "2026-04-23T22:00:00Z", "2026-04-24T21:00:00Z"},
		{"Africa/Cairo", "2026-10-29T21:30:00Z", "2026-10-29", "2026-10-28T21:00:00Z", "2026-10-29T22:00:00Z"},
	} {
		c := valid(t)
		c.Budget.TimeZone = row.zone
		require.NoError(t, c.Validate())
		at, err := time.Parse(time.RFC3339, row.at)
		require.NoError(t, err)
		day := c.Budget.Day(at)
		assert.Equal(t, row.day, day.Name, row)
		assert.Equal(t, row.begins, day.Begins.UTC().Format(time.RFC3339), row)
		assert.Equal(t, row.ends, day.Ends.UTC().Format(time.RFC3339), row)
	}
}

// Every moment belongs to the day whose bounds hold it, and the days follow each other without a gap.
func TestDaysFollowEachOther(t *testing.T) {
	t.Parallel()
	for _, zone := range []string{"Africa/Cairo", "America/Havana", "Asia/Beirut", "Europe/Berlin", "Asia/Shanghai"} {
		c := valid(t)
		c.Budget.TimeZone = zone
		require.NoError(t, c.Validate())
		last := c.Budget.Day(time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC))
		for at := last.Begins; at.Year() < 2027; at = at.Add(30 * time.Minute) {
			day := c.Budget.Day(at)
			require.False(t, at.Before(day.Begins) || !at.Before(day.Ends), "%s %s: %v", zone, at, day)
			if day.Name != last.Name {
				require.True(t, day.Begins.Equal(last.Ends), "%s: %v, %v", zone, last, day)
			}
			last = day
		}
	}
}

func TestBound(t *testing.T) {
	t.Parallel()
	c := valid(t)
	for request, want := range map[string]int{
		`{"messages":[{"role":"user","content":"max_tokens\": 9 \\"}],"max_tokens":100}`: 100,
		`{"max_tokens" : 100, "max_completion_tokens":300 ,"n":2}`:                       600,
		`{"max_tokens":7,"n":null,"x":{"max_tokens":9,"n":5},"y":["n",4]}`:               7,
		`{"n":3,"max_tokens":1e2}`:           300,
		`{"messages":[]}`:                    1024,
		`{"max_\u0074okens":4000}`:           4000,
		`{"stop":"max_tokens","seed":55}`:    1024,
		`{"max_tokens":9,"text":"never ends`: 9,
	} {
		job := tasks.Job{Kind: tasks.KindChat, Request: json.RawMessage(request)}
		assert.Equal(t, want, c.Estimate("mini", job, 1).Bound, request)
	}
}

// The bound is what a decoder would read, whatever stands around it.
func FuzzBound(f *testing.F) {
	f.Add([]byte(`{"messages":[{"content":"a \"quote\" \\"}],"max_tokens":12,"n":2}`))
	f.Add([]byte(`{"n":2,"a":{"n":[1,{"max_tokens":5}]},"max_tokens":5,"b":"\\\""}`))
	c := small()
	require.NoError(f, c.Validate())
	f.Fuzz(func(t *testing.T, request []byte) {
		got := c.Estimate("mini", tasks.Job{Kind: tasks.KindChat, Request: request}, 1).Bound
		var fields map[string]json.RawMessage
		if json.Unmarshal(request, &fields) != nil {
			return
		}
		want, answers := 0, 1
		if json.Unmarshal(fields["max_tokens"], &want) != nil || want < 1 || want > 1e6 {
			return
		}
		if given, found := fields["n"]; found && (json.Unmarshal(given, &answers) != nil || answers < 1 || answers > 1e6) {
			return
		}
		want *= answers
		if got < want {
			t.Errorf("the bound is %d, of which %d was seen: %s", want, got, request)
		}
	})
}

func TestCheaperTiers(t *testing.T) {
	t.Parallel()
	c := valid(t)
	assert.Equal(t, []string{"larger", "mini"}, c.CheaperTiers("large"))
	assert.Empty(t, c.CheaperTiers("mini"))
	assert.InDelta(t, 7.3, c.CNYPerUSD("gone"), 0)
}
