package command

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/forebay-queue/forebay/tasks"
)

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
