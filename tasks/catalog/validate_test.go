package catalog_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
)

func TestValidateFillsDefaults(t *testing.T) {
	t.Parallel()
	c := valid(t)
	endpoint := c.Endpoints["relay-b"]
	assert.Equal(t, "relay-b", endpoint.Name)
	assert.Equal(t, "https://b.example.com/v1", endpoint.URL)
	assert.Equal(t, time.Minute, endpoint.Timeout)
	assert.Equal(t, 1, endpoint.Tries)
	assert.Equal(t, catalog.AuthBearer, endpoint.Auth)
	assert.InDelta(t, 7.3, c.Accounts["local"].CNYPerUSD, 0)
	assert.Equal(t, tasks.KindChat, c.Models["mini"].Kind)
	assert.InDelta(t, 0.2, *c.Models["mini"].Input, 1e-9)
	assert.InDelta(t, 4.0, *c.Models["large"].Input, 0)
	assert.Equal(t, "max_tokens", c.Models["mini"].MaxTokensField)
	assert.Equal(t, "plain", c.TaskTypes["plain"].Name)
	assert.Equal(t, "{{input}}", c.TaskTypes["plain"].Prompt)
	assert.Equal(t, tasks.KindEmbedding, c.TaskTypes["vector"].Kind)
	assert.Equal(t, map[string]any{"max_tokens": 1024, "temperature": 0.2}, c.TaskTypes["summary"].Defaults)
	assert.Empty(t, c.TaskTypes["vector"].Defaults)
	assert.Equal(t, 168*time.Hour, c.Defaults.MaxAge)
	assert.Equal(t, 24*time.Hour, c.Defaults.Retention)
	assert.Equal(t, 4, *c.Defaults.MaxRetries)
	assert.Equal(t, catalog.Breaker{
		Failures: 5, Recovery: time.Minute, RecoveryMax: 10 * time.Minute, LongRecovery: 10 * time.Minute,
		Ramp: new(8 * time.Second), SlowCall: 30 * time.Second, Window: time.Minute, MinCalls: 20,
		Cooldown: 5 * time.Second, NotServed: 10 * time.Minute,
	}, c.Breaker)
	assert.Equal(t, catalog.Retry{BackoffBase: 2 * time.Second, BackoffMax: 10 * time.Minute, TryBackoff: 500 * time.Millisecond}, c.Retry)

	require.NoError(t, c.Validate(), "a second time changes nothing")
	assert.InDelta(t, 0.2, *c.Models["mini"].Input, 1e-9)
}

// Each row breaks one thing of a valid catalog; the error is the whole text.
func TestValidateRefuses(t *testing.T) {
	t.Parallel()
	const secret = "sk-abcdefghijklmnopqrstuvwxyz"
	rows := map[string]struct {
		breakIt func(*catalog.Catalog)
		want    string
	}{
		"unknown account": {
			func(c *catalog.Catalog) { c.Endpoints["relay-a"].Account = "rely" },
			`endpoints.relay-a.account: no account "rely", did you mean "relay"?`,
		},
		"no account": {
			func(c *catalog.Catalog) { c.Endpoints["relay-a"].Account = "" },
			"endpoints.relay-a.account: is missing; name one of the accounts",
		},
		"relative URL": {
			func(c *catalog.Catalog) { c.Endpoints["relay-a"].URL = "api.example.com/v1" },
			"endpoints.relay-a.url: must be an absolute http or https address, such as https://api.openai.com/v1",
		},
		"URL with credentials": {
			func(c *catalog.Catalog) { c.Endpoints["relay-a"].URL = "https://user:" + secret + "@a.example.com/v1" },
			"endpoints.relay-a.url: holds credentials; put the key where the account's key_env or key_file says",
		},
		"URL with query": {
			func(c *catalog.Catalog) { c.Endpoints["relay-a"].URL = "https://a.example.com/v1?key=" + secret },
			"endpoints.relay-a.url: ends in a query or fragment; put parameters into the endpoint's query",
		},
		"URL of one call": {
			func(c *catalog.Catalog) { c.Endpoints["relay-a"].URL = "https://a.example.com/v1/chat/completions" },
			"endpoints.relay-a.url: must be the base of the API, without /chat/completions or /embeddings",
		},
		"URL of an example": {
			func(c *catalog.Catalog) { c.Endpoints["relay-a"].URL = "https://YOUR-RESOURCE.openai.azure.com/openai" },
			"endpoints.relay-a.url: is a placeholder; put the real address there",
		},
		"no priority": {
			func(c *catalog.Catalog) { c.Endpoints["relay-a"].Priority = 0 },
			"endpoints.relay-a.priority: must be 1 or more, got 0; the smallest is asked first",
		},
		"timeout too long": {
			func(c *catalog.Catalog) { c.Endpoints["relay-a"].Timeout = 2 * time.Hour },
			"endpoints.relay-a.timeout: must be 1s to 1h, got 2h",
		},
		"timeout too short": {
			func(c *catalog.Catalog) { c.Endpoints["relay-a"].Timeout = 30 },
			"endpoints.relay-a.timeout: must be 1s to 1h, got 30ns",
		},
		"too many tries": {
			func(c *catalog.Catalog) { c.Endpoints["relay-a"].Tries = 11 },
			"endpoints.relay-a.tries: must be 1 to 10, got 11",
		},
		"unknown auth": {
			func(c *catalog.Catalog) { c.Endpoints["relay-a"].Auth = "basic" },
			"endpoints.relay-a.auth: must be bearer, api-key or none, got \"basic\"",
		},
		"serves an unknown model": {
			func(c *catalog.Catalog) { c.Endpoints["local"].Models["minni"] = "x" },
			`endpoints.local.models.minni: no model "minni", did you mean "mini"?`,
		},
		"serves under a placeholder": {
			func(c *catalog.Catalog) { c.Endpoints["local"].Models["mini"] = "<deployment>" },
			`endpoints.local.models.mini: "<deployment>" is a placeholder; put the model's name at this endpoint there`,
		},
		"authorization header": {
			func(c *catalog.Catalog) {
				c.Endpoints["local"].Headers = map[string]string{"authorization": "Bearer " + secret}
			},
			"endpoints.local.headers.authorization: cannot be set here: it carries the key: use the account's key_env and the endpoint's auth",
		},
		"key in a header": {
			func(c *catalog.Catalog) { c.Endpoints["local"].Headers = map[string]string{"X-Relay": secret} },
			"endpoints.local.headers.X-Relay: looks like an API key, and keys never stand in the file: use the account's key_env and the endpoint's auth",
		},
		"placeholder in a header": {
			func(c *catalog.Catalog) { c.Endpoints["local"].Headers = map[string]string{"X-Team": "YOUR_TEAM"} },
			"endpoints.local.headers.X-Team: is a placeholder; put the real value there or remove the line",
		},
		"line break in a header": {
			func(c *catalog.Catalog) { c.Endpoints["local"].Headers = map[string]string{"X-Team": "a\r\nHost: b"} },
			"endpoints.local.headers.X-Team: holds a line break or another control character",
		},
		"name of a header": {
			func(c *catalog.Catalog) { c.Endpoints["local"].Headers = map[string]string{"X Team": "a"} },
			"endpoints.local.headers.X Team: is not the name of a header",
		},
		"key in the query": {
			func(c *catalog.Catalog) { c.Endpoints["local"].Query = map[string]string{"api_key": secret} },
			"endpoints.local.query.api_key: carries a key, and keys never stand in the file: use the account's key_env and the endpoint's auth",
		},
		"proxy": {
			func(c *catalog.Catalog) { c.Endpoints["local"].Proxy = "proxy:3128" },
			"endpoints.local.proxy: must be an http, https or socks5 address, such as http://proxy.internal:3128",
		},
		"proxy with credentials": {
			func(c *catalog.Catalog) { c.Endpoints["local"].Proxy = "http://u:" + secret + "@proxy:3128" },
			"endpoints.local.proxy: holds credentials; set HTTPS_PROXY in the environment instead and leave this out",
		},
		"empty endpoint": {
			func(c *catalog.Catalog) { c.Endpoints["local"] = nil },
			"endpoints.local: is empty",
		},
		"name of an endpoint": {
			func(c *catalog.Catalog) { c.Endpoints["a/b"] = c.Endpoints["local"] },
			"endpoints.a/b: a name must be 1 to 64 characters of A-Z a-z 0-9 _ . -",
		},
		"no key": {
			func(c *catalog.Catalog) { c.Accounts["relay"].KeyEnv = "" },
			"accounts.relay.key_env: is missing; name the environment variable (key_env) or the file (key_file) that holds the API key, or set auth: none on every endpoint of the account",
		},
		"two keys": {
			func(c *catalog.Catalog) { c.Accounts["relay"].KeyFile = "/run/secrets/relay" },
			"accounts.relay.key_file: stands beside key_env; give one of them",
		},
		"key instead of its variable": {
			func(c *catalog.Catalog) { c.Accounts["relay"].KeyEnv = secret },
			"accounts.relay.key_env: must be the name of an environment variable, such as RELAY_API_KEY; the key itself never stands in the file",
		},
		"placeholder instead of a variable": {
			func(c *catalog.Catalog) { c.Accounts["relay"].KeyEnv = "YOUR_KEY" },
			"accounts.relay.key_env: must be the name of an environment variable, such as RELAY_API_KEY; the key itself never stands in the file",
		},
		"rate of an account": {
			func(c *catalog.Catalog) { c.Accounts["relay"].CNYPerUSD = math.NaN() },
			"accounts.relay.cny_per_usd: must be more than 0 and at most 1000, got NaN",
		},
		"no price": {
			func(c *catalog.Catalog) { c.Models["mini"].Output, c.Models["mini"].Input = nil, nil },
			"models.mini.output: the model has no price; give US dollars per million output tokens, or an explicit 0 if it is free",
		},
		"no price of an embedding": {
			func(c *catalog.Catalog) { c.Models["embed"].Input = nil },
			"models.embed.input: the model has no price; give US dollars per million input tokens, or an explicit 0 if it is free",
		},
		"negative price": {
			func(c *catalog.Catalog) { c.Models["large"].Output = new(-1.0) },
			"models.large.output: must be US dollars per million output tokens, 0 or more, got -1",
		},
		"infinite price": {
			func(c *catalog.Catalog) { c.Models["large"].Output = new(math.Inf(1)) },
			"models.large.output: must be US dollars per million output tokens, 0 or more, got +Inf",
		},
		"kind": {
			func(c *catalog.Catalog) { c.Models["larger"].Kind = "image" },
			"models.larger.kind: must be chat or embedding, got \"image\"",
		},
		"name of a model": {
			func(c *catalog.Catalog) { c.Models["a b"] = &catalog.Model{Output: new(0.0)} },
			"models.a b: the name of a model must be 1 to 128 printable characters without spaces",
		},
		"tier of an unknown model": {
			func(c *catalog.Catalog) { c.Tiers[1].Models[1] = "largerr" },
			`tiers[1].models[1]: no model "largerr", did you mean "larger"?`,
		},
		"two tiers of a name": {
			func(c *catalog.Catalog) {
				c.Tiers = append(c.Tiers, catalog.Tier{Name: "low", Models: []string{"mini"}})
			},
			`tiers[2].name: there are two tiers "low"`,
		},
		"empty profile": {
			func(c *catalog.Catalog) { c.Profiles["best"] = nil },
			"profiles.best: lists no model",
		},
		"fallback tier": {
			func(c *catalog.Catalog) { c.FallbackTier = "lowest" },
			`fallback_tier: no tier "lowest"; there are low, high`,
		},
		"model that nobody serves": {
			func(c *catalog.Catalog) {
				c.Models["gone"] = &catalog.Model{Output: new(1.0)}
				for _, endpoint := range c.Endpoints {
					endpoint.Models = catalog.ServedModels{"mini": "mini", "large": "large", "larger": "larger", "embed": "e", "embed-two": "e2"}
				}
				c.TaskTypes["plain"].Model = "gone"
			},
			`task_types.plain.model: no endpoint serves "gone"; list it under the models of an endpoint`,
		},
		"task type without a model": {
			func(c *catalog.Catalog) { c.TaskTypes["plain"].Model = "" },
			"task_types.plain.model: is missing; name the model that does this work first",
		},
		"chat with an embedding model": {
			func(c *catalog.Catalog) {
				c.TaskTypes["plain"].Model, c.TaskTypes["plain"].Kind = "embed", tasks.KindChat
			},
			"task_types.plain.kind: must be that of its model embed, which is embedding",
		},
		"prompt without input": {
			func(c *catalog.Catalog) { c.TaskTypes["plain"].Prompt = "Do it: {{ input }}" },
			"task_types.plain.prompt: must contain {{input}}, written so, where the job's input belongs",
		},
		"system with input": {
			func(c *catalog.Catalog) { c.TaskTypes["plain"].System = "About {{input}}" },
			"task_types.plain.system: {{input}} is replaced in prompt only",
		},
		"system of an embedding": {
			func(c *catalog.Catalog) { c.TaskTypes["vector"].System = "Embed." },
			"task_types.vector.system: an embedding has no system message",
		},
		"reserved default": {
			func(c *catalog.Catalog) { c.TaskTypes["plain"].Defaults = map[string]any{"stream": true} },
			"task_types.plain.defaults.stream: cannot be a default: a queued job cannot stream",
		},
		"no bound": {
			func(c *catalog.Catalog) { c.TaskTypes["plain"].Defaults = map[string]any{"max_tokens": nil} },
			"task_types.plain.defaults.max_tokens: must be a whole number of at least 1: every call has a bound",
		},
		"default that is no JSON": {
			func(c *catalog.Catalog) { c.TaskTypes["plain"].Defaults = map[string]any{"temperature": math.NaN()} },
			"task_types.plain.defaults.temperature: cannot be written as JSON",
		},
		"fallback tier of a task type": {
			func(c *catalog.Catalog) { c.TaskTypes["plain"].FallbackTier = "hihg" },
			`task_types.plain.fallback_tier: no tier "hihg"; there are low, high`,
		},
		"retries of a task type": {
			func(c *catalog.Catalog) { c.TaskTypes["plain"].MaxRetries = new(-1) },
			"task_types.plain.max_retries: must be 0 to 1000, got -1",
		},
		"breaker": {
			func(c *catalog.Catalog) { c.Breaker.Failures = -1 },
			"breaker.failures: must be 1 to 1000, got -1",
		},
		"backoff": {
			func(c *catalog.Catalog) { c.Retry.BackoffBase, c.Retry.BackoffMax = time.Minute, time.Second },
			"retry.backoff_max: must not be shorter than backoff_base, which is 1m",
		},
		"limits of a model that is not served": {
			func(c *catalog.Catalog) {
				endpoint := c.Endpoints["relay-a"]
				endpoint.Models = catalog.ServedModels{"large": "large"}
				endpoint.ModelLimits = map[string]catalog.Limits{"larger": {Concurrency: 1}, "large": {Concurrency: 1}}
			},
			"endpoints.relay-a.model_limits.larger: the endpoint does not serve larger; list it under its models, or remove the limits",
		},
		"nothing at all": {
			func(c *catalog.Catalog) { *c = catalog.Catalog{} },
			"endpoints: there is no endpoint; name at least one address that serves models\n" +
				"models: there is no model; list each with its price",
		},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := small()
			row.breakIt(c)
			err := c.Validate()
			require.Error(t, err)
			assert.Equal(t, row.want, err.Error())
			assert.NotContains(t, err.Error(), secret)
			var path *catalog.PathError
			require.ErrorAs(t, err, &path)
			assert.NotEmpty(t, path.Path)
		})
	}
}

func TestValidateJoinsAllProblems(t *testing.T) {
	t.Parallel()
	c := small()
	c.Endpoints["relay-a"].Priority = -1
	c.Endpoints["relay-a"].Tries = 99
	c.FallbackTier = "none"
	err := c.Validate()
	require.Error(t, err)
	assert.Len(t, strings.Split(err.Error(), "\n"), 3)
}

func TestFreeModelsAndKeylessAccounts(t *testing.T) {
	t.Parallel()
	c := &catalog.Catalog{
		Accounts:  map[string]*catalog.Account{"local": {}},
		Endpoints: map[string]*catalog.Endpoint{"ollama": {Account: "local", URL: "http://127.0.0.1:11434/v1", Priority: 1, Auth: catalog.AuthNone}},
		Models:    map[string]*catalog.Model{"llama3:8b": {Output: new(0.0)}},
	}
	require.NoError(t, c.Validate())
	assert.Zero(t, c.Cost("llama3:8b", tasks.Usage{PromptTokens: 10, CompletionTokens: 10}))
	key, err := c.Key("local")
	require.NoError(t, err)
	assert.Empty(t, key)
}

func TestNearest(t *testing.T) {
	t.Parallel()
	known := []string{"timeout", "tries", "url", "fast_summary"}
	for name, want := range map[string]string{"timout": "timeout", "TRIES": "tries", "ulr": "", "fast-summry": "fast_summary", "zzz": "", "": ""} {
		got, found := catalog.Nearest(name, known)
		assert.Equal(t, want, got, name)
		assert.Equal(t, want != "", found, name)
	}
}
