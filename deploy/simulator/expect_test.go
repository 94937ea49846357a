package simulator

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
)

// What is expected of a call is what it then has.
func TestExpect(t *testing.T) {
	t.Parallel()
	b := setup(t, Config{})
	for _, extra := range []string{"", `,"max_tokens":5`, `,"n":3`} {
		body := chatBody(prompt, extra)
		in, out, ok := Expect([]byte(body), false)
		assert.True(t, ok)
		var got struct{ Usage usage }
		b.do(http.MethodPost, "/simulated"+chatPath, body).decode(t, &got)
		assert.Equal(t, []int{got.Usage.Prompt, *got.Usage.Completion}, []int{in, out}, extra)
	}
	in, out, ok := Expect([]byte(`{"model":"m","input":["one","two words"]}`), true)
	assert.True(t, ok)
	assert.Equal(t, []int{4, 0}, []int{in, out})
	_, _, ok = Expect([]byte(`{"messages":[]}`), false)
	assert.False(t, ok)
}
