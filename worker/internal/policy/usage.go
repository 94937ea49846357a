package policy

import (
	"encoding/json"
	"unicode/utf8"

	"github.com/forebay-queue/forebay/tasks"
)

// charactersPerToken is OpenAI's rule of thumb for English text.
const charactersPerToken = 4

// EstimateUsage stands in for the usage of a provider that counts nothing, so that its answers are not free of cost:
// a token for every four characters. It is marked as estimated.
func EstimateUsage(request json.RawMessage, text string) *tasks.Usage {
	usage := tasks.Usage{
		PromptTokens:     (utf8.RuneCount(request) + charactersPerToken - 1) / charactersPerToken,
		CompletionTokens: (utf8.RuneCountInString(text) + charactersPerToken - 1) / charactersPerToken,
		Estimated:        true,
	}
	usage.TotalTokens = usage.PromptTokens + usage.CompletionTokens
	return &usage
}
