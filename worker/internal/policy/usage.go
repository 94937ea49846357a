package policy

import (
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/tokens"
)

// EstimateUsage stands in for the usage of a provider that counts nothing, so that its answers are not free of cost:
// the estimate of the prompt's tokens, and the answer's text counted in the same way. It is marked as estimated.
func EstimateUsage(promptTokens int, text string) *tasks.Usage {
	usage := tasks.Usage{PromptTokens: promptTokens, CompletionTokens: tokens.Text(text), Estimated: true}
	usage.TotalTokens = usage.PromptTokens + usage.CompletionTokens
	return &usage
}
