package catalog

import (
	"maps"
	"strings"
	"time"

	"github.com/forebay-queue/forebay/tasks"
)

// DefaultTenant is who pays for a job that names no tenant.
const DefaultTenant = "default"

// The documented defaults.
const (
	defaultCNYPerUSD      = 7.3
	defaultTimeout        = 60 * time.Second
	defaultTries          = 1
	defaultMaxTokensField = "max_tokens"
	defaultMaxTokens      = 1024
	defaultTemperature    = 0.7
	defaultPrompt         = inputMark

	defaultReplies    = 100_000
	defaultReplyAge   = 168 * time.Hour
	defaultMaxAge     = 7 * 24 * time.Hour
	defaultRetention  = 24 * time.Hour
	defaultMaxRetries = 4

	defaultFailures     = 5
	defaultRecovery     = 60 * time.Second
	defaultRecoveryMax  = 10 * time.Minute
	defaultLongRecovery = 10 * time.Minute
	defaultRamp         = 8 * time.Second
	defaultSlowCall     = 30 * time.Second
	defaultWindow       = time.Minute
	defaultMinCalls     = 20
	defaultCooldown     = 5 * time.Second
	defaultNotServed    = 10 * time.Minute

	defaultBackoffBase = 2 * time.Second
	defaultBackoffMax  = 10 * time.Minute
	defaultTryBackoff  = 500 * time.Millisecond
)

// inputShare is the price of a million input tokens as a part of that of output tokens, where only that is given.
const inputShare = 0.1

// fillDefaults puts the documented default into every field that has its zero value, and the names into what is
// named by the key of a map.
func (c *Catalog) fillDefaults() {
	for name, account := range c.Accounts {
		if account != nil {
			account.Name = name
			fill(&account.CNYPerUSD, defaultCNYPerUSD)
		}
	}
	for name, endpoint := range c.Endpoints {
		if endpoint != nil {
			endpoint.Name = name
			endpoint.URL = strings.TrimRight(endpoint.URL, "/")
			fill(&endpoint.Timeout, defaultTimeout)
			fill(&endpoint.Tries, defaultTries)
			fill(&endpoint.Auth, AuthBearer)
		}
	}
	for name, model := range c.Models {
		if model != nil {
			model.Name = name
			model.fillDefaults()
		}
	}
	for name, taskType := range c.TaskTypes {
		if taskType != nil {
			taskType.Name = name
			taskType.fillDefaults(c.Models[taskType.Model])
		}
	}
	fill(&c.Defaults.MaxAge, defaultMaxAge)
	fill(&c.Defaults.Retention, defaultRetention)
	if c.Defaults.MaxRetries == nil {
		c.Defaults.MaxRetries = new(int(defaultMaxRetries))
	}
	c.Breaker = c.Breaker.WithDefaults()
	fill(&c.Retry.BackoffBase, defaultBackoffBase)
	fill(&c.Retry.BackoffMax, defaultBackoffMax)
	fill(&c.Retry.TryBackoff, defaultTryBackoff)
	c.Budget.fillDefaults()
	c.Webhooks.fillDefaults()
	fill(&c.ReplyStreams.MaxLen, defaultReplies)
	fill(&c.ReplyStreams.MaxAge, defaultReplyAge)
}

// WithDefaults is the Breaker with the documented default in every field that has its zero value.
func (b Breaker) WithDefaults() Breaker {
	fill(&b.Failures, defaultFailures)
	fill(&b.Recovery, defaultRecovery)
	fill(&b.RecoveryMax, max(defaultRecoveryMax, b.Recovery))
	fill(&b.LongRecovery, defaultLongRecovery)
	if b.Ramp == nil {
		b.Ramp = new(defaultRamp)
	}
	fill(&b.SlowCall, defaultSlowCall)
	fill(&b.Window, defaultWindow)
	fill(&b.MinCalls, defaultMinCalls)
	fill(&b.Cooldown, defaultCooldown)
	fill(&b.NotServed, defaultNotServed)
	return b
}

func (m *Model) fillDefaults() {
	fill(&m.Kind, tasks.KindChat)
	if m.Kind != tasks.KindChat {
		return
	}
	fill(&m.MaxTokensField, defaultMaxTokensField)
	if m.Input == nil && m.Output != nil {
		m.Input = new(*m.Output * inputShare)
	}
}

func (t *TaskType) fillDefaults(model *Model) {
	if model != nil {
		fill(&t.Kind, model.Kind)
	}
	fill(&t.Prompt, defaultPrompt)
	if t.Kind == tasks.KindChat {
		t.Defaults = withChatDefaults(t.Defaults)
	}
}

// withChatDefaults adds what every chat request needs: a bound of its length, under whichever name it is given, and
// a temperature.
func withChatDefaults(given map[string]any) map[string]any {
	filled := map[string]any{"temperature": defaultTemperature}
	_, bounded := given["max_completion_tokens"]
	if !bounded {
		filled["max_tokens"] = defaultMaxTokens
	}
	maps.Copy(filled, given)
	return filled
}

func fill[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
