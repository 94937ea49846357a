package catalog_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
)

// A key of the right shape, and the variable it is in.
const (
	relayKey = "hs-0123456789abcdefghij"
	relayEnv = "RELAY_API_KEY"
)

// small is a catalog with two accounts, three endpoints, and models of both kinds in two tiers.
func small() *catalog.Catalog {
	return &catalog.Catalog{
		Accounts: map[string]*catalog.Account{
			"relay": {KeyEnv: relayEnv, KeyShape: catalog.KeyShape{Prefixes: []string{"sk-", "hs-"}, MinLength: 20}, CNYPerUSD: 1},
			"local": {},
		},
		Endpoints: map[string]*catalog.Endpoint{
			"relay-b": {Account: "relay", URL: "https://b.example.com/v1/", Region: "eu", Priority: 2},
			"relay-a": {Account: "relay", URL: "https://a.example.com/v1", Priority: 1, Timeout: 30 * time.Second, Tries: 3},
			"local": {
				Account: "local", URL: "http://127.0.0.1:8000/v1", Priority: 1, Auth: catalog.AuthNone,
				Models: catalog.ServedModels{"mini": "org/mini-8b"},
			},
		},
		Models: map[string]*catalog.Model{
			"mini":      {Output: new(2.0)},
			"large":     {Output: new(10.0), Input: new(4.0)},
			"larger":    {Output: new(80.0), MaxTokensField: "max_completion_tokens"},
			"embed":     {Kind: tasks.KindEmbedding, Input: new(0.02)},
			"embed-two": {Kind: tasks.KindEmbedding, Input: new(0.01)},
		},
		Tiers: []catalog.Tier{
			{Name: "low", Models: []string{"embed-two", "mini", "embed"}},
			{Name: "high", Models: []string{"large", "larger", "mini"}},
		},
		Profiles: map[string][]string{"best": {"larger", "large"}, "mixed": {"embed", "mini"}},
		TaskTypes: map[string]*catalog.TaskType{
			"summary": {Model: "large", System: "Be brief.", Prompt: "Summarise:\n\n{{input}}", Defaults: map[string]any{"temperature": 0.2}},
			"plain":   {Model: "mini", MaxRetries: new(0), Retention: new(time.Hour), FallbackTier: "high"},
			"strict": {
				Model:    "larger",
				Defaults: map[string]any{"max_completion_tokens": 500, "temperature": nil, "stop": []string{"<end>"}},
			},
			"vector":   {Model: "embed"},
			"vector-2": {Model: "embed", AllowModelChange: true},
		},
		FallbackTier: "low",
		LookupEnv: func(name string) (string, bool) {
			if name == relayEnv {
				return relayKey, true
			}
			return "", false
		},
	}
}

func valid(t *testing.T) *catalog.Catalog {
	t.Helper()
	c := small()
	require.NoError(t, c.Validate())
	return c
}
