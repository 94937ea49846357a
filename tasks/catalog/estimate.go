package catalog

import (
	"math"
	"slices"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/tokens"
)

// mostTokens caps what a request asks for, so that no sum of estimates overflows.
const mostTokens = 1 << 40

// Estimate is what a call is taken to use before it is made: what the provider counts against its limits on arrival,
// and the most that it may bill.
type Estimate struct {
	// Prompt are the tokens of the request.
	Prompt int
	// Bound is the most that all its answers may have together. 0 for an embedding.
	Bound int
}

// Tokens is all of the estimate.
func (e Estimate) Tokens() int { return e.Prompt + e.Bound }

// Usage is the estimate as the usage of an answer that uses all of it: its Cost is the worst case.
func (e Estimate) Usage() tasks.Usage {
	return tasks.Usage{PromptTokens: e.Prompt, CompletionTokens: e.Bound, TotalTokens: e.Tokens(), Estimated: true}
}

// Estimate says what a call of the model for a prepared job may use. promptTokens is what the job's record says; 0 makes
// it be counted here. It reads the request, so ask once for a model and a delivery.
//
// The bound is the request's max_tokens, or what another model of the catalog calls it (the largest, where it has
// several), times its n. Prepare gives every chat job a bound, with or without a task type. For one that has none all
// the same, such as one that another producer wrote, it is what the prompt leaves of the model's context window, or
// the default of 1024 if that is not known.
func (c *Catalog) Estimate(model string, job tasks.Job, promptTokens int) Estimate {
	estimate := Estimate{Prompt: promptTokens}
	if estimate.Prompt <= 0 {
		estimate.Prompt = tokens.Prompt(job.Kind, job.Request)
	}
	if job.Kind == tasks.KindEmbedding {
		return estimate
	}
	bound, answers := 0, 1
	for name, value := range numbersIn(job.Request) {
		switch whole := wholeNumber(value); {
		case name == "n":
			answers = max(1, min(whole, maxAnswers))
		case slices.Contains(c.index.bounds, name):
			bound = max(bound, whole)
		}
	}
	if bound == 0 {
		bound = c.unbounded(model, estimate.Prompt)
	}
	estimate.Bound = min(bound*answers, mostTokens)
	return estimate
}

// maxAnswers is more than any provider gives for one request.
const maxAnswers = 1 << 20

// unbounded is the longest answer to a request that does not say.
func (c *Catalog) unbounded(model string, prompt int) int {
	if m := c.Models[model]; m != nil && m.ContextWindow > prompt {
		return m.ContextWindow - prompt
	}
	return defaultMaxTokens
}

// wholeNumber rounds up, to 0 to mostTokens.
func wholeNumber(number float64) int { return int(min(max(math.Ceil(number), 0), mostTokens)) }
