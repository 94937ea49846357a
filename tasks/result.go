package tasks

import (
	"encoding/json"
	"time"
)

// Result is what a job's user reads: where the job stands, and once it has ended, what came of it.
type Result struct {
	ID       string `json:"id"`
	Status   Status `json:"status"`
	TaskType string `json:"task_type,omitempty"`
	Tenant   string `json:"tenant,omitempty"`
	// Batch is the one that the job is a member of, if any.
	Batch string `json:"batch,omitempty"`
	// Run counts how often the job was opened: 1, and one more for every explicit retry after its end.
	Run int `json:"run,omitempty"`
	// Waiting says what the job waits for: queued, retrying, or running for more than a second on the slot of a worker
	// that has it in hand.
	Waiting *Waiting `json:"waiting,omitempty"`

	// Model, Tier, Endpoint and Region say who gave the answer.
	Model    string `json:"model,omitempty"`
	Tier     string `json:"tier,omitempty"`
	Endpoint string `json:"endpoint,omitempty"`
	Region   string `json:"region,omitempty"`
	// Text is the answer's text, for people. Response is the provider's whole body, byte for byte as it came.
	Text     string          `json:"text,omitempty"`
	Response json.RawMessage `json:"response,omitempty"`
	Usage    *Usage          `json:"usage,omitempty"`
	// CostUSD is what all attempts of the job cost, in US dollars.
	CostUSD  float64   `json:"cost_usd"`
	Attempts []Attempt `json:"attempts,omitempty"`
	// Retries is how many failed deliveries were spent.
	Retries int `json:"retries,omitempty"`
	// Error says why the job did not succeed, or, while it is retrying, why its last delivery failed.
	Error *Failure `json:"error,omitempty"`

	// Webhooks are how those stand that tell of the ends of the job's last ten runs, for whoever asks for the job; a webhook
	// itself, a reply stream and the record have none.
	Webhooks []WebhookStatus `json:"webhooks,omitempty"`

	// Waits are the last 20 that were longer than a moment, the one that lasts among them, the oldest first, for whoever
	// asks for the job. Each was meant to last until its Until; what ended it stands after it in the story.
	Waits []Waiting `json:"waits,omitempty"`

	CreatedAt  *time.Time `json:"created_at,omitempty"`
	StartedAt  *time.Time `json:"started_at,omitempty"`
	FinishedAt *time.Time `json:"finished_at,omitempty"`

	Metadata map[string]string `json:"metadata,omitempty"`
}

// Waiting says what a job waits for.
type Waiting struct {
	// Reason is a short word: "scheduled", "backoff", "breaker_open", "probe_out", "ramp", "cooldown", "requests",
	// "tokens", "permits", "budget", "attempt_open", "redis_away", "given_back", "paused",
	// "unreadable".
	Reason string `json:"reason"`
	// Limit is whose limit of requests, tokens or permits it is, such as "account acme, model large", or which budget is
	// exhausted, such as that of "tenant acme". Cause is the class of the
	// failure for which a breaker is open.
	Limit string `json:"limit,omitempty"`
	Cause Class  `json:"cause,omitempty"`
	// Route is "model@endpoint" of the nearest route, where there is one.
	Route string    `json:"route,omitempty"`
	Since time.Time `json:"since"`
	Until time.Time `json:"until"`
}

// Usage is what the provider counted, in tokens.
type Usage struct {
	PromptTokens     int `json:"prompt_tokens"`
	CompletionTokens int `json:"completion_tokens"`
	TotalTokens      int `json:"total_tokens"`
	// Estimated tells that the provider counted nothing and Forebay estimated from the lengths of the texts.
	Estimated bool `json:"estimated,omitempty"`
}

// Attempt is one call to one endpoint, as the ledger keeps it. Its intent is written before the call is sent and
// its end after; an attempt without an end is maybe billed.
type Attempt struct {
	// Seq numbers the attempts of a job from 1, over all its deliveries and runs.
	Seq int `json:"seq"`
	Run int `json:"run"`
	// Delivery identifies the delivery that made the call.
	Delivery string `json:"delivery"`
	// Worker identifies the worker process that made the call.
	Worker   string `json:"worker"`
	Model    string `json:"model"`
	Endpoint string `json:"endpoint"`
	Account  string `json:"account"`
	Region   string `json:"region,omitempty"`
	// Probe marks the call that tried an endpoint whose breaker was half-open.
	Probe bool `json:"probe,omitempty"`
	// Hold numbers the hold of the budget, among those of the delivery, that the call was made under.
	Hold int `json:"hold,omitempty"`
	// Ask numbers the delivery's questions to the gate: the one by which the call was admitted.
	Ask       int       `json:"ask,omitempty"`
	StartedAt time.Time `json:"started_at"`
	// CallDeadline is when the call ends at the latest. Another delivery of the job makes no call before
	// CallDeadline + 5s unless the worker is gone.
	CallDeadline time.Time `json:"call_deadline"`

	// Ended is false while the call is out, and for ever if its worker died.
	Ended     bool  `json:"ended"`
	LatencyMS int64 `json:"latency_ms,omitempty"`
	// Class is empty for an attempt that was answered well.
	Class      Class  `json:"class,omitempty"`
	Code       string `json:"code,omitempty"`
	HTTPStatus int    `json:"http_status,omitempty"`
	Usage      *Usage `json:"usage,omitempty"`
	// CostUSD is what the answer cost, by the catalog's prices.
	CostUSD float64 `json:"cost_usd,omitempty"`
	// MaybeBilled marks a call that may have been received without its price being known.
	MaybeBilled bool `json:"maybe_billed,omitempty"`
}
