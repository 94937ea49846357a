// Package catalog is what can be asked for and who can do it: task types, tiers and profiles on one side; models,
// prices, endpoints and accounts on the other. A Catalog is read from YAML (see deploy/config), checked as a whole by
// Validate, and not changed afterwards; it may be shared by any number of goroutines.
package catalog

import (
	"time"

	"github.com/forebay-queue/forebay/tasks"
)

// Catalog is the whole catalog of a deployment. The keys of its maps are names, [A-Za-z0-9_.-]{1,64}; those of models
// may hold any printable characters but spaces.
type Catalog struct {
	Accounts  map[string]*Account  `yaml:"accounts"`
	Endpoints map[string]*Endpoint `yaml:"endpoints"`
	Models    map[string]*Model    `yaml:"models"`
	// Tiers are ordered from the cheapest to the dearest. A model in two tiers belongs to the first.
	Tiers []Tier `yaml:"tiers"`
	// Profiles are named, ordered lists of models.
	Profiles map[string][]string `yaml:"profiles"`
	// FallbackTier is where every task type goes on to, after the rest of its model's tier.
	FallbackTier string               `yaml:"fallback_tier"`
	TaskTypes    map[string]*TaskType `yaml:"task_types"`
	Defaults     Defaults             `yaml:"defaults"`
	Breaker      Breaker              `yaml:"breaker"`
	Retry        Retry                `yaml:"retry"`
	Budget       Budget               `yaml:"budget"`
	// Webhooks and ReplyStreams are where results go by themselves.
	Webhooks     Webhooks     `yaml:"webhooks"`
	ReplyStreams ReplyStreams `yaml:"reply_streams"`

	// LookupEnv finds the environment variables that hold API keys. Defaults to os.LookupEnv.
	LookupEnv func(name string) (string, bool) `yaml:"-"`

	// index is what Validate works out once, for the lookups of every delivery.
	index index
}

// Account is what a provider bills and limits: one key.
type Account struct {
	Name string `yaml:"-"`
	// KeyEnv names the environment variable that holds the API key, KeyFile the file. One of them, unless every
	// endpoint of the account has auth: none. The key itself never stands in the configuration.
	KeyEnv  string `yaml:"key_env"`
	KeyFile string `yaml:"key_file"`
	// KeyShape says what a key of this provider looks like; one of another shape is refused before any call.
	KeyShape KeyShape `yaml:"key_shape"`
	// CNYPerUSD is what one US dollar of credit costs in CNY on this account. It changes no cost that Forebay
	// shows, which is in US dollars of credit. Defaults to 7.3.
	CNYPerUSD float64 `yaml:"cny_per_usd"`
	// Plan gives the account the limits of a plan, over all its models: free (60 requests and 100,000 tokens a minute),
	// basic (500, 500,000), pro (2,000, 2,000,000) or enterprise (10,000, 10,000,000). Defaults to none.
	Plan string `yaml:"plan"`
	// Limits hold over all models of the account, each in place of the plan's. ModelLimits hold beside them, for one
	// model each.
	Limits      Limits            `yaml:"limits"`
	ModelLimits map[string]Limits `yaml:"model_limits"`
}

// KeyShape is what the keys of a provider look like. The zero value accepts every key.
type KeyShape struct {
	// Prefixes are the beginnings of which a key has one.
	Prefixes []string `yaml:"prefixes"`
	// MinLength is in characters.
	MinLength int `yaml:"min_length"`
}

// The ways in which an endpoint authenticates its callers.
const (
	AuthBearer = "bearer"  // Authorization: Bearer <key>
	AuthAPIKey = "api-key" // api-key: <key>, as Azure does
	AuthNone   = "none"
)

// Endpoint is one address at which models are served, in one region.
type Endpoint struct {
	Name string `yaml:"-"`
	// Account is whose key it uses.
	Account string `yaml:"account"`
	// URL is the base of the API, with its version: https://api.openai.com/v1. A slash at its end is taken off.
	URL string `yaml:"url"`
	// Region is where it is; it is shown beside results.
	Region string `yaml:"region"`
	// Priority orders the endpoints of a model, the smallest first, those of one priority by name. From 1, required.
	Priority int `yaml:"priority"`
	// Timeout bounds one call, 1s to 1h. Defaults to 60s.
	Timeout time.Duration `yaml:"timeout"`
	// Tries is how many calls one delivery makes here in all, while the endpoint is unavailable, 1 to 10.
	// Defaults to 1.
	Tries int `yaml:"tries"`
	// LatencyThreshold is what a health probe may take. 0 is no threshold.
	LatencyThreshold time.Duration `yaml:"latency_threshold"`
	// Models maps the models that are served here to the names they have here. Empty: all models of the catalog
	// under their own names.
	Models ServedModels `yaml:"models"`
	// Auth is AuthBearer, AuthAPIKey or AuthNone. Defaults to AuthBearer.
	Auth string `yaml:"auth"`
	// Headers and Query are added to every call. They hold no secrets.
	Headers map[string]string `yaml:"headers"`
	Query   map[string]string `yaml:"query"`
	// Proxy is the URL of an HTTP or SOCKS5 proxy for this endpoint. Defaults to HTTPS_PROXY / HTTP_PROXY / NO_PROXY.
	Proxy string `yaml:"proxy"`
	// Limits hold over all models at this endpoint, ModelLimits for one model each, all beside the account's.
	Limits      Limits            `yaml:"limits"`
	ModelLimits map[string]Limits `yaml:"model_limits"`
	// Simulated marks an endpoint of a simulated provider, so that it is labelled wherever it is named.
	Simulated bool `yaml:"simulated"`
}

// ServedModels maps model names of the catalog to the names an endpoint gives them. In YAML also a plain list.
type ServedModels map[string]string

// UnmarshalYAML reads a list of names, or a mapping of names to the endpoint's own.
func (s *ServedModels) UnmarshalYAML(unmarshal func(any) error) error {
	var list []string
	if unmarshal(&list) == nil {
		*s = make(ServedModels, len(list))
		for _, name := range list {
			(*s)[name] = name
		}
		return nil
	}
	var names map[string]string
	if err := unmarshal(&names); err != nil {
		return err
	}
	*s = names
	return nil
}

// Model is a model and what it costs.
type Model struct {
	Name string `yaml:"-"`
	// Kind says which jobs it does. Defaults to chat.
	Kind tasks.Kind `yaml:"kind"`
	// Input and Output are US dollars per million tokens. Input defaults to a tenth of Output for chat models; an
	// embedding model has Input only. An explicit 0 is a free model; a missing price is an error.
	Input  *float64 `yaml:"input"`
	Output *float64 `yaml:"output"`
	// MaxTokensField is the request's field that bounds the answer of a chat model. Defaults to max_tokens.
	MaxTokensField string `yaml:"max_tokens_field"`
	// ContextWindow is in tokens. 0 is unknown.
	ContextWindow int `yaml:"context_window"`
}

// Tier is a level of price: a name and its models, in order, of any kind.
type Tier struct {
	// Name is what jobs ask for.
	Name string `yaml:"name"`
	// Models are in the order in which they are tried.
	Models []string `yaml:"models"`
}

// TaskType is a kind of work: which model does it first, how its prompt reads, what its defaults are.
type TaskType struct {
	Name string `yaml:"-"`
	// Model is tried first; then the rest of its tier, then the fallback tier, always of the same kind.
	Model string `yaml:"model"`
	// Kind is that of its jobs. Defaults to the model's.
	Kind tasks.Kind `yaml:"kind"`
	// System is the system message, if any. Prompt is the user message, with {{input}} for the job's input; defaults
	// to "{{input}}".
	System string `yaml:"system"`
	Prompt string `yaml:"prompt"`
	// Defaults are put into the request where it has no such field; a null is left out. Chat: max_tokens 1024 and
	// temperature 0.7 unless given.
	Defaults map[string]any `yaml:"defaults"`
	// FallbackTier overrides the catalog's.
	FallbackTier string `yaml:"fallback_tier"`
	// AllowModelChange lets an embedding job go on to another model. Without it, it has one model only: the vectors
	// of two models do not compare.
	AllowModelChange bool `yaml:"allow_model_change"`
	// ContentPolicyFallback lets a job whose answer was withheld by one provider's policy go on to the next model.
	ContentPolicyFallback bool `yaml:"content_policy_fallback"`
	// Spill lets a job that meets only limits go on to the next model instead of waiting.
	Spill bool `yaml:"spill"`
	// OnBudgetExhausted overrides the budget's OnExhausted.
	OnBudgetExhausted OnExhausted `yaml:"on_budget_exhausted"`
	// MaxRetries and Retention override those of the catalog's Defaults.
	MaxRetries *int           `yaml:"max_retries"`
	Retention  *time.Duration `yaml:"retention"`
}

// Defaults are those of a job.
type Defaults struct {
	// MaxAge is how long after its acceptance a job without a deadline expires. Defaults to 168h.
	MaxAge time.Duration `yaml:"max_age"`
	// Retention is how long a record is kept after the job's end. Defaults to 24h.
	Retention time.Duration `yaml:"retention"`
	// MaxRetries is how often a failed delivery is repeated; 0 in the file is once. Defaults to 4.
	MaxRetries *int `yaml:"max_retries"`
}

// Breaker configures the breakers of all endpoints.
type Breaker struct {
	// Failures is how many consecutive failures open a breaker. Defaults to 5.
	Failures int `yaml:"failures"`
	// Recovery is how long it stays open before one probe is let through; it doubles with each probe that fails, up to
	// RecoveryMax. Defaults to 60s and 10m.
	Recovery    time.Duration `yaml:"recovery"`
	RecoveryMax time.Duration `yaml:"recovery_max"`
	// LongRecovery is the same after a refused key, an empty account or a wrong address, which do not mend themselves
	// within a minute. Defaults to 10m.
	LongRecovery time.Duration `yaml:"long_recovery"`
	// Ramp is how long it takes, after a probe that closed the breaker, until everything is admitted: one call in its
	// first eighth, and in each further one twice as many. Defaults to 8s; 0 in the file is no ramp.
	Ramp *time.Duration `yaml:"ramp"`
	// FailureRate, 0 to 1, opens a breaker as well when so many of the calls of the last Window failed, and SlowRate
	// when so many of them took longer than SlowCall, once there were MinCalls. Default to 0, none. Window defaults to
	// 60s, MinCalls to 20, SlowCall to 30s.
	FailureRate float64       `yaml:"failure_rate"`
	SlowRate    float64       `yaml:"slow_rate"`
	SlowCall    time.Duration `yaml:"slow_call"`
	Window      time.Duration `yaml:"window"`
	MinCalls    int           `yaml:"min_calls"`
	// Cooldown is how long a model rests after a 429 that names no time. Defaults to 5s.
	Cooldown time.Duration `yaml:"cooldown"`
	// NotServed is how long it is remembered that an endpoint does not serve a model. Defaults to 10m.
	NotServed time.Duration `yaml:"not_served"`
}

// Retry configures the repetition of failed deliveries through the queue.
type Retry struct {
	// BackoffBase is the mean wait before the first repetition, doubling with each further one. Defaults to 2s.
	BackoffBase time.Duration `yaml:"backoff_base"`
	// BackoffMax caps it. Defaults to 10m.
	BackoffMax time.Duration `yaml:"backoff_max"`
	// TryBackoff is the wait before the second call of one delivery at the same endpoint, doubling. Defaults to 500ms.
	TryBackoff time.Duration `yaml:"try_backoff"`
}
