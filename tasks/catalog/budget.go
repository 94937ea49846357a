package catalog

import (
	"errors"
	"math"
	"slices"
	"strconv"
	"time"
	_ "time/tzdata" // a budget's day is the same on machines that have no time zones of their own

	"github.com/forebay-queue/forebay/tasks"
)

// Budget is what may be spent on a day, in US dollars of credit. A call is held at its worst case before it is made,
// in all that limits it, and settled at what it cost.
type Budget struct {
	// DailyUSD limits all jobs together. Unlimited turns it off. Defaults to 100.
	DailyUSD DailyLimit `yaml:"daily_usd"`
	// Tenants and TaskTypes limit the jobs of one tenant and of one task type, beside DailyUSD. 0 lets free models
	// through only; whoever is not named has no limit of its own.
	Tenants   map[string]float64 `yaml:"tenants"`
	TaskTypes map[string]float64 `yaml:"task_types"`
	// TimeZone says when a day begins: a name of the IANA database, such as Asia/Shanghai. Defaults to UTC.
	TimeZone string `yaml:"time_zone"`
	// OnExhausted is what becomes of a job that the budget has no room for. Defaults to Defer.
	OnExhausted OnExhausted `yaml:"on_exhausted"`

	// zone is TimeZone, once it has been looked up.
	zone *time.Location
}

// DailyLimit is US dollars a day. In YAML a number, or off for Unlimited.
type DailyLimit float64

// Unlimited is no limit.
var Unlimited = DailyLimit(math.Inf(1))

// Off is how a limit that is turned off is written.
const Off = "off"

// UnmarshalYAML reads a number, or off.
func (l *DailyLimit) UnmarshalYAML(unmarshal func(any) error) error {
	var dollars float64
	if err := unmarshal(&dollars); err == nil {
		*l = DailyLimit(dollars)
		return nil
	}
	var text string
	if err := unmarshal(&text); err != nil {
		return err
	}
	if text != Off {
		return errors.New("must be US dollars, or " + Off)
	}
	*l = Unlimited
	return nil
}

// String is the limit as a file says it.
func (l DailyLimit) String() string {
	if l == Unlimited {
		return Off
	}
	return strconv.FormatFloat(float64(l), 'f', -1, 64)
}

// OnExhausted says what becomes of a job that the budget has no room for.
type OnExhausted string

// What may become of it. Whichever it is, a job that only the holds of calls which are out keep from going on waits
// for those, some seconds.
const (
	// Defer lets it wait for the next day, free of charge.
	Defer OnExhausted = "defer"
	// Degrade takes the next cheaper model of the tiers that the budget has room for; Defer when it has for none. A job
	// that names its models gets no other.
	Degrade OnExhausted = "degrade"
	// Fail ends it as failed.
	Fail OnExhausted = "fail"
)

const (
	defaultDailyUSD = 100
	defaultTimeZone = "UTC"
	// maxUSD bounds every limit, so that amounts stay whole numbers that Lua can count exactly.
	maxUSD = 1_000_000
)

func (b *Budget) fillDefaults() {
	fill(&b.DailyUSD, defaultDailyUSD)
	fill(&b.TimeZone, defaultTimeZone)
	fill(&b.OnExhausted, Defer)
}

func (v *validation) budget() {
	budget := v.catalog.Budget
	if daily := float64(budget.DailyUSD); budget.DailyUSD != Unlimited && !(daily > 0 && daily <= maxUSD) {
		v.refuse(at("budget", "daily_usd"), "must be more than 0 and at most %d US dollars, or %s, got %s", maxUSD, Off, budget.DailyUSD)
	}
	v.budgetLimits("tenants", budget.Tenants, nil)
	v.budgetLimits("task_types", budget.TaskTypes, sortedNames(v.catalog.TaskTypes))
	zone, err := time.LoadLocation(budget.TimeZone)
	if err != nil || budget.TimeZone == "Local" {
		v.refuse(at("budget", "time_zone"), "must be a name of the IANA database, such as Europe/Berlin, got %q", budget.TimeZone)
	}
	v.catalog.Budget.zone = zone
	v.onExhausted(at("budget", "on_exhausted"), budget.OnExhausted)
}

// budgetLimits checks the limits of one kind. known are the names that there are, nil where any may come.
func (v *validation) budgetLimits(field string, limits map[string]float64, known []string) {
	for _, name := range sortedNames(limits) {
		path, limit := at("budget", field, name), limits[name]
		switch {
		case !tasks.ValidName(name):
			v.refuse(path, "a name must be 1 to 64 characters of A-Z a-z 0-9 _ . -")
		case known != nil && !slices.Contains(known, name):
			v.refuse(path, "%s", unknown("task type", name, known))
		case !(limit >= 0 && limit <= maxUSD):
			v.refuse(path, "must be 0 to %d US dollars, got %s; leave it out for no limit", maxUSD, DailyLimit(limit))
		}
	}
}

func (v *validation) onExhausted(path []string, given OnExhausted) {
	switch given {
	case Defer, Degrade, Fail:
	default:
		v.refuse(path, "must be defer, degrade or fail, got %q", given)
	}
}

// OnExhausted is what becomes of the job when the budget has no room for it: what its task type says, else the budget.
func (c *Catalog) OnExhausted(job tasks.Job) OnExhausted {
	if taskType := c.TaskTypes[job.TaskType]; taskType != nil && taskType.OnBudgetExhausted != "" {
		return taskType.OnBudgetExhausted
	}
	return c.Budget.OnExhausted
}

// Day is one day of a budget.
type Day struct {
	// Name is its date, YYYY-MM-DD.
	Name         string
	Begins, Ends time.Time
}

// NextDay is when the day that holds a time ends, as users read it: in the budget's zone, with its name.
func (b Budget) NextDay(of time.Time) string {
	return b.Day(of).Ends.Format("2006-01-02 15:04") + " " + b.TimeZone
}

// Day is the day of the budget that holds a time. One that has not passed Validate has the days of UTC.
func (b Budget) Day(of time.Time) Day {
	zone := b.zone
	if zone == nil {
		zone = time.UTC
	}
	local := of.In(zone)
	return Day{Name: local.Format(time.DateOnly), Begins: midnight(local, 0), Ends: midnight(local, 1)}
}

// midnight is the first moment of the date of a time, so many days later.
func midnight(of time.Time, later int) time.Time {
	begin := time.Date(of.Year(), of.Month(), of.Day()+later, 0, 0, 0, 0, of.Location())
	noon := time.Date(of.Year(), of.Month(), of.Day()+later, 12, 0, 0, 0, of.Location())
	if begin.Day() != noon.Day() { // midnight falls into the hour that a change of the clocks leaves out or repeats
		begin = begin.Add(time.Hour)
	}
	return begin
}

// CheaperTiers lists the models of the model's tier and of those below it, of the same kind and without the model
// itself: its own tier first, the cheapest tier last.
func (c *Catalog) CheaperTiers(model string) []string {
	tier := slices.IndexFunc(c.Tiers, func(t Tier) bool { return t.Name == c.TierOf(model) })
	var models []string
	for ; tier >= 0; tier-- {
		for _, name := range c.Tiers[tier].Models {
			if name != model && c.Models[name].Kind == c.Models[model].Kind && !slices.Contains(models, name) {
				models = append(models, name)
			}
		}
	}
	return models
}

// CNYPerUSD is what a US dollar of credit costs in CNY on the account of an endpoint; the default for one that the
// catalog does not know.
func (c *Catalog) CNYPerUSD(endpoint string) float64 {
	if e := c.Endpoints[endpoint]; e != nil && c.Accounts[e.Account] != nil {
		return c.Accounts[e.Account].CNYPerUSD
	}
	return defaultCNYPerUSD
}
