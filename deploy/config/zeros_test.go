package config

import (
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks/catalog"
)

func TestWrittenZeros(t *testing.T) {
	t.Parallel()
	const text = `redis: {prefix: ""}
worker: {slots: 0, drain_timeout: 0s}
accounts:
  own: {key_env: OWN_KEY, cny_per_usd: 0, key_shape: {min_length: 0}, plan: ''}
endpoints:
  gpu: {account: own, url: "http://127.0.0.1:8000/v1", region: "", priority: 1, auth: "", timeout: 0h0m, tries: 00, latency_threshold: 0s}
models:
  mini: {input: 0, output: 0.0, context_window: 0}
task_types:
  summary: {model: mini, system: "", prompt: "", max_retries: 0}
defaults: {max_retries: 0, retention: -0s}
`
	_, err := Parse("f", []byte(text))
	require.EqualError(t, err, strings.Join([]string{
		`f:1:17: redis.prefix: must be 1 to 64 characters of A-Z a-z 0-9 _ . : -, got nothing; leave it out for the default, forebay:`,
		`f:2:17: worker.slots: must be 1 to 10000, got 0; leave it out for the default, 16`,
		`f:2:35: worker.drain_timeout: must be 1s to 2h, got 0s; leave it out for the default, 2m`,
		`f:4:40: accounts.own.cny_per_usd: must be more than 0 and at most 1000, got 0; leave it out for the default, 7.3`,
		`f:4:77: accounts.own.plan: must be free, basic, pro or enterprise, got nothing; leave it out for none`,
		`f:6:87: endpoints.gpu.auth: must be bearer, api-key or none, got nothing; leave it out for the default, bearer`,
		`f:6:100: endpoints.gpu.timeout: must be 1s to 1h, got 0s; leave it out for the default, 1m`,
		`f:6:113: endpoints.gpu.tries: must be 1 to 10, got 0; leave it out for the default, 1`,
		`f:10:46: task_types.summary.prompt: must be a text that contains {{input}}, got nothing; leave it out for the default, {{input}}`,
		`f:11:39: defaults.retention: must be 1s to 8784h, got 0s; leave it out for the default, 24h`,
	}, "\n"))
}

// Each field of the example, set to the zero of its type: it is refused, with what it may hold, or kept.
func TestNoWrittenZeroIsReplaced(t *testing.T) {
	t.Parallel()
	refused := map[string]bool{}
	for key, place := range parseExample(t).places {
		path := strings.Split(key, pathSeparator)
		before := parseExample(t)
		value, ok := fieldAt(reflect.ValueOf(before).Elem(), path)
		if !ok || !place.scalar || value.Kind() == reflect.String && len(path) > 3 {
			continue
		}
		_, err := Parse("f", withValue(t, path, written(reflect.Zero(value.Type()))))
		if err == nil {
			continue // kept, or there would be an error
		}
		if _, limited := allowed[pattern(path)]; limited {
			require.ErrorContains(t, err, catalog.JoinPath(path)+": must be "+allowed[pattern(path)]+", got ")
			refused[pattern(path)] = true
		}
		assert.NotContains(t, err.Error(), "must be something", "%s is missing in the table", catalog.JoinPath(path))
	}
	refused["endpoints.*.auth"] = true // it is switched off there; see TestWrittenZeros
	assert.Equal(t, slices.Sorted(maps.Keys(allowed)), slices.Sorted(maps.Keys(refused)), "all of the table are fields of the example")
}

// The table says what the checks say.
func TestRangesAreThoseOfTheChecks(t *testing.T) {
	t.Parallel()
	for key := range parseExample(t).places {
		path := strings.Split(key, pathSeparator)
		limits, limited := allowed[pattern(path)]
		value, ok := fieldAt(reflect.ValueOf(parseExample(t)).Elem(), path)
		if !limited || !ok {
			continue
		}
		wrong := "-1"
		switch value.Interface().(type) {
		case time.Duration:
			wrong = "-1s"
		case int, float64:
		default:
			wrong = "'%%'"
		}
		_, err := Parse("f", withValue(t, path, wrong))
		require.ErrorContains(t, err, catalog.JoinPath(path)+": must ")
		if wrong != "'%%'" {
			require.ErrorContains(t, err, catalog.JoinPath(path)+": must be "+limits)
		}
	}
}

// withValue is the example with another value at a place of it.
func withValue(t *testing.T, path []string, value string) []byte {
	t.Helper()
	at := parseExample(t).places[strings.Join(path, pathSeparator)].value
	if value == "nothing" {
		value = `""`
	}
	lines := strings.Split(string(Example()), "\n")
	line := lines[at.line-1]
	old := regexp.MustCompile(`^("[^"]*"|[^,}\n]*)`)
	if strings.HasSuffix(strings.TrimSpace(line), "|-") || strings.HasSuffix(strings.TrimSpace(line), ">-") {
		end := at.line
		for strings.HasPrefix(lines[end], "      ") || lines[end] == "" {
			end++
		}
		lines = slices.Delete(lines, at.line, end)
	}
	lines[at.line-1] = line[:at.column-1] + old.ReplaceAllLiteralString(line[at.column-1:], value)
	changed := []byte(strings.Join(lines, "\n"))
	require.NotEqual(t, Example(), changed, fmt.Sprint(path))
	return changed
}
