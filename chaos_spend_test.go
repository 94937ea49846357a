package main_test

import (
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
)

// ledger is what the records of all jobs say together.
type ledger struct {
	calls, maybe int
	cost         float64
	usage        tasks.Usage
}

// chaosCost is what is read of `forebay cost --json`.
type chaosCost struct {
	Total struct {
		Calls            int     `json:"calls"`
		MaybeBilled      int     `json:"maybe_billed"`
		PromptTokens     int     `json:"prompt_tokens"`
		CompletionTokens int     `json:"completion_tokens"`
		CostUSD          float64 `json:"cost_usd"`
		MaybeUSD         float64 `json:"maybe_billed_usd"`
	} `json:"total"`
	Budget []struct {
		SpentUSD float64 `json:"spent_usd"`
		HeldUSD  float64 `json:"held_usd"`
	} `json:"budget"`
}

// checkSpend: what was spent is what the ledgers say and what the provider counted, but for the calls whose end nobody
// knows.
func (c *chaos) checkSpend(f *findings, calls map[string][]providerCall, results map[string]tasks.Result, again int) {
	c.t.Helper()
	const promise = "spend = ledger = the provider's counters"
	undone := 0 // calls of which Redis may have lost something
	for _, made := range calls {
		for _, call := range made {
			if c.undone([]providerCall{call}) {
				undone++
			}
		}
	}
	var book ledger
	for _, result := range results {
		for _, attempt := range result.Attempts {
			book.calls++
			if !attempt.Ended {
				f.breaks("every attempt has an end", "%s, attempt %d", result.ID, attempt.Seq)
			}
			if attempt.MaybeBilled {
				book.maybe++
			}
			book.cost += attempt.CostUSD
			if attempt.Usage != nil {
				book.usage.PromptTokens += attempt.Usage.PromptTokens
				book.usage.CompletionTokens += attempt.Usage.CompletionTokens
			}
		}
	}
	cost := c.settledCost(f)
	counted := c.sim.Counters()
	f.figures.add("calls: provider asked, answered; ledger, maybe billed; spend, maybe billed", fmt.Sprintf("%d, %d; %d, %d; %d, %d",
		counted.Total.Asked, counted.Total.Answered, book.calls, book.maybe, cost.Total.Calls, cost.Total.MaybeBilled))
	f.figures.add("USD: ledger; spend without what is maybe billed; that at its worst", fmt.Sprintf("%.6f; %.6f; %.6f",
		book.cost, cost.Total.CostUSD-cost.Total.MaybeUSD, cost.Total.MaybeUSD))
	f.figures.add("tokens answered: provider; ledger; spend", fmt.Sprintf("%d; %d; %d",
		counted.Total.TokensOut, book.usage.CompletionTokens, cost.Total.CompletionTokens))
	f.figures.add("calls whose writes Redis may have lost, so that these may differ by them", undone)
	// Of a call whose worker was killed between the two the budget may know the price, and the ledger not.
	unknown := apart(book.maybe, cost.Total.MaybeBilled) + undone
	if math.Abs(book.cost-(cost.Total.CostUSD-cost.Total.MaybeUSD)) > 1e-6+float64(unknown)*chaosCallUSD {
		f.breaks(promise, "the ledgers have %.9f USD, the spend %.9f", book.cost, cost.Total.CostUSD-cost.Total.MaybeUSD)
	}
	if apart(book.calls, cost.Total.Calls) > undone || apart(book.maybe, cost.Total.MaybeBilled) > again+undone {
		f.breaks(promise, "the ledgers have %d calls (%d maybe billed), the spend %d (%d)", book.calls, book.maybe, cost.Total.Calls, cost.Total.MaybeBilled)
	}
	if int(counted.Total.Asked) > book.calls+undone {
		f.breaks(promise, "the provider was asked %d times, the ledgers have %d calls", counted.Total.Asked, book.calls)
	}
	// The provider counts what it wrote, also for a call of which nobody read it.
	beyond := int(counted.Total.TokensOut) - book.usage.CompletionTokens
	if perCall := book.usage.CompletionTokens / max(1, len(results)); beyond < -undone*perCall || beyond > (again+undone)*perCall {
		f.breaks(promise, "the provider answered %d tokens beyond the ledgers', which %d repeated calls of %d do not explain", beyond, again, perCall)
	}
}

// chaosCallUSD is what a call costs at most.
const chaosCallUSD = 0.005

func apart(a, b int) int { return max(a-b, b-a) }

// settledCost reads what was spent, once nothing is held for calls any more.
func (c *chaos) settledCost(f *findings) chaosCost {
	c.t.Helper()
	cost := c.cost()
	for limit := time.Now().Add(chaosPatience); cost.held() != 0; cost = c.cost() {
		if time.Now().After(limit) {
			f.breaks("nothing is held when nothing runs", "%.6f USD", cost.held())
			return cost
		}
		time.Sleep(250 * time.Millisecond)
	}
	return c.cost() // the last hold may have been settled between the two parts of the answer
}

func (c *chaos) cost() (cost chaosCost) {
	c.t.Helper()
	output, err := c.command("cost", "--days", "2", "--json").Output()
	require.NoError(c.t, err)
	require.NoError(c.t, json.Unmarshal(output, &cost))
	return cost
}

func (c chaosCost) held() (sum float64) {
	for _, scope := range c.Budget {
		sum += scope.HeldUSD
	}
	return sum
}
