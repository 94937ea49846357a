package simulator

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bundle is a simulator behind its listener in memory; it works inside bubbles and outside.
type bundle struct {
	t      testing.TB
	sim    *Simulator
	client *http.Client
}

func setup(t testing.TB, config Config) *bundle {
	t.Helper()
	sim, err := New(config)
	require.NoError(t, err)
	transport := sim.Listen().Transport()
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		require.NoError(t, sim.Close())
	})
	noRedirects := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &bundle{t, sim, &http.Client{Transport: transport, CheckRedirect: noRedirects}}
}

// answered is a response with its body.
type answered struct {
	*http.Response
	text string
}

func (a answered) decode(t testing.TB, into any) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(a.text), into), a.text)
}

// code returns the code of the error in the body.
func (a answered) code(t testing.TB) string {
	t.Helper()
	var e errorEnvelope
	a.decode(t, &e)
	require.NotEmpty(t, e.Error.Message)
	if e.Error.Code == nil {
		return ""
	}
	return *e.Error.Code
}

// try sends a request; header is a list of names and values.
func (b *bundle) try(ctx context.Context, method, path, body string, header ...string) (answered, error) {
	b.t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, "http://simulated"+path, strings.NewReader(body))
	require.NoError(b.t, err)
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := b.client.Do(req)
	if err != nil {
		return answered{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	return answered{resp, string(text)}, err
}

func (b *bundle) do(method, path, body string, header ...string) answered {
	b.t.Helper()
	a, err := b.try(context.Background(), method, path, body, header...)
	require.NoError(b.t, err)
	return a
}

const (
	chatPath      = "/v1/chat/completions"
	embeddingPath = "/v1/embeddings"
	prompt        = "A forebay is a pool of water. It waits in front of the turbines until a gate lets it through. The gate then opens very slowly."
)

// chatBody is a request for a summary of text; extra are more fields, each with a comma in front.
func chatBody(text, extra string) string {
	quoted, _ := json.Marshal(text)
	return `{"model":"m","messages":[{"role":"system","content":"Be brief."},{"role":"user","content":` + string(quoted) + `}]` + extra + `}`
}

func (b *bundle) chat(region string, header ...string) answered {
	b.t.Helper()
	return b.do(http.MethodPost, "/"+region+chatPath, chatBody(prompt, ""), header...)
}

func regions(names ...string) []RegionConfig {
	var list []RegionConfig
	for _, n := range names {
		list = append(list, RegionConfig{Name: n})
	}
	return list
}

func elapsed(f func()) time.Duration {
	begin := time.Now()
	f()
	return time.Since(begin)
}
