package producer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/jobstore"
	"github.com/forebay-queue/forebay/tasks/seal"
	"github.com/forebay-queue/forebay/tasks/webhooks"
)

const (
	// testKept is how long a test of a target is known.
	testKept = time.Hour
	// testLooks is how often it is looked whether a test has been made.
	testLooks = 100 * time.Millisecond
	// WebhookTestWithin is how long a test waits for its attempt, where nothing else is said.
	WebhookTestWithin = 30 * time.Second
	// shownRuns is of how many runs of a job, the last ones, the webhooks are shown.
	shownRuns = 10
	// fingerprintBytes is how much of a hash names a secret.
	fingerprintBytes = 8
)

// Webhooks are those of the Client's deployment.
func (c *Client) Webhooks() *webhooks.Store { return c.store.Webhooks() }

// TestWebhook sends a webhook.test to a target as any other webhook is sent, by a worker and through the queue, and waits
// for its attempt, for as long as ctx lasts. It is tried once: what was not delivered is discarded, so that nobody is
// told of it later. A target that is refused is a *tasks.FieldError.
func (c *Client) TestWebhook(ctx context.Context, tenant string, to tasks.Webhook) (tasks.WebhookStatus, error) {
	known := c.Catalog()
	if known == nil {
		return tasks.WebhookStatus{}, errors.New("producer: Config.Catalog is missing; it says where webhooks may go and how they are signed")
	}
	if err := known.CheckWebhook(tenant, &to, []string{tasks.EventTest}); err != nil {
		return tasks.WebhookStatus{}, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return tasks.WebhookStatus{}, fmt.Errorf("make an id for a webhook: %w", err)
	}
	test := webhooks.Webhook{
		ID: webhooks.ID("test", id.String()), Event: tasks.EventTest, Tenant: tenant, To: to, At: time.Now(), Keep: testKept,
	}
	if err := c.Webhooks().Create(ctx, test); err != nil {
		return tasks.WebhookStatus{}, err
	}
	return c.tested(ctx, test.ID)
}

// tested waits for the attempt of a test.
func (c *Client) tested(ctx context.Context, id string) (tasks.WebhookStatus, error) {
	ticker := time.NewTicker(testLooks)
	defer ticker.Stop()
	reading := context.WithoutCancel(ctx) // the test is discarded once the wait is over
	for {
		record, err := c.Webhooks().Get(reading, id, "")
		if err != nil {
			return tasks.WebhookStatus{}, err
		}
		status := record.Status()
		tried := status.Last != nil && status.Last.Error != webhooks.ErrorOpen
		if record.State.Ended() || tried || ctx.Err() != nil {
			if record.State == webhooks.Delivered {
				return status, nil
			}
			if err := c.Webhooks().Discard(reading, id, ""); err != nil && !errors.Is(err, webhooks.ErrEnded) {
				return status, err
			}
			if status.State == string(webhooks.Pending) { // as it stands now; what it waited for is told beside it
				status.State, status.NextAt = string(webhooks.Discarded), nil
			}
			return status, nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
	}
}

// DiscardWebhook gives a webhook up that is pending or dead, and lets the record of the job go of which it was to tell:
// that is kept for as long from now on as the job says, unless the job is a dead letter itself. It may be repeated. An
// empty tenant is any; another one's webhook is webhooks.ErrNotFound, and one that was delivered webhooks.ErrEnded.
func (c *Client) DiscardWebhook(ctx context.Context, id, tenant string) error {
	record, err := c.Webhooks().Get(ctx, id, tenant)
	if err != nil && !errors.Is(err, seal.ErrUnreadable) {
		return err
	}
	if err := c.Webhooks().Discard(ctx, id, tenant); err != nil || record.Job == "" {
		return err
	}
	err = c.store.WebhookTold(ctx, record.Job, record.Run, record.Keep)
	if errors.Is(err, ErrNotFound) {
		return nil // the job was discarded before
	}
	return err
}

// WebhookSecret is a tenant's secret that webhooks are signed with, as it is shown: never its value.
type WebhookSecret struct {
	Tenant string `json:"tenant" doc:"Whose it is"`
	Name   string `json:"name" doc:"What webhooks call it"`
	// Keys are its values, the newest first.
	Keys []WebhookKey `json:"keys" doc:"Its values, the newest first; every attempt is signed with all of them"`
}

// WebhookKey is one value of a secret.
type WebhookKey struct {
	// Fingerprint names the value: the first bytes of the SHA-256 of its text. It is empty where there is none.
	Fingerprint string `json:"fingerprint,omitempty" doc:"The first 16 hexadecimal digits of the SHA-256 of its text, whsec_ included; absent where it cannot be read"`
	// From is where it is, for operators, and Problem why it cannot be read.
	From    string `json:"from,omitempty" doc:"Where it is, for operators"`
	Problem string `json:"problem,omitempty" doc:"Why it cannot be read, for operators"`
}

// WebhookSecrets are the secrets of a tenant, or of all for an empty one, as a catalog has them. Their values are read.
func WebhookSecrets(known *catalog.Catalog, tenant string) []WebhookSecret {
	secrets := []WebhookSecret{}
	if known == nil {
		return secrets
	}
	for _, secret := range known.Webhooks.Secrets {
		if tenant != "" && tenant != secret.Tenant {
			continue
		}
		shown := WebhookSecret{Tenant: secret.Tenant, Name: secret.Name}
		for _, source := range secret.Keys {
			key := WebhookKey{From: source.String()}
			if value, err := known.WebhookKey(source); err != nil {
				key.Problem = err.Error()
			} else {
				key.Fingerprint = WebhookFingerprint(value)
			}
			shown.Keys = append(shown.Keys, key)
		}
		secrets = append(secrets, shown)
	}
	return secrets
}

// WebhookFingerprint names the value of a secret without telling it.
func WebhookFingerprint(value string) string {
	sum := sha256.Sum256([]byte(value))
	return hex.EncodeToString(sum[:fingerprintBytes])
}

// ResultOf is the result that a record has, with how the webhooks of the job's last runs stand.
func (c *Client) ResultOf(ctx context.Context, record *jobstore.Record) (tasks.Result, error) {
	result := record.Result()
	result.Waits = record.Waits
	if record.Job.Webhook == nil {
		return result, nil
	}
	for run := max(1, record.Run-shownRuns+1); run <= record.Run; run++ {
		sent, err := c.Webhooks().Get(ctx, record.WebhookID(run), "")
		if errors.Is(err, webhooks.ErrNotFound) {
			continue // the run has not ended, its end is none that is told, or it was told long ago
		}
		if err != nil {
			return result, err
		}
		result.Webhooks = append(result.Webhooks, sent.Status())
	}
	return result, nil
}
