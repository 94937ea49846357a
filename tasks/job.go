package tasks

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Job is one unit of work as its user asks for it, and as its record keeps it. In a record the input has been
// rendered into the request, and the id, the times and the retries are filled in.
type Job struct {
	// V is the version of the contract. Defaults to 1.
	V int `json:"v,omitempty"`
	// ID is chosen by the client, [A-Za-z0-9_-]{1,128}. Defaults to a UUIDv7.
	ID string `json:"id,omitempty"`
	// TaskType is a key of the catalog: it picks the models, the prompt and the defaults. Required unless Tier,
	// Profile or Model is given.
	TaskType string `json:"task_type,omitempty"`
	// Model is one model or an ordered list; it goes before Profile, and Profile before Tier.
	Model   Models `json:"model,omitempty"`
	Profile string `json:"profile,omitempty"`
	Tier    string `json:"tier,omitempty"`
	// Input is a text, rendered at the way in by the task type's prompt template. Exactly one of Input and Request.
	Input string `json:"input,omitempty"`
	// Request is the body of the OpenAI call without its model. Unknown fields pass through untouched.
	Request json.RawMessage `json:"request,omitempty"`
	// Kind is chat or embedding. Defaults to the task type's, or to the kind of the models asked for.
	Kind Kind `json:"kind,omitempty"`
	// Priority defaults to PriorityDefault.
	Priority Priority `json:"priority,omitempty"`
	// RunAt is the earliest start. Defaults to now.
	RunAt *time.Time `json:"run_at,omitempty"`
	// Deadline is when the job ends as expired. Defaults to the catalog's max_age (7 days) after now.
	Deadline *time.Time `json:"deadline,omitempty"`
	// MaxRetries is how often a failed delivery is repeated; 0 is once. Defaults to the catalog's (4).
	MaxRetries *int `json:"max_retries,omitempty"`
	// MaxCostUSD is what all calls of the job may cost, in US dollars, more than 0: none is made whose worst case would pass it.
	// Defaults to no limit.
	MaxCostUSD *float64 `json:"max_cost_usd,omitempty"`
	// Webhook is whom to tell of the job's end. Defaults to nobody.
	Webhook *Webhook `json:"webhook,omitempty"`
	// ReplyStream names the stream that receives the result, [A-Za-z0-9_-]{1,64}: forebay:reply:<tenant>:<name> in Redis.
	// Defaults to none.
	ReplyStream string `json:"reply_stream,omitempty"`
	// Retention is how long the record is kept after the end. Defaults to the catalog's (24h).
	Retention Duration `json:"retention,omitempty"`
	// Tenant is who pays. Defaults to "default".
	Tenant string `json:"tenant,omitempty"`
	// Metadata are up to 16 string pairs (keys of 64, values of 512 characters), echoed in the result.
	Metadata map[string]string `json:"metadata,omitempty"`

	// Member is the job's place in a batch; nil for a job of its own. It is no part of what a user may ask for: whoever
	// makes the batch sets it.
	Member *Member `json:"-"`

	// Trace is the trace that the job belongs to. It is carried beside the job, and no part of what it asks for.
	Trace TraceContext `json:"-"`

	// CreatedAt is when the job was accepted. It is set by the way in.
	CreatedAt *time.Time `json:"created_at,omitempty"`
}

// Member says which job of a batch a job is.
type Member struct {
	// Batch is the id of the batch.
	Batch string
	// Number counts the jobs of the batch, from 0.
	Number int
}

// Models is one model or an ordered list of them: in JSON a string or an array of strings.
type Models []string

// UnmarshalJSON reads a string or an array of strings.
func (m *Models) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '"' {
		var one string
		if err := json.Unmarshal(data, &one); err != nil {
			return err
		}
		*m = Models{one}
		return nil
	}
	var list []string
	if err := json.Unmarshal(data, &list); err != nil {
		return errors.New("model must be a string or an array of strings")
	}
	*m = list
	return nil
}

// MarshalJSON writes a single model as a string.
func (m Models) MarshalJSON() ([]byte, error) {
	if len(m) == 1 {
		return json.Marshal(m[0])
	}
	return json.Marshal([]string(m))
}

// Duration is a time.Duration that is written as text in JSON: "24h", "1h30m".
type Duration time.Duration

// UnmarshalJSON reads a duration such as "90s" or "24h".
func (d *Duration) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return errors.New(`a duration must be a string such as "90s" or "24h"`)
	}
	parsed, err := time.ParseDuration(text)
	if err != nil {
		return fmt.Errorf(`%q is not a duration such as "90s" or "24h"`, text)
	}
	*d = Duration(parsed)
	return nil
}

// MarshalJSON writes the duration as Go does: "24h0m0s".
func (d Duration) MarshalJSON() ([]byte, error) {
	return json.Marshal(time.Duration(d).String())
}

// Encode writes any value of the contract as JSON on one line, texts as they are (without HTML escapes).
func Encode(value any) ([]byte, error) {
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buffer.Bytes(), []byte("\n")), nil
}
