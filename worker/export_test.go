package worker

import (
	"net/http"

	"github.com/forebay-queue/forebay/worker/internal/hooks"
)

// SendWebhooksBy has the Worker, which has not started, send webhooks by a client of the test's.
func (w *Worker) SendWebhooksBy(client *http.Client) {
	w.plans.current.sender = hooks.NewSender(client, "test")
}
