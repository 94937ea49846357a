package command

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/alerts"
	"github.com/forebay-queue/forebay/tasks/fleet"
	"github.com/forebay-queue/forebay/tasks/gate"
)

// frame is what the screen shows, in no more columns and lines than it has.
func (m *watchScreen) frame() string {
	if m.width == 0 || m.height == 0 {
		return ""
	}
	if m.seen == nil {
		return cut(m.width, "forebay status: reading "+printable(m.watcher.deployment.redis))
	}
	return strings.Join(fit(m.width, m.height, m.sections(time.Now())), "\n")
}

// sections are what is shown, the most important first.
func (m *watchScreen) sections(now time.Time) []*section {
	top := &section{heads: []string{spread(m.width, bold("forebay status")+"  "+printable(m.watcher.deployment.redis),
		faint("every "+m.watcher.every.String()+", q quits  ")+now.Format(time.TimeOnly))}}
	seen := m.seen
	if seen.Error != "" {
		top.heads = append(top.heads, cut(m.width, red("Redis is away since "+clock(m.awaySince, now))+": "+seen.Error))
	}
	if seen.statusReply == nil {
		return []*section{top}
	}
	if seen.Error != "" {
		top.heads = append(top.heads, cut(m.width, "It is asked again. What follows is of "+clock(seen.At, now)+"."))
	}
	top.heads = append(top.heads, cut(m.width, fleetLine(seen.Fleet)))
	for _, concern := range seen.Fleet.concerns() {
		top.rows = append(top.rows, cut(m.width, yellow("warning")+" "+printable(concern.Subject+": "+concern.Message)))
	}
	return []*section{
		top, alertSection(m.width, seen, now), queueSection(m.width, seen), activitySection(m.width, seen), endpointSection(m.width, seen, now), deadSection(m.width, seen, now),
		spendSection(m.width, seen), tierSection(m.width, seen, now), waitSection(m.width, seen, now),
	}
}

// tabled makes a section of a table, the heads of which are said apart from it.
func tabled(width int, shrinks []int, least int, heads []string, rows [][]string) *section {
	for i, head := range heads {
		heads[i] = bold(head)
	}
	lines := columns(width, shrinks, slices.Insert(rows, 0, heads)...)
	return &section{heads: lines[:1], rows: lines[1:], least: least}
}

func fleetLine(f fleetStatus) string {
	counts := map[fleet.Kind]int{}
	for _, p := range f.Processes {
		counts[p.Kind]++
	}
	var parts []string
	for _, kind := range []fleet.Kind{fleet.Dev, fleet.Worker, fleet.Scheduler, fleet.Producer} {
		if counts[kind] > 0 {
			parts = append(parts, plural(counts[kind], string(kind)))
		}
	}
	if len(f.workers()) == 0 {
		parts = append(parts, red("no worker is alive"))
	}
	return strings.Join(parts, ", ")
}

// alertSection is nil where nothing fires.
func alertSection(width int, now *watched, at time.Time) *section {
	if len(now.Alerts) == 0 {
		return nil
	}
	var rows [][]string
	for _, alert := range now.Alerts {
		severity := yellow(string(alert.Severity))
		if alert.Severity == alerts.Critical {
			severity = red(string(alert.Severity))
		}
		rows = append(rows, []string{severity, alert.Name + " " + printable(alert.Subject), clock(alert.Since, at), printable(alert.Summary)})
	}
	return tabled(width, []int{3, 1}, 3, []string{"ALERT", "", "SINCE", ""}, rows)
}

func queueSection(width int, now *watched) *section {
	var rows [][]string
	for _, q := range now.Queues {
		state := ""
		if q.Paused {
			state = yellow("paused")
		} else if alone := pausedAlone(q); len(alone) > 0 {
			state = yellow("paused: " + strings.Join(alone, ", "))
		}
		oldest := "-"
		if q.OldestS != nil {
			oldest = age(*q.OldestS)
		}
		rows = append(rows, []string{q.Queue, count(q.Pending), count(q.Active), count(q.Scheduled), count(q.Retry), oldest, state})
	}
	s := tabled(width, []int{0, 6}, len(rows), []string{"QUEUE", "PENDING", "ACTIVE", "SCHEDULED", "RETRY", "OLDEST", ""}, rows)
	if len(now.PausedTaskTypes) > 0 {
		s.least++
		s.rows = append(s.rows, cut(width, yellow("paused")+" task types: "+strings.Join(now.PausedTaskTypes, ", ")))
	}
	return s
}

// money is a sum at a glance: whole cents from a dollar on.
func money(usd float64) string {
	if usd >= 1 {
		return fmt.Sprintf("$%.2f", usd)
	}
	return dollars(usd)
}

func count(n int) string { return strconv.Itoa(n) }

func endpointSection(width int, now *watched, at time.Time) *section {
	if now.Endpoints == nil {
		return nil
	}
	var rows [][]string
	for _, e := range now.Endpoints {
		breaker := e.glance(at)
		switch e.State {
		case gate.StateClosed:
			breaker = green(breaker)
		case gate.StateHalfOpen:
			breaker = yellow(breaker)
		case gate.StateOpen:
			breaker = red(breaker)
		}
		health := "-"
		if e.Health != nil {
			if health = e.Health.text(); e.Health.Behind {
				health += ", asked last"
			}
		}
		rows = append(rows, []string{e.label(), breaker, e.latency(), strconv.FormatInt(e.Calls, 10), strconv.FormatInt(e.Failures, 10), health})
	}
	return tabled(width, []int{0, 1, 5}, 3, []string{"ENDPOINT", "BREAKER", "LATENCY", "CALLS", "FAILED", "HEALTH"}, rows)
}

// glance is the state of a breaker, the cause before the time: a narrow screen shows its beginning.
func (e endpointStatus) glance(now time.Time) string {
	text := string(e.State)
	switch {
	case e.ProbeUntil != nil:
		text = "probe out"
	case e.RampUntil != nil:
		text += ", ramping up"
	}
	switch {
	case e.Forced:
		text += " by hand"
	case e.Cause != "":
		text += ", " + e.Cause
	}
	if e.State == gate.StateOpen && e.Until != nil {
		text += ", to " + clock(*e.Until, now)
	}
	return text
}

func tierSection(width int, now *watched, at time.Time) *section {
	if len(now.Tiers) == 0 {
		return nil
	}
	var rows [][]string
	for _, tier := range now.Tiers {
		first, since := tier.Active, "-"
		switch {
		case first == "" && tier.Up == 0:
			first = red("none is up")
		case first == "":
			first = "-" // no leader has said so
		}
		if tier.Since != nil {
			since = clock(*tier.Since, at)
		}
		success := "-"
		if now.Activity != nil {
			for _, kind := range now.Activity.Tiers {
				if kind.Name == tier.Name {
					success = percent(kind.SuccessRate)
				}
			}
		}
		rows = append(rows, []string{tier.Name, printable(dash(tier.Model)), first, since, fmt.Sprintf("%d/%d", tier.Up, tier.Total), success})
	}
	return tabled(width, []int{0, 1, 2}, 1, []string{"TIER", "MODEL", "ASKS FIRST", "SINCE", "UP", "SUCCESS"}, rows)
}

// activitySection is what jobs ended how within the last minutes, and how many a second over time.
func activitySection(width int, now *watched) *section {
	report := now.Activity
	if report == nil || len(report.Points) == 0 {
		return nil
	}
	var all, succeeded, failed, retried int64
	ended := make([]float64, len(report.Points))
	for i, p := range report.Points {
		sum := p.Succeeded + p.Failed + p.Cancelled + p.Expired
		all, succeeded, failed, retried = all+sum, succeeded+p.Succeeded, failed+p.Failed+p.Expired, retried+p.Retried
		ended[i] = float64(sum)
	}
	var success *float64
	if succeeded+failed > 0 {
		success = new(float64(succeeded) / float64(succeeded+failed))
	}
	lately := report.Points[max(0, len(report.Points)-2)] // the last one is not over
	text := fmt.Sprintf("%s  %d ended, %s succeeded, %s; %.1f/s", bold("LAST 15 MINUTES"), all, percent(success), plural(int(retried), "retry"),
		float64(lately.Succeeded+lately.Failed+lately.Cancelled+lately.Expired)/float64(max(1, report.StepS)))
	text = strings.Replace(text, "retrys", "retries", 1)
	if lately.JobP95MS != nil {
		text += ", p95 " + brief(milliseconds(*lately.JobP95MS))
	}
	s := &section{heads: []string{cut(width, text)}, least: 1}
	if all > 0 {
		s.rows = []string{cut(width, sparkline(squeeze(ended, min(width, len(ended)))))}
	}
	return s
}

// squeeze adds neighbours up until there are no more values than columns.
func squeeze(values []float64, columns int) []float64 {
	if columns < 1 {
		return nil
	}
	group := (len(values) + columns - 1) / columns
	var squeezed []float64
	for from := 0; from < len(values); from += group {
		sum := 0.0
		for _, value := range values[from:min(from+group, len(values))] {
			sum += value
		}
		squeezed = append(squeezed, sum)
	}
	return squeezed
}

// percent is a share, "-" where there is none. One that is not whole is never shown as 100 %.
func percent(share *float64) string {
	if share == nil {
		return "-"
	}
	return fmt.Sprintf("%.1f%%", math.Floor(*share*1000)/10)
}

// age is a number of seconds at a glance.
func age(seconds float64) string { return brief(time.Duration(seconds * float64(time.Second))) }

// spendSection is what today's calls cost, and then the scopes of the budget that have a limit.
func spendSection(width int, now *watched) *section {
	if now.Spend == nil {
		return nil
	}
	of := func(spent float64, budget *float64, sign string) string {
		text := strings.Replace(money(spent), "$", sign, 1)
		if budget != nil && *budget > 0 {
			text += fmt.Sprintf(" of %s (%s)", strings.Replace(money(*budget), "$", sign, 1), percent(new(spent / *budget)))
		}
		return text
	}
	text := bold("SPENT TODAY") + "  " + of(now.Spend.USD, now.Spend.BudgetUSD, "$") + ", " + of(now.Spend.CNY, nil, "¥")
	if now.Spend.BudgetCNY != nil {
		text += " of " + strings.Replace(money(*now.Spend.BudgetCNY), "$", "¥", 1)
	}
	second := "dearest model: " + money(now.Spend.DearestUSD)
	if now.Spend.MaybeBilledUSD > 0 {
		second += fmt.Sprintf("; maybe billed: %s", money(now.Spend.MaybeBilledUSD))
	}
	s := &section{heads: []string{cut(width, text)}, rows: []string{cut(width, "  "+second)}, least: 1}
	var rows [][]string
	for _, scope := range now.Budget {
		if scope.Scope != gate.ScopeAll && scope.LimitUSD != nil {
			rows = append(rows, []string{"  " + scope.Scope.String(), of(scope.SpentUSD, scope.LimitUSD, "$")})
		}
	}
	if len(rows) > 0 {
		s.rows = append(s.rows, columns(width, []int{0}, rows...)...)
	}
	return s
}

func deadSection(width int, now *watched, at time.Time) *section {
	s := &section{least: 1}
	jobs, hooks := now.DeadLetters.Jobs, now.DeadLetters.Webhooks
	if jobs.Count+hooks.Count == 0 {
		return nil
	}
	title := bold("DEAD LETTERS") + "  " + red(plural(jobs.Count, "job")) + ", " + plural(hooks.Count, "webhook")
	if jobs.OldestAt != nil {
		title += "; the oldest of " + clock(*jobs.OldestAt, at)
	}
	s.heads = []string{cut(width, title)}
	var rows [][]string
	for _, reason := range now.DeadReasons {
		latest := "-"
		if reason.Latest != nil {
			latest = clock(*reason.Latest, at)
		}
		rows = append(rows, []string{"  " + printable(dash(reason.Key)), count(reason.Jobs), "last " + latest})
	}
	if len(rows) > 0 {
		s.rows = columns(width, []int{0}, rows...)
	}
	return s
}

func waitSection(width int, now *watched, at time.Time) *section {
	var rows [][]string
	for _, group := range now.Waiting.For {
		what := waiting(&tasks.Waiting{Reason: group.Reason, Limit: group.Limit, Route: group.Route, Cause: group.Cause}, at)
		rows = append(rows, []string{printable(what), count(group.Jobs), clock(group.Next, at)})
	}
	if len(rows) == 0 {
		return nil
	}
	heads := []string{"WAITING FOR", "JOBS", "NEXT"}
	if now.Waiting.Looked < now.Waiting.Open {
		heads[1] = fmt.Sprintf("JOBS (OF %d LOOKED AT)", now.Waiting.Looked)
	}
	return tabled(width, []int{0}, 1, heads, rows)
}
