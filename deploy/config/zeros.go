package config

import (
	"cmp"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/forebay-queue/forebay/producer/files"
	"github.com/forebay-queue/forebay/tasks/catalog"
)

// allowed is what the fields may hold of which zero means their default. A zero that is written out is out of it: to
// put the default in its place would pass over what the file says. A "*" stands for any name.
var allowed = map[string]string{
	"redis.url":                 RedisURLForms,
	"redis.prefix":              "1 to 64 characters of A-Z a-z 0-9 _ . : -",
	"redis.wait_timeout":        "10ms to 1m",
	"redis.memory_limit":        "more than 0 and at most 1",
	"queues.shards":             shardsForms,
	"worker.slots":              "1 to 10000",
	"worker.drain_timeout":      "1s to 2h",
	"http.listen":               "an address and port such as 127.0.0.1:8080, or off",
	"ops.listen":                "an address and port such as 127.0.0.1:9464, or off",
	"inbox.enabled":             "on or off",
	"inbox.max_queued":          "1 to 100000000",
	"inbox.max_rejected":        "1 to 10000000",
	"files.url":                 files.URLForms,
	"files.retention":           "1h to 8784h",
	"files.max_bytes":           "1 to 10737418240",
	"batches.enabled":           "on or off",
	"batches.at_once":           "1 to 64",
	"tracing.content":           "on or off",
	"tracing.upstream":          "on or off",
	"log.level":                 "debug, info, warn or error",
	"log.format":                "auto, console or json",
	"alerts.enabled":            "on or off",
	"alerts.resolve_after":      "1s to 24h",
	"alerts.group":              "1s to 10m",
	"alerts.give_up_after":      "1m to 168h",
	"health.probes":             "on or off",
	"health.interval":           "1s to 1h",
	"accounts.*.cny_per_usd":    "more than 0 and at most 1000",
	"endpoints.*.timeout":       "1s to 1h",
	"endpoints.*.tries":         "1 to 10",
	"endpoints.*.auth":          "bearer, api-key or none",
	"models.*.kind":             "chat or embedding",
	"models.*.max_tokens_field": "the name of a field of the request",
	"task_types.*.kind":         "chat or embedding",
	"task_types.*.prompt":       "a text that contains {{input}}",
	"defaults.max_age":          "1s to 8784h",
	"defaults.retention":        "1s to 8784h",
	"breaker.failures":          "1 to 1000",
	"breaker.recovery":          "100ms to 24h",
	"breaker.recovery_max":      "100ms to 24h",
	"breaker.long_recovery":     "100ms to 24h",
	"breaker.slow_call":         "1ms to 1h",
	"breaker.window":            "1s to 24h",
	"breaker.min_calls":         "1 to 1000000",
	"breaker.cooldown":          "100ms to 1h",
	"breaker.not_served":        "100ms to 24h",
	"budget.daily_usd":          "more than 0 and at most 1000000 US dollars, or off",
	"budget.time_zone":          "a name of the IANA database, such as Europe/Berlin",
	"budget.on_exhausted":       "defer, degrade or fail",
	"webhooks.timeout":          "1s to 2m",
	"webhooks.slots":            "1 to 1000",
	"webhooks.per_target":       "1 to 1000",
	"webhooks.per_tenant":       "1 to 1000",
	"webhooks.inline_bytes":     "1024 to 4194304",
	"webhooks.link_expires":     "1m to 720h",
	"reply_streams.max_len":     "1 to 10000000",
	"reply_streams.max_age":     "1m to 8784h",
	"retry.backoff_base":        "1ms to 1h",
	"retry.backoff_max":         "1ms to 24h",
	"retry.try_backoff":         "1ms to 1m",
}

// unset is what the fields may hold that have no default, and of which one that is written out as nothing is out of it.
var unset = map[string]string{
	"accounts.*.plan":      "free, basic, pro or enterprise",
	"tracing.endpoint":     "the address of a collector, such as http://127.0.0.1:4318",
	"tracing.protocol":     "http/protobuf or grpc",
	"tracing.service_name": "1 to 64 characters",
}

// zeros finds the paths of what is written out as 0, 0s or "". It is asked before the defaults are filled in.
func (f *File) zeros() [][]string {
	var found [][]string
	for key, at := range f.places {
		if !at.scalar {
			continue
		}
		path := strings.Split(key, pathSeparator)
		if value, ok := fieldAt(reflect.ValueOf(f).Elem(), path); ok && value.IsZero() {
			found = append(found, path)
		}
	}
	return found
}

// replaced names the zeros in whose place a default has been put. Where 0 is a value, none is.
func (f *File) replaced(zeros [][]string) []Problem {
	var problems []Problem
	for _, path := range zeros {
		now, ok := fieldAt(reflect.ValueOf(f).Elem(), path)
		switch may, optional := unset[pattern(path)]; {
		case ok && optional:
			problems = append(problems, f.problem(path, fmt.Sprintf("must be %s, got nothing; leave it out for none", may)))
		case ok && !now.IsZero():
			problems = append(problems, f.problem(path, fmt.Sprintf("must be %s, got %s; leave it out for the default, %s",
				cmp.Or(allowed[pattern(path)], "something"), written(reflect.Zero(now.Type())), written(now))))
		}
	}
	return problems
}

// fieldAt follows a path to a text, a number or a duration. What the file says under other types means what it says.
func fieldAt(value reflect.Value, path []string) (reflect.Value, bool) {
	for _, key := range path {
		if value.Kind() == reflect.Pointer {
			value = value.Elem()
		}
		switch value.Kind() {
		case reflect.Struct:
			value = fieldNamed(value, key)
		case reflect.Map:
			value = value.MapIndex(reflect.ValueOf(key))
		case reflect.Slice:
			at, err := strconv.Atoi(strings.Trim(key, "[]"))
			if err != nil || at >= value.Len() {
				return reflect.Value{}, false
			}
			value = value.Index(at)
		default:
			return reflect.Value{}, false
		}
	}
	if value.Kind() == reflect.Pointer {
		value = value.Elem()
	}
	switch value.Kind() { //nolint:exhaustive // the kinds that a scalar of the configuration has
	case reflect.String, reflect.Int, reflect.Int64, reflect.Float64:
		return value, true
	}
	return reflect.Value{}, false
}

// fieldNamed is a struct's field by its name in YAML, also one of an inlined struct.
func fieldNamed(value reflect.Value, name string) reflect.Value {
	for field, at := range value.Fields() {
		tag, options, _ := strings.Cut(field.Tag.Get("yaml"), ",")
		switch {
		case !field.IsExported():
		case options == "inline":
			if inner := fieldNamed(at, name); inner.IsValid() {
				return inner
			}
		case tag == name:
			return at
		}
	}
	return reflect.Value{}
}

// pattern writes a path with "*" for the names in the sections of which each entry is named by its user.
func pattern(path []string) string {
	if len(path) == 3 {
		path = []string{path[0], "*", path[2]}
	}
	return catalog.JoinPath(path)
}

// written is a value as a file says it.
func written(value reflect.Value) string {
	switch held := value.Interface().(type) {
	case time.Duration:
		return catalog.FormatDuration(held)
	case int, float64, catalog.DailyLimit:
		return fmt.Sprint(held)
	}
	if value.Len() == 0 {
		return "nothing"
	}
	return value.String()
}
