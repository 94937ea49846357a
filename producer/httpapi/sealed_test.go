package httpapi_test

import (
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/seal"
)

// A job that this process has not the key of is no outage: it is said which key is missing, and it can be cancelled and
// discarded, by whom it belongs to.
func TestAJobThatCannotBeOpened(t *testing.T) {
	t.Parallel()
	b := embedded(t)
	secret, err := seal.ParseKey(seal.NewKey())
	require.NoError(t, err)
	sealer, err := seal.New(seal.Key{ID: "k1", Secret: secret})
	require.NoError(t, err)
	client, err := producer.New(producer.Config{Redis: b.redis, Catalog: newCatalog(t), Sealer: sealer})
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	_, err = client.Enqueue(t.Context(), tasks.Job{ID: "lost", Tenant: "acme", TaskType: "fast_summary", Input: "x"})
	require.NoError(t, err)

	answer := b.ask("GET", "/v1/jobs/lost", "", "X-Tenant", "acme")
	assertError(t, "read", answer, "unreadable")
	require.Contains(t, answer.Body.String(), "k1")
	assertError(t, "another tenant", b.ask("GET", "/v1/jobs/lost", "", "X-Tenant", "other"), "job_not_found")
	assertError(t, "another tenant", b.ask("DELETE", "/v1/jobs/lost", "", "X-Tenant", "other"), "job_not_found")
	_, err = b.jobs.Wait(t.Context(), "lost")
	require.ErrorIs(t, err, producer.ErrUnreadable)
	forged := "/v1/jobs/lost/result?run=1&expires=99999999999&secret=default&signature=x"
	assertError(t, "a forged link learns nothing", b.ask("GET", forged, "", "X-Nobody", "1"), "invalid_link")
	link, err := b.jobs.Catalog().ResultLink("acme", "", "lost", 1, time.Now())
	require.NoError(t, err)
	good, err := url.Parse(link)
	require.NoError(t, err)
	assertError(t, "a good link", b.ask("GET", good.RequestURI(), "", "X-Nobody", "1"), "unreadable")
	assertError(t, "run again", b.ask("POST", "/v1/jobs/lost/retry", "", "X-Tenant", "acme"), "unreadable")

	cancelled := b.ask("DELETE", "/v1/jobs/lost", "", "X-Tenant", "acme")
	require.Equal(t, 200, cancelled.Code, cancelled.Body)
	require.Contains(t, cancelled.Body.String(), `"status":"cancelled"`)
	discarded := b.ask("POST", "/v1/jobs/lost/discard", "", "X-Tenant", "acme")
	require.Equal(t, 200, discarded.Code, discarded.Body)
	assertError(t, "gone", b.ask("GET", "/v1/jobs/lost", "", "X-Tenant", "acme"), "job_not_found")
}
