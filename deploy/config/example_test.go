package config

import (
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
)

func parseExample(t *testing.T) *File {
	t.Helper()
	file, err := Parse("forebay.yaml", Example())
	require.NoError(t, err)
	return file
}

func TestExamplePassesTheCheck(t *testing.T) {
	t.Parallel()
	file := parseExample(t)
	env := map[string]string{"HOLYSHEEP_API_KEY": "hs-0123456789abcdefghij", "OPENAI_API_KEY": "sk-proj-0123456789"}
	file.Catalog.LookupEnv = func(name string) (string, bool) {
		value, found := env[name]
		return value, found
	}
	assert.Empty(t, Check(file))

	env["HOLYSHEEP_API_KEY"] = "YOUR_HOLYSHEEP_API_KEY"
	delete(env, "OPENAI_API_KEY")
	problems := Check(file)
	require.Len(t, problems, 2)
	assert.Regexp(t, `^forebay\.yaml:\d+:14: accounts\.holysheep\.key_env: the environment variable HOLYSHEEP_API_KEY holds a placeholder; `+
		`put the API key there \(expected: begins with "sk-" or "hs-", at least 20 characters\)$`, problems[0].String())
	assert.Regexp(t, `^forebay\.yaml:\d+:14: accounts\.openai\.key_env: the environment variable OPENAI_API_KEY is not set or empty; `, problems[1].String())
}

// The deployment that Forebay ships with.
func TestExampleHoldsTheDeployment(t *testing.T) {
	t.Parallel()
	c := &parseExample(t).Catalog

	endpoint := c.Endpoints["holysheep-apac"]
	assert.Equal(t, catalog.Endpoint{
		Name: "holysheep-apac", Account: "holysheep", URL: "https://api.holysheep.ai/v1", Region: "ap-northeast-1", Priority: 1,
		Timeout: 30 * time.Second, Tries: 3, LatencyThreshold: 100 * time.Millisecond, Auth: catalog.AuthBearer,
	}, *endpoint)
	assert.Equal(t, "HOLYSHEEP_API_KEY", c.Accounts["holysheep"].KeyEnv)
	assert.Equal(t, catalog.KeyShape{Prefixes: []string{"sk-", "hs-"}, MinLength: 20}, c.Accounts["holysheep"].KeyShape)
	assert.InDelta(t, 1, c.Accounts["holysheep"].CNYPerUSD, 0)
	assert.InDelta(t, 7.3, c.Accounts["openai"].CNYPerUSD, 0)

	endpoints := func(model string) (names []string) {
		for _, endpoint := range c.EndpointsFor(model) {
			names = append(names, endpoint.Name)
		}
		return names
	}
	assert.Equal(t, []string{"holysheep-apac", "holysheep-eu", "official"}, endpoints("gpt-4.1"))
	assert.Equal(t, []string{"holysheep-apac", "holysheep-eu"}, endpoints("claude-opus-4"))

	const million = 1_000_000
	for model, price := range map[string]float64{
		"gpt-4.1": 8, "gpt-4.1-mini": 2.5, "claude-opus-4": 75, "claude-sonnet-4-5": 15, "claude-sonnet-4-3": 8,
		"gemini-2.5-flash": 2.5, "deepseek-v3.2": 0.42,
	} {
		assert.InDelta(t, price, c.Cost(model, tasks.Usage{CompletionTokens: million}), 1e-9, model)
		assert.InDelta(t, price/10, c.Cost(model, tasks.Usage{PromptTokens: million}), 1e-9, model)
	}
	assert.InDelta(t, 0.02, c.Cost("text-embedding-3-small", tasks.Usage{PromptTokens: million}), 1e-9)
	assert.InDelta(t, 0.01, c.Cost("deepseek-embedding", tasks.Usage{PromptTokens: million}), 1e-9)

	for taskType, models := range map[string][]string{
		"simple_response":   {"deepseek-v3.2", "gemini-2.5-flash", "gpt-4.1-mini"},
		"code_generation":   {"gpt-4.1-mini", "gemini-2.5-flash"},
		"detailed_analysis": {"claude-sonnet-4-5", "gpt-4.1", "gemini-2.5-flash", "gpt-4.1-mini"},
		"fast_summary":      {"gemini-2.5-flash", "gpt-4.1-mini"},
		"embedding":         {"deepseek-embedding"},
	} {
		prepared, err := c.Prepare(tasks.Job{TaskType: taskType, Input: "A text."}, time.Now())
		require.NoError(t, err, taskType)
		job := prepared.Job
		assert.Equal(t, models, c.ModelsFor(job), taskType)
		assert.Equal(t, taskType != "embedding", strings.Contains(string(job.Request), `"max_tokens":1024,"temperature":0.7`), taskType)
	}
	assert.Equal(t, "medium", c.TierOf("gpt-4.1"), "a model in two tiers belongs to the first")
	assert.Equal(t, []string{"deepseek-v3.2", "gemini-2.5-flash", "gpt-4.1-mini"}, c.Profiles["cost_optimized"])
}

var switchedOff = regexp.MustCompile(`(?m)^( *)#(\S|  )`)

// everything is the example with all that is switched off switched on.
func everything() string {
	return switchedOff.ReplaceAllString(string(Example()), "$1$2")
}

// Every field of every type stands in the example, or the documentation has fallen behind.
func TestExampleDocumentsEveryField(t *testing.T) {
	t.Parallel()
	text := everything()
	file := &File{name: "forebay.yaml", places: places{}}
	body, err := file.parseYAML([]byte(text))
	require.NoError(t, err)
	shape := schema{file: file}
	shape.value(body, reflect.TypeFor[File](), nil)
	require.Empty(t, shape.problems, "what is switched off is sound, too")

	for _, field := range leaves(reflect.TypeFor[File](), nil) {
		pattern := regexp.MustCompile("^" + strings.ReplaceAll(strings.Join(field, pathSeparator), "*", "[^"+pathSeparator+"]+") + "$")
		documented := slices.ContainsFunc(slices.Collect(maps.Keys(file.places)), pattern.MatchString)
		assert.True(t, documented, "example.yaml lacks %s", catalog.JoinPath(field))
	}

	// And it works, once one of two that exclude each other is gone.
	for _, either := range []string{"  url_env: REDIS_URL\n", "  password_file: /run/secrets/redis-password\n", "    password_file: /run/secrets/sentinel-password\n"} {
		require.Contains(t, text, either)
		text = strings.Replace(text, either, "", 1)
	}
	_, err = Parse("forebay.yaml", []byte(text))
	require.NoError(t, err)
}

// leaves lists the paths of all fields below a type; "*" stands for any key or position.
func leaves(typ reflect.Type, path []string) [][]string {
	if typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	switch {
	case typ == servedType || typ.Kind() == reflect.Interface:
		return [][]string{path}
	case typ.Kind() == reflect.Map || typ.Kind() == reflect.Slice:
		return leaves(typ.Elem(), child(path, "*"))
	case typ.Kind() != reflect.Struct:
		return [][]string{path}
	}
	var all [][]string
	fields, names := fieldsOf(typ)
	for _, name := range names {
		all = append(all, leaves(fields[name], child(path, name))...)
	}
	return all
}

var sections = regexp.MustCompile(`(?ms)^(redis|worker|http|ops|files|batches|log|health|defaults|budget|breaker|retry):\n(  .*?\n)+?(\n|\z)`)

// The example says that these sections hold the defaults; so they do.
func TestExampleShowsTheDefaults(t *testing.T) {
	t.Parallel()
	without := sections.ReplaceAllString(string(Example()), "")
	for _, name := range []string{"redis", "worker", "http", "ops", "files", "batches", "log", "health", "defaults", "budget", "breaker", "retry"} {
		require.NotContains(t, without, "\n"+name+":")
	}
	bare, err := Parse("forebay.yaml", []byte(without))
	require.NoError(t, err)
	full := parseExample(t)
	assert.Equal(t, full.Redis, bare.Redis)
	assert.Equal(t, full.Worker, bare.Worker)
	assert.Equal(t, full.HTTP, bare.HTTP)
	assert.Equal(t, full.Ops, bare.Ops)
	assert.Equal(t, full.Files, bare.Files)
	assert.Equal(t, full.Batches, bare.Batches)
	assert.Equal(t, full.Log, bare.Log)
	assert.Equal(t, full.Health, bare.Health)
	assert.Equal(t, full.Catalog.Defaults, bare.Catalog.Defaults)
	assert.Equal(t, full.Catalog.Breaker, bare.Catalog.Breaker)
	assert.Equal(t, full.Catalog.Retry, bare.Catalog.Retry)
	assert.Equal(t, full.Catalog.Budget, bare.Catalog.Budget)
}
