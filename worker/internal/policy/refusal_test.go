package policy_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/worker/internal/policy"
	"github.com/forebay-queue/forebay/worker/internal/provider"
)

// A provider's own words are kept where the job's user is to mend what it refused, and nowhere else.
func TestRefusals(t *testing.T) {
	t.Parallel()
	const invalid = `{"error": {"message":"no","type":"invalid_request_error","param":"seed","code":null}}`
	for _, row := range []struct {
		status int
		body   string
		kept   bool
	}{
		{400, invalid, true},
		{422, `{"detail":[{"loc":["body"],"msg":"no"}]}`, true},
		{400, `{"error":{"message":"too long","code":"context_length_exceeded"}}`, true},
		{400, "no JSON", false},
		{401, `{"error":{"message":"Incorrect API key provided: sk-1","code":"invalid_api_key"}}`, false},
		{500, `{"error":{"message":"oops"}}`, false},
		{200, `{"choices":[]}`, false},
	} {
		outcome := policy.Classify(tasks.KindChat, provider.Answer{Status: row.status, Body: []byte(row.body), Header: http.Header{}})
		if row.kept {
			assert.Equal(t, []byte(row.body), outcome.Refusal, row.body)
		} else {
			assert.Empty(t, outcome.Refusal, row.body)
		}
	}
}
