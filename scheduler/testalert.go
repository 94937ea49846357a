package scheduler

import (
	"context"
	"strings"
	"time"

	"github.com/google/uuid"

	watching "github.com/forebay-queue/forebay/scheduler/internal/alerts"
	"github.com/forebay-queue/forebay/tasks/alerts"
)

// TestAlert sends a message to a channel that says it is a test, once, in the format of an alert. The error says why it was
// not taken, and holds no secret.
func TestAlert(ctx context.Context, channel alerts.Channel) error {
	sender := watching.NewSender()
	defer sender.Close()
	now := time.Now().UTC()
	return sender.Send(ctx, channel, alerts.Message{
		ID: "alert_" + strings.ReplaceAll(uuid.NewString(), "-", ""), Channel: channel.Name, At: now,
		Alerts: []alerts.Alert{{
			Name: alerts.Test, Severity: alerts.Warning, Since: now,
			Summary: "This is a test of Forebay's alerts. Nothing is wrong.",
		}},
	})
}
