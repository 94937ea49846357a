package httpapi_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks/catalog"
)

// catalogOf has one endpoint that nobody calls, one model and the task type fast_summary.
func catalogOf(t testing.TB) *catalog.Catalog {
	t.Helper()
	price := 2.5
	c := &catalog.Catalog{
		Accounts: map[string]*catalog.Account{"local": {}},
		Endpoints: map[string]*catalog.Endpoint{
			"here": {Account: "local", Priority: 1, URL: "http://127.0.0.1:1/v1", Auth: catalog.AuthNone},
		},
		Models:       map[string]*catalog.Model{"small": {Output: &price}},
		Tiers:        []catalog.Tier{{Name: "low", Models: []string{"small"}}},
		FallbackTier: "low",
		TaskTypes:    map[string]*catalog.TaskType{"fast_summary": {Model: "small", Prompt: "Summarise: {{input}}"}},
	}
	require.NoError(t, c.Validate())
	return c
}
