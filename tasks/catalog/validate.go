package catalog

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/forebay-queue/forebay/tasks"
)

const (
	maxModelName  = 128
	maxTries      = 10
	maxMaxRetries = 1000
	maxRetention  = 366 * 24 * time.Hour
)

var (
	envPattern   = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	fieldPattern = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
)

// Validate fills in the documented defaults and the names, checks the whole catalog and prepares its lookups. It
// joins all it finds, each a *PathError. A catalog must have passed it before anything else is asked of it.
func (c *Catalog) Validate() error {
	c.fillDefaults()
	v := &validation{
		catalog: c,
		models:  slices.Sorted(maps.Keys(c.Models)),
		tiers:   make([]string, 0, len(c.Tiers)),
	}
	for _, tier := range c.Tiers {
		v.tiers = append(v.tiers, tier.Name)
	}
	v.accounts()
	v.endpoints()
	v.prices()
	v.lists()
	v.taskTypes()
	v.numbers()
	v.budget()
	v.replyStreams()
	v.webhooks()
	if len(v.problems) > 0 {
		return errors.Join(v.problems...)
	}
	c.buildIndex()
	return nil
}

// validation collects what is wrong with a catalog.
type validation struct {
	catalog  *Catalog
	models   []string // sorted
	tiers    []string // in order
	problems []error
}

func at(keys ...string) []string { return keys }

func below(path []string, keys ...string) []string { return slices.Concat(path, keys) }

func (v *validation) refuse(path []string, format string, args ...any) {
	v.problems = append(v.problems, &PathError{Path: path, Problem: fmt.Sprintf(format, args...)})
}

// entries calls check for every entry of a map that is there and well named, in the order of the names.
func entries[T any](v *validation, section string, named map[string]*T, check func(path []string, entry *T)) {
	for _, name := range slices.Sorted(maps.Keys(named)) {
		path := at(section, name)
		switch {
		case section == "models" && !validModelName(name):
			v.refuse(path, "the name of a model must be 1 to %d printable characters without spaces", maxModelName)
		case section != "models" && !tasks.ValidName(name):
			v.refuse(path, "a name must be 1 to 64 characters of A-Z a-z 0-9 _ . -")
		case named[name] == nil:
			v.refuse(path, "is empty")
		default:
			check(path, named[name])
		}
	}
}

func validModelName(name string) bool {
	return name != "" && len(name) <= maxModelName &&
		!strings.ContainsFunc(name, func(r rune) bool { return r == ' ' || !unicode.IsPrint(r) })
}

func (v *validation) prices() {
	if len(v.catalog.Models) == 0 {
		v.refuse(at("models"), "there is no model; list each with its price")
	}
	entries(v, "models", v.catalog.Models, func(path []string, model *Model) {
		switch model.Kind {
		case tasks.KindChat:
			v.price(below(path, "output"), model.Output, "output")
			if model.Input != nil {
				v.price(below(path, "input"), model.Input, "input")
			}
			if !fieldPattern.MatchString(model.MaxTokensField) {
				v.refuse(below(path, "max_tokens_field"), "must be the name of a field of the request, such as max_tokens or max_completion_tokens, got %q", model.MaxTokensField)
			}
		case tasks.KindEmbedding:
			v.price(below(path, "input"), model.Input, "input")
			if model.Output != nil && *model.Output != 0 {
				v.refuse(below(path, "output"), "an embedding model has no output tokens; give its price as input")
			}
		default:
			v.refuse(below(path, "kind"), "must be chat or embedding, got %q", model.Kind)
		}
		if model.ContextWindow < 0 {
			v.refuse(below(path, "context_window"), "must not be negative, got %d; 0 is unknown", model.ContextWindow)
		}
	})
}

func (v *validation) price(path []string, price *float64, what string) {
	switch {
	case price == nil:
		v.refuse(path, "the model has no price; give US dollars per million %s tokens, or an explicit 0 if it is free", what)
	case math.IsNaN(*price) || math.IsInf(*price, 0) || *price < 0:
		v.refuse(path, "must be US dollars per million %s tokens, 0 or more, got %g", what, *price)
	}
}

// lists checks what lists models: tiers and profiles.
func (v *validation) lists() {
	seen := map[string]bool{}
	for i, tier := range v.catalog.Tiers {
		path := at("tiers", ListIndex(i))
		switch {
		case !tasks.ValidName(tier.Name):
			v.refuse(below(path, "name"), "must be 1 to 64 characters of A-Z a-z 0-9 _ . -")
		case seen[tier.Name]:
			v.refuse(below(path, "name"), "there are two tiers %q", tier.Name)
		}
		seen[tier.Name] = true
		v.modelList(below(path, "models"), tier.Models)
	}
	for _, name := range slices.Sorted(maps.Keys(v.catalog.Profiles)) {
		path := at("profiles", name)
		if !tasks.ValidName(name) {
			v.refuse(path, "a name must be 1 to 64 characters of A-Z a-z 0-9 _ . -")
			continue
		}
		v.modelList(path, v.catalog.Profiles[name])
	}
	if fallback := v.catalog.FallbackTier; fallback != "" && !seen[fallback] {
		v.refuse(at("fallback_tier"), "%s", unknown("tier", fallback, v.tiers))
	}
}

func (v *validation) modelList(path, models []string) {
	if len(models) == 0 {
		v.refuse(path, "lists no model")
	}
	for i, model := range models {
		path := below(path, ListIndex(i))
		if slices.Contains(models[:i], model) {
			v.refuse(path, "lists %q twice", model)
			continue
		}
		v.servedModel(path, model)
	}
}

// servedModel checks that a model exists and that some endpoint serves it.
func (v *validation) servedModel(path []string, model string) bool {
	if _, named := v.catalog.Models[model]; !named {
		v.refuse(path, "%s", unknown("model", model, v.models))
	}
	if v.catalog.Models[model] == nil { // one that is named and empty is refused where it stands
		return false
	}
	for _, endpoint := range v.catalog.Endpoints {
		if endpoint == nil || endpoint.serves(model) {
			return true
		}
	}
	v.refuse(path, "no endpoint serves %q; list it under the models of an endpoint", model)
	return true
}

func (v *validation) numbers() {
	defaults, breaker, retry := v.catalog.Defaults, v.catalog.Breaker, v.catalog.Retry
	v.duration(at("defaults", "max_age"), defaults.MaxAge, time.Second, maxRetention)
	v.duration(at("defaults", "retention"), defaults.Retention, time.Second, maxRetention)
	v.number(at("defaults", "max_retries"), *defaults.MaxRetries, 0, maxMaxRetries)

	v.breaker(breaker)

	v.duration(at("retry", "backoff_base"), retry.BackoffBase, time.Millisecond, time.Hour)
	v.duration(at("retry", "backoff_max"), retry.BackoffMax, time.Millisecond, 24*time.Hour)
	if retry.BackoffMax < retry.BackoffBase {
		v.refuse(at("retry", "backoff_max"), "must not be shorter than backoff_base, which is %s", FormatDuration(retry.BackoffBase))
	}
	v.duration(at("retry", "try_backoff"), retry.TryBackoff, time.Millisecond, time.Minute)
}

func (v *validation) breaker(breaker Breaker) {
	v.number(at("breaker", "failures"), breaker.Failures, 1, 1000)
	v.duration(at("breaker", "recovery"), breaker.Recovery, 100*time.Millisecond, 24*time.Hour)
	v.duration(at("breaker", "recovery_max"), breaker.RecoveryMax, 100*time.Millisecond, 24*time.Hour)
	if breaker.RecoveryMax < breaker.Recovery {
		v.refuse(at("breaker", "recovery_max"), "must not be shorter than recovery, which is %s", FormatDuration(breaker.Recovery))
	}
	v.duration(at("breaker", "long_recovery"), breaker.LongRecovery, 100*time.Millisecond, 24*time.Hour)
	v.duration(at("breaker", "ramp"), *breaker.Ramp, 0, time.Hour)
	v.rate(at("breaker", "failure_rate"), breaker.FailureRate)
	v.rate(at("breaker", "slow_rate"), breaker.SlowRate)
	v.duration(at("breaker", "slow_call"), breaker.SlowCall, time.Millisecond, time.Hour)
	v.duration(at("breaker", "window"), breaker.Window, time.Second, 24*time.Hour)
	v.number(at("breaker", "min_calls"), breaker.MinCalls, 1, 1_000_000)
	v.duration(at("breaker", "cooldown"), breaker.Cooldown, 100*time.Millisecond, time.Hour)
	v.duration(at("breaker", "not_served"), breaker.NotServed, 100*time.Millisecond, 24*time.Hour)
}

func (v *validation) rate(path []string, rate float64) {
	if !(rate >= 0 && rate <= 1) {
		v.refuse(path, "must be 0 to 1, a share of the calls; 0 is none")
	}
}

func (v *validation) duration(path []string, value, low, high time.Duration) {
	if value < low || value > high {
		v.refuse(path, "must be %s to %s, got %s", FormatDuration(low), FormatDuration(high), FormatDuration(value))
	}
}

func (v *validation) number(path []string, value, low, high int) {
	if value < low || value > high {
		v.refuse(path, "must be %d to %d, got %d", low, high, value)
	}
}

// reserved are the fields of a request that are not a task type's to set.
var reserved = map[string]string{
	"model":    "name the model in the task type's own field model",
	"messages": "write the prompt in the task type's own fields system and prompt",
	"input":    "it is the job's",
	"stream":   "a queued job cannot stream",
}

func (v *validation) taskTypes() {
	entries(v, "task_types", v.catalog.TaskTypes, func(path []string, taskType *TaskType) {
		v.taskTypeModel(path, taskType)
		v.prompt(path, taskType)
		for _, name := range slices.Sorted(maps.Keys(taskType.Defaults)) {
			v.taskTypeDefault(below(path, "defaults", name), taskType, name, taskType.Defaults[name])
		}
		if tier := taskType.FallbackTier; tier != "" && !slices.Contains(v.tiers, tier) {
			v.refuse(below(path, "fallback_tier"), "%s", unknown("tier", tier, v.tiers))
		}
		if taskType.OnBudgetExhausted != "" {
			v.onExhausted(below(path, "on_budget_exhausted"), taskType.OnBudgetExhausted)
		}
		if taskType.MaxRetries != nil {
			v.number(below(path, "max_retries"), *taskType.MaxRetries, 0, maxMaxRetries)
		}
		if taskType.Retention != nil {
			v.duration(below(path, "retention"), *taskType.Retention, time.Second, maxRetention)
		}
	})
}

func (v *validation) taskTypeModel(path []string, taskType *TaskType) {
	if taskType.Model == "" {
		v.refuse(below(path, "model"), "is missing; name the model that does this work first")
		return
	}
	if !v.servedModel(below(path, "model"), taskType.Model) {
		return
	}
	if kind := v.catalog.Models[taskType.Model].Kind; taskType.Kind != kind {
		v.refuse(below(path, "kind"), "must be that of its model %s, which is %s", taskType.Model, kind)
	}
}

func (v *validation) prompt(path []string, taskType *TaskType) {
	if !strings.Contains(taskType.Prompt, inputMark) {
		v.refuse(below(path, "prompt"), "must contain %s, written so, where the job's input belongs", inputMark)
	}
	switch {
	case taskType.System != "" && taskType.Kind == tasks.KindEmbedding:
		v.refuse(below(path, "system"), "an embedding has no system message")
	case strings.Contains(taskType.System, inputMark):
		v.refuse(below(path, "system"), "%s is replaced in prompt only", inputMark)
	}
}

func (v *validation) taskTypeDefault(path []string, taskType *TaskType, name string, value any) {
	if reason, found := reserved[name]; found {
		v.refuse(path, "cannot be a default: %s", reason)
		return
	}
	encoded, err := tasks.Encode(value)
	if err != nil {
		v.refuse(path, "cannot be written as JSON")
		return
	}
	if name != "max_tokens" && name != "max_completion_tokens" {
		return
	}
	if taskType.Kind == tasks.KindEmbedding {
		v.refuse(path, "an embedding has no answer to bound")
	} else if !validBound(encoded) {
		v.refuse(path, "must be a whole number of at least 1: every call has a bound")
	}
}

// validBound reports whether a JSON value can bound the length of an answer.
func validBound(value []byte) bool {
	var bound int64
	return json.Unmarshal(value, &bound) == nil && bound >= 1
}

func (v *validation) accounts() {
	needsKey := map[string]bool{}
	for _, endpoint := range v.catalog.Endpoints {
		if endpoint != nil && endpoint.Auth != AuthNone {
			needsKey[endpoint.Account] = true
		}
	}
	entries(v, "accounts", v.catalog.Accounts, func(path []string, account *Account) {
		v.keySource(path, account, needsKey[account.Name])
		for i, prefix := range account.KeyShape.Prefixes {
			if prefix == "" || strings.ContainsFunc(prefix, func(r rune) bool { return !keyCharacter(r) }) {
				v.refuse(below(path, "key_shape", "prefixes", ListIndex(i)), "must be the beginning of a key, without spaces")
			}
		}
		v.number(below(path, "key_shape", "min_length"), account.KeyShape.MinLength, 0, maxKeyBytes)
		if !(account.CNYPerUSD > 0 && account.CNYPerUSD <= 1000) {
			v.refuse(below(path, "cny_per_usd"), "must be more than 0 and at most 1000, got %g", account.CNYPerUSD)
		}
		v.plan(path, account.Plan)
		v.limits(path, account.Limits, account.ModelLimits)
	})
}

// keySource checks where the key comes from. It never repeats the value: somebody may have put the key itself there.
func (v *validation) keySource(path []string, account *Account, needsKey bool) {
	switch {
	case account.KeyEnv != "" && account.KeyFile != "":
		v.refuse(below(path, "key_file"), "stands beside key_env; give one of them")
	case account.KeyEnv == "" && account.KeyFile == "" && needsKey:
		v.refuse(below(path, "key_env"), "is missing; name the environment variable (key_env) or the file (key_file) that holds the API key, or set auth: none on every endpoint of the account")
	case account.KeyEnv != "" && (!envPattern.MatchString(account.KeyEnv) || placeholder(account.KeyEnv)):
		v.refuse(below(path, "key_env"), "must be the name of an environment variable, such as %s; the key itself never stands in the file", suggestedEnv(account.Name))
	case looksLikeKey(account.KeyFile) || placeholder(account.KeyFile):
		v.refuse(below(path, "key_file"), "must be the path of the file that holds the key; the key itself never stands here")
	}
}

func suggestedEnv(account string) string {
	name := strings.ToUpper(strings.NewReplacer("-", "_", ".", "_").Replace(account))
	return cmp.Or(strings.TrimLeft(name, "0123456789"), "OPENAI") + "_API_KEY"
}
