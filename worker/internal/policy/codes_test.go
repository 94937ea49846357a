package policy

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/forebay-queue/forebay/tasks/metrics"
)

// What providers are known to say stands in metrics by itself.
func TestCodesOfProvidersAreKnownToMetrics(t *testing.T) {
	t.Parallel()
	for code := range codes {
		assert.Equal(t, code, metrics.Code(code))
	}
}
