package openai_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newCatalog(t testing.TB) *catalog.Catalog {
	t.Helper()
	price := 2.5
	c := &catalog.Catalog{
		Accounts: map[string]*catalog.Account{"local": {}},
		Endpoints: map[string]*catalog.Endpoint{
			"here": {
				Account: "local", Priority: 1, URL: "http://127.0.0.1:1/v1", Auth: catalog.AuthNone,
				Models: catalog.ServedModels{"small": "small", "vectors": "vectors", "both": "both", "org/large": "large"},
			},
		},
		Models: map[string]*catalog.Model{
			"small": {Output: &price}, "both": {Output: &price}, "org/large": {Output: &price}, "nowhere": {Output: &price},
			"vectors": {Kind: tasks.KindEmbedding, Input: &price},
		},
		Tiers: []catalog.Tier{
			{Name: "low", Models: []string{"small", "vectors"}}, {Name: "high", Models: []string{"org/large"}},
		},
		FallbackTier: "low",
		Profiles:     map[string][]string{"balanced": {"org/large", "small"}},
		TaskTypes: map[string]*catalog.TaskType{
			"fast_summary": {Model: "small"}, "both": {Model: "org/large"}, "embed": {Model: "vectors"},
		},
	}
	require.NoError(t, c.Validate())
	return c
}
