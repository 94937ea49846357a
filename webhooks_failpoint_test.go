package main_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/webhooks"
)

// A worker is killed between any two steps of an attempt of a webhook. Another one delivers it, under the same id, and
// calls once more only where nobody can know whether the first call arrived.
func TestAWebhookKilledAtEveryStep(t *testing.T) {
	t.Parallel()
	type step struct {
		*deployment
		mutex sync.Mutex
		ids   []string // of what the receiver saw
	}
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, []byte("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), 0o600))
	steps := map[string]*step{}
	for _, failpoint := range []string{"webhook.begun", "webhook.sent", "webhook.settled"} {
		s := &step{deployment: deploy(t, site{more: fmt.Sprintf(`
webhooks:
  allow_http: true
  allow_networks: [127.0.0.1/32]
  secrets: [{keys: [{file: %q}]}]
`, secret)})}
		receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			s.mutex.Lock()
			defer s.mutex.Unlock()
			s.ids = append(s.ids, r.Header.Get("Webhook-Id"))
		}))
		t.Cleanup(receiver.Close)
		steps[failpoint] = s
		worker := s.failing(failpoint, "worker")
		s.enqueueJobs("job", 1, func(job *tasks.Job) { job.Webhook = &tasks.Webhook{URL: receiver.URL} })
		requireKilled(t, worker)
		s.failing("", "scheduler")
		s.failing("", "worker")
	}
	calls := map[string]int{"webhook.begun": 1, "webhook.sent": 2, "webhook.settled": 1}
	for failpoint, s := range steps {
		var record *webhooks.Record
		s.eventually(failpoint+": the webhook is delivered", func() bool {
			page, err := s.store.Webhooks().List(t.Context(), webhooks.Filter{State: webhooks.Delivered})
			if err != nil || len(page.Webhooks) == 0 {
				return false
			}
			record = page.Webhooks[0]
			info, err := s.inspector.GetQueueInfo("webhooks")
			return err == nil && info.Size == 0
		})
		s.mutex.Lock()
		assert.Len(t, s.ids, calls[failpoint], failpoint)
		for _, id := range s.ids {
			assert.Equal(t, record.ID, id, failpoint)
		}
		s.mutex.Unlock()
		assert.Positive(t, s.redis.PTTL(t.Context(), s.store.Keys().Job(record.Job)).Val(), "the job's record need not be kept for it")
		if failpoint != "webhook.settled" {
			assert.Equal(t, webhooks.ErrorUnknown, record.History[0].Error, failpoint)
		}
		t.Logf("%s: delivered %s after it happened", failpoint, record.EndedAt.Sub(record.At).Round(time.Millisecond))
	}
}
