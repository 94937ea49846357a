package command

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/gate"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

// maxCostDays is how many days of cost Redis keeps.
const maxCostDays = 400

// costReply is what `forebay cost --json` prints.
type costReply struct {
	// From and To are the first and the last day, in the budget's time zone.
	From     string `json:"from"`
	To       string `json:"to"`
	TimeZone string `json:"time_zone"`
	// By is what the rows are: day, task-type, model, endpoint or tenant.
	By    string    `json:"by"`
	Rows  []costRow `json:"rows"`
	Total costRow   `json:"total"`
	// Dearest are the dearest models of each kind, which DearestUSD is reckoned with.
	Dearest []string `json:"dearest_models"`
	// Budget is how today's stands.
	Budget []scopeStatus `json:"budget"`
}

// costRow is what some calls cost.
type costRow struct {
	Name  string `json:"name"`
	Calls int64  `json:"calls"`
	// MaybeBilled counts the calls of which nobody knows whether they were billed; MaybeUSD is their part of CostUSD, at
	// its worst.
	MaybeBilled      int64   `json:"maybe_billed"`
	PromptTokens     int     `json:"prompt_tokens"`
	CompletionTokens int     `json:"completion_tokens"`
	CostUSD          float64 `json:"cost_usd"`
	MaybeUSD         float64 `json:"maybe_billed_usd"`
	CostCNY          float64 `json:"cost_cny"`
	// DearestUSD is what the same tokens would have cost with the dearest model of their kind.
	DearestUSD float64 `json:"dearest_usd"`
}

// scopeStatus is how a scope of the budget stands.
type scopeStatus struct {
	Scope gate.Scope `json:"scope"`
	Day   string     `json:"day"`
	// LimitUSD and LeftUSD are null where there is no limit.
	LimitUSD *float64 `json:"limit_usd"`
	SpentUSD float64  `json:"spent_usd"`
	// HeldUSD is reserved for the calls that are out.
	HeldUSD float64   `json:"held_usd"`
	LeftUSD *float64  `json:"left_usd"`
	NextDay time.Time `json:"next_day"`
}

// costKeys say which row a cost belongs to.
var costKeys = map[string]func(gate.Cost) string{
	"day":       func(c gate.Cost) string { return c.Day },
	"task-type": func(c gate.Cost) string { return cmp.Or(c.TaskType, "adhoc") },
	"model":     func(c gate.Cost) string { return cmp.Or(c.Model, "unknown") },
	"endpoint":  func(c gate.Cost) string { return cmp.Or(c.Endpoint, "unknown") },
	"tenant":    func(c gate.Cost) string { return cmp.Or(c.Tenant, "unknown") },
}

func newCostCommand() *cobra.Command {
	var day, by string
	var days int
	cmd := &cobra.Command{
		Use:   "cost",
		Short: "Show what the calls of a day cost, and what is left of today's budget",
		Long: `Show what the calls of one or several days cost: in US dollars of credit at the configuration's prices, in CNY at
what each account pays for them, and against the dearest model for the same tokens. Days are those of the budget's
time zone. What may have been billed without anybody knowing counts at its worst.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if costKeys[by] == nil {
				return refuseUsage(cmd, "--by must be day, task-type, model, endpoint or tenant, got %q", by)
			}
			if days < 1 || days > maxCostDays {
				return refuseUsage(cmd, "--days must be 1 to %d, got %d", maxCostDays, days)
			}
			if _, err := time.Parse(time.DateOnly, day); day != "" && err != nil {
				return refuseUsage(cmd, "--day must be a date such as 2026-11-24, got %q", day)
			}
			s, err := requireSettings(cmd)
			if err != nil {
				return err
			}
			return s.onRedis(cmd, func(ctx context.Context, s *settings, client redis.UniversalClient) error {
				c := &s.file.Catalog
				reply, err := readCost(ctx, gate.NewBudget(client, keyspace.New(s.prefix), c.Budget), c, day, days, by)
				switch {
				case err != nil:
					return err
				case wantsJSON(cmd):
					return printJSON(cmd, reply)
				}
				return printCost(cmd.OutOrStdout(), reply, time.Now())
			})
		},
	}
	cmd.Flags().StringVar(&day, "day", "", "the last `day` to show, such as 2026-11-24 (default: today)")
	cmd.Flags().IntVar(&days, "days", 1, "how many days to add up")
	cmd.Flags().StringVar(&by, "by", "model", "day, task-type, model, endpoint or tenant")
	return cmd
}

func readCost(ctx context.Context, budget *gate.Budget, c *catalog.Catalog, day string, days int, by string) (costReply, error) {
	names := lastDays(cmp.Or(day, budget.Today().Name), days)
	reply := costReply{
		From: names[0], To: names[len(names)-1], TimeZone: c.Budget.TimeZone, By: by, Rows: []costRow{}, Total: costRow{Name: "total"},
	}
	costs, err := budget.Costs(ctx, names)
	if err != nil {
		return reply, err
	}
	rows := map[string]*costRow{}
	for _, cost := range costs {
		name := costKeys[by](cost)
		if rows[name] == nil {
			rows[name] = &costRow{Name: name}
		}
		rows[name].add(c, cost)
		reply.Total.add(c, cost)
	}
	for _, row := range rows {
		reply.Rows = append(reply.Rows, *row)
	}
	slices.SortFunc(reply.Rows, func(a, b costRow) int {
		if by != "day" && a.CostUSD != b.CostUSD {
			return cmp.Compare(b.CostUSD, a.CostUSD)
		}
		return strings.Compare(a.Name, b.Name)
	})
	reply.Dearest = c.DearestModels()
	reply.Budget, err = readScopes(ctx, budget)
	return reply, err
}

// lastDays are so many days up to one, in order.
func lastDays(last string, days int) []string {
	end, _ := time.Parse(time.DateOnly, last) // a date that was checked, or that the budget made
	names := make([]string, days)
	for i := range names {
		names[i] = end.AddDate(0, 0, i+1-days).Format(time.DateOnly)
	}
	return names
}

func (r *costRow) add(c *catalog.Catalog, cost gate.Cost) {
	kind := tasks.KindChat
	if model := c.Models[cost.Model]; model != nil {
		kind = model.Kind
	}
	_, dearest := c.DearestCost(kind, cost.Usage)
	r.Calls += cost.Calls
	r.MaybeBilled += cost.MaybeBilled
	r.PromptTokens += cost.Usage.PromptTokens
	r.CompletionTokens += cost.Usage.CompletionTokens
	r.CostUSD += gate.USD(cost.Nanos)
	r.MaybeUSD += gate.USD(cost.MaybeNanos)
	r.CostCNY += gate.USD(cost.Nanos) * c.CNYPerUSD(cost.Endpoint)
	r.DearestUSD += dearest
}

// readScopes reads how today's budget stands.
func readScopes(ctx context.Context, budget *gate.Budget) ([]scopeStatus, error) {
	today := budget.Today()
	states, err := budget.Scopes(ctx, today.Name)
	if err != nil {
		return nil, err
	}
	statuses := make([]scopeStatus, len(states))
	for i, state := range states {
		statuses[i] = scopeStatus{
			Scope: state.Scope, Day: today.Name, SpentUSD: gate.USD(state.Spent), HeldUSD: gate.USD(state.Held), NextDay: today.Ends.UTC(),
		}
		if state.Limited {
			statuses[i].LimitUSD = new(gate.USD(state.Limit))
			statuses[i].LeftUSD = new(gate.USD(max(0, state.Limit-state.Spent-state.Held)))
		}
	}
	return statuses, nil
}

func printCost(out io.Writer, reply costReply, now time.Time) error {
	span := reply.To
	if reply.From != reply.To {
		span = reply.From + " to " + reply.To
	}
	fmt.Fprintf(out, "%s (%s)\n\n", span, reply.TimeZone)
	list := table(out)
	row(list, strings.ToUpper(strings.ReplaceAll(reply.By, "-", " ")), "CALLS", "MAYBE BILLED", "PROMPT", "ANSWER", "USD", "CNY", "DEAREST USD")
	for _, r := range append(slices.Clone(reply.Rows), reply.Total) {
		row(list, r.Name, r.Calls, r.MaybeBilled, r.PromptTokens, r.CompletionTokens, dollars(r.CostUSD),
			strings.Replace(dollars(r.CostCNY), "$", "¥", 1), dollars(r.DearestUSD))
	}
	if err := list.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(out, "\nDearest: the same tokens with %s.\n\n", strings.Join(reply.Dearest, " or "))
	return printScopes(out, reply, now)
}

func printScopes(out io.Writer, reply costReply, now time.Time) error {
	scopes := reply.Budget
	list := table(out)
	row(list, "BUDGET OF TODAY", "LIMIT", "SPENT", "HELD", "LEFT")
	for _, s := range scopes {
		limit, left := "off", "-"
		if s.LimitUSD != nil {
			limit, left = dollars(*s.LimitUSD), dollars(*s.LeftUSD)
		}
		row(list, s.Scope.String(), limit, dollars(s.SpentUSD), dollars(s.HeldUSD), left)
	}
	if err := list.Flush(); err != nil || len(scopes) == 0 {
		return err
	}
	next := scopes[0].NextDay
	zone, err := time.LoadLocation(reply.TimeZone)
	if err != nil {
		return fmt.Errorf("load the budget's time zone: %w", err)
	}
	_, err = fmt.Fprintf(out, "\nThe next day begins at %s %s, in %s.\n",
		next.In(zone).Format("2006-01-02 15:04"), reply.TimeZone, catalog.FormatDuration(next.Sub(now).Round(time.Minute)))
	return err
}
