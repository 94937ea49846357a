package hooks

import (
	"strings"
	"time"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/webhooks"
)

// message is the body of a webhook, as Standard Webhooks suggests it.
type message struct {
	Type      string    `json:"type"`
	Timestamp time.Time `json:"timestamp"`
	Data      any       `json:"data"`
}

// truncated is a result that was too large to be sent whole.
type truncated struct {
	tasks.Result

	Truncated bool `json:"truncated"`
	// ResultURL is where the whole of it is read; empty where the deployment has no public address.
	ResultURL string `json:"result_url,omitempty"`
}

// JobBody is the body of a webhook about a job, with its result. One of more than so many bytes has neither text, response
// nor attempts, and the link in their place.
func JobBody(r *webhooks.Record, result tasks.Result, most int, link func() (string, error)) ([]byte, error) {
	body, err := tasks.Encode(message{r.Event, r.At.UTC(), result})
	if err != nil || len(body) <= most {
		return body, err
	}
	short := truncated{Result: result, Truncated: true}
	short.Text, short.Response, short.Attempts = "", nil, nil
	if short.ResultURL, err = link(); err != nil {
		return nil, err
	}
	return tasks.Encode(message{r.Event, r.At.UTC(), short})
}

// BatchBody is the body of a webhook about a batch, in OpenAI's shape, so that its SDKs unwrap it.
func BatchBody(r *webhooks.Record) ([]byte, error) {
	type data struct {
		ID string `json:"id"`
	}
	return tasks.Encode(struct {
		ID        string `json:"id"`
		Object    string `json:"object"`
		CreatedAt int64  `json:"created_at"`
		Type      string `json:"type"`
		Data      data   `json:"data"`
	}{"evt_" + strings.TrimPrefix(r.ID, "msg_"), "event", r.At.Unix(), r.Event, data{r.Batch}})
}

// TestBody is the body of a webhook that somebody sends to try a target.
func TestBody(r *webhooks.Record) ([]byte, error) {
	return tasks.Encode(message{r.Event, r.At.UTC(), map[string]string{"message": "This is a test of Forebay."}})
}
