package command

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/deploy/config"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/gate"
)

// A budget of which a little is left may be as good as spent.
func TestTooLittleOfABudgetIsLeft(t *testing.T) {
	t.Parallel()
	file, err := config.Parse("forebay.yaml", []byte(`
accounts: {acme: {}}
endpoints: {near: {account: acme, url: "http://127.0.0.1:1/v1", priority: 1, auth: none, models: [dear, cheap]}}
models: {dear: {output: 1000}, cheap: {output: 1}}
tiers: [{name: low, models: [cheap]}, {name: high, models: [dear]}]
task_types: {short: {model: cheap, defaults: {max_tokens: 1000}}, long: {model: dear, defaults: {max_tokens: 1000}}}
`))
	require.NoError(t, err)
	left := func(scope gate.Scope, usd float64) *finding {
		return tooLittleLeft(&file.Catalog, scopeStatus{Scope: scope, LimitUSD: new(10.0), LeftUSD: &usd})
	}
	assert.Nil(t, left(gate.ScopeAll, 0.002), "a short one fits")
	found := left(gate.ScopeAll, 0.0005)
	require.NotNil(t, found)
	assert.Equal(t, "warning budget_exhausted", worst([]finding{*found}))
	assert.Contains(t, found.Message, "the cheapest call, of short")
	assert.NotNil(t, left(gate.ScopeTaskType("long"), 0.0005))
	assert.Nil(t, left(gate.ScopeTaskType("long"), 2))
	assert.Nil(t, left(gate.ScopeTaskType("gone"), 0.0001), "nothing is known of it")
}

// What opened a breaker decides what is to be done.
func TestWhyABreakerIsOpen(t *testing.T) {
	t.Parallel()
	for cause, want := range map[string][2]string{
		string(tasks.ClassAuth):          {"the key of account acme was refused", "key_env"},
		string(tasks.ClassQuota):         {"no money or quota left", "pay in"},
		string(tasks.ClassMisconfigured): {"no such API", "url and proxy"},
		string(tasks.ClassUnavailable):   {"5 failures in a row", "see what the provider says"},
		"slow":                           {"slower than breaker.slow_call", "latency"},
	} {
		why, hint := whyOpen(endpointStatus{Endpoint: "e", Account: "acme", Cause: cause, ConsecutiveFailures: 5})
		assert.Contains(t, why, want[0], cause)
		assert.Contains(t, hint, want[1], cause)
	}
	why, hint := whyOpen(endpointStatus{Endpoint: "e", Forced: true})
	assert.Equal(t, "somebody opened it by hand", why)
	assert.Contains(t, hint, "forebay breaker close e")
	why, _ = whyOpen(endpointStatus{Cause: string(tasks.ClassUnavailable)})
	assert.Equal(t, "too many of its calls failed", why, "by their rate")
}
