package config_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/deploy/config"
)

const good = `accounts:
  relay:
    key_env: RELAY_API_KEY
endpoints:
  relay:
    account: relay
    url: https://relay.example.com/v1
    priority: 1
    timeout: 30s
models:
  mini:
    output: 2.5
task_types:
  summary:
    model: mini
    defaults:
      stop: [a, null, {b: 1.50}]
`

func TestParseFillsDefaults(t *testing.T) {
	t.Parallel()
	file, err := config.Parse("forebay.yaml", []byte("\uFEFF"+good))
	require.NoError(t, err)
	assert.Equal(t, config.Redis{URL: "redis://127.0.0.1:6379/0", Prefix: "forebay:", WaitTimeout: time.Second, MemoryLimit: 0.7}, file.Redis)
	assert.Equal(t, 16, file.Worker.Slots)
	assert.Equal(t, "2m0s", file.Worker.DrainTimeout.String())
	assert.Equal(t, "127.0.0.1:8080", file.HTTP.Listen)
	assert.Equal(t, config.Log{Level: "info", Format: "auto"}, file.Log)
	assert.Equal(t, "relay", file.Catalog.Endpoints["relay"].Name, "the catalog is validated")
	assert.Len(t, file.Catalog.EndpointsFor("mini"), 1)
}

// Each row changes one thing of the good file. The error is the whole text.
func TestParseRefuses(t *testing.T) {
	t.Parallel()
	rows := map[string]struct{ old, new, want string }{
		"half of a certificate": {
			"accounts:\n", "http:\n  tls:\n    cert_file: a.crt\naccounts:\n",
			"forebay.yaml:3:16: http.tls.cert_file: needs key_file beside it",
		},
		"key without a certificate": {
			"accounts:\n", "http:\n  tls:\n    key_file: a.key\naccounts:\n",
			"forebay.yaml:3:15: http.tls.key_file: needs cert_file beside it",
		},
		"tenant's limit": {
			"accounts:\n", "tenants:\n  acme:\n    jobs_per_minute: -1\naccounts:\n",
			"forebay.yaml:3:22: tenants.acme.jobs_per_minute: must be 0 to 1000000, got -1; 0 is no limit",
		},
		"tenant's name": {
			"accounts:\n", "tenants:\n  \"a b\":\n    jobs_per_minute: 1\naccounts:\n",
			`forebay.yaml:2:3: tenants.a b: a name must be 1 to 64 characters of A-Z a-z 0-9 _ . -`,
		},
		"unknown field": {
			"    timeout: 30s\n", "    timout: 30s\n",
			"forebay.yaml:9:5: endpoints.relay.timout: unknown field, did you mean timeout?",
		},
		"unknown field, not near": {
			"    output: 2.5\n", "    output: 2.5\n    colour: red\n",
			"forebay.yaml:13:5: models.mini.colour: unknown field; there are kind, input, output, max_tokens_field, context_window",
		},
		"unknown section": {
			"models:\n", "model:\n",
			"forebay.yaml:10:1: model: unknown field, did you mean models?",
		},
		"several at once, in the order of lines": {
			"    priority: 1\n    timeout: 30s\n", "    priority: first\n    timeout: 30\n    tris: 3\n",
			"forebay.yaml:8:15: endpoints.relay.priority: must be a whole number, not a text\n" +
				"forebay.yaml:9:14: endpoints.relay.timeout: must be a duration such as 30s, 5m or 1h30m, not a whole number\n" +
				"forebay.yaml:10:5: endpoints.relay.tris: unknown field, did you mean tries?",
		},
		"number in quotes": {
			"priority: 1", `priority: "1"`,
			"forebay.yaml:8:15: endpoints.relay.priority: must be a whole number, not a text",
		},
		"fraction": {
			"priority: 1", "priority: 1.5",
			"forebay.yaml:8:15: endpoints.relay.priority: must be a whole number, not a fraction",
		},
		"too large": {
			"priority: 1", "priority: 9223372036854775808",
			"forebay.yaml:8:15: endpoints.relay.priority: is too large a number",
		},
		"too large for any number": {
			"priority: 1", "priority: 99999999999999999999999999",
			"forebay.yaml:8:15: endpoints.relay.priority: is too large a number",
		},
		"too large, in quotes": {
			"priority: 1", "priority: '99999999999999999999999999'",
			"forebay.yaml:8:15: endpoints.relay.priority: must be a whole number, not a text",
		},
		"no models": {
			"timeout: 30s", "models: []",
			"forebay.yaml:9:13: endpoints.relay.models: lists no model; leave it out for the default, all models",
		},
		"UTF-16": {
			good, "\xff\xfea\x00:\x00 \x001\x00",
			"forebay.yaml:1:1: is not text in UTF-8; save it as UTF-8 (iconv -f UTF-16 -t UTF-8 converts what Windows calls Unicode)",
		},
		"UTF-16 without a mark": {
			good, "a\x00:\x00 \x001\x00",
			"forebay.yaml:1:1: is not text in UTF-8; save it as UTF-8 (iconv -f UTF-16 -t UTF-8 converts what Windows calls Unicode)",
		},
		"text that is a number": {
			"account: relay", "account: 5",
			"forebay.yaml:6:14: endpoints.relay.account: must be a text in quotes, not a whole number",
		},
		"duration": {
			"timeout: 30s", "timeout: 30 seconds",
			"forebay.yaml:9:14: endpoints.relay.timeout: must be a duration such as 30s, 5m or 1h30m, got \"30 seconds\"",
		},
		"true or false": {
			"timeout: 30s", "simulated: yes",
			"forebay.yaml:9:16: endpoints.relay.simulated: must be true or false, not a text",
		},
		"infinite price": {
			"output: 2.5", "output: .inf",
			"forebay.yaml:12:13: models.mini.output: must be a number, not infinity",
		},
		"no value": {
			"timeout: 30s", "timeout:",
			"forebay.yaml:9:13: endpoints.relay.timeout: must be a duration such as 30s, 5m or 1h30m, not nothing",
		},
		"an entry without a value": {
			"  mini:\n    output: 2.5\n", "  mini:\n",
			"forebay.yaml:11:8: models.mini: has no value; write one or remove the line",
		},
		"list where a mapping belongs": {
			"  mini:\n    output: 2.5\n", "  - mini\n",
			"forebay.yaml:11:3: models: must be a mapping of keys and values, not a list",
		},
		"mapping where a list belongs": {
			"task_types:", "tiers:\n  low: [mini]\ntask_types:",
			"forebay.yaml:14:3: tiers: must be a list, not a mapping",
		},
		"served model of another type": {
			"timeout: 30s", "models: [mini, 5]",
			"forebay.yaml:9:20: endpoints.relay.models[1]: must be a text in quotes, not a whole number",
		},
		"served model that is unknown": {
			"timeout: 30s", "models: [mini, minni]",
			`forebay.yaml:9:20: endpoints.relay.models.minni: no model "minni", did you mean "mini"?`,
		},
		"given twice": {
			"timeout: 30s", "timeout: 30s\n    timeout: 40s",
			"forebay.yaml:10:5: endpoints.relay.timeout: is given twice, first in line 9",
		},
		"key that is no text": {
			"  mini:", "  5:",
			"forebay.yaml:11:3: models: a key must be a text; put it in quotes",
		},
		"alias": {
			"    model: mini", "    model: &m mini\n    system: *m",
			"forebay.yaml:15:12: task_types.summary.model: anchors and aliases are not supported; write the value out\n" +
				"forebay.yaml:16:13: task_types.summary.system: anchors and aliases are not supported; write the value out",
		},
		"merge": {
			"    model: mini", "    <<: {model: mini}",
			"forebay.yaml:15:5: task_types.summary: merge keys are not supported; write the values out",
		},
		"tag": {
			"model: mini", "model: !!str mini",
			"forebay.yaml:15:12: task_types.summary.model: tags are not supported; write the value without it",
		},
		"not JSON": {
			"{b: 1.50}", "{b: .nan}",
			"forebay.yaml:17:27: task_types.summary.defaults.stop[2].b: must be something that JSON can say, not what is no number",
		},
		"syntax: quotes": {
			"url: https://relay.example.com/v1", `url: "https://relay.example.com/v1`,
			"forebay.yaml:7:10: not YAML: could not find end character of double-quoted text",
		},
		"syntax: tab": {
			"    timeout: 30s", "\ttimeout: 30s",
			`forebay.yaml:9:1: not YAML: found character '\t' that cannot start any token`,
		},
		"syntax: indentation": {
			"    timeout: 30s", "   timeout: 30s",
			"forebay.yaml:9:4: not YAML: value is not allowed in this context",
		},
		"two documents": {
			"task_types:", "---\ntask_types:",
			"forebay.yaml:14:1: a second document begins here; the file holds one",
		},
		"not a mapping": {
			good, "- a\n- b\n",
			"forebay.yaml:1:1: must be a mapping of keys and values, not a list",
		},
		"empty": {
			good, "# nothing\n",
			"forebay.yaml:1:1: endpoints: there is no endpoint; name at least one address that serves models\n" +
				"forebay.yaml:1:1: models: there is no model; list each with its price",
		},
		"validation: at the value": {
			"timeout: 30s", "timeout: 100ms",
			"forebay.yaml:9:14: endpoints.relay.timeout: must be 1s to 1h, got 100ms",
		},
		"a timeout longer than the drain's default": {
			"timeout: 30s", "timeout: 5m",
			"forebay.yaml:9:14: endpoints.relay.timeout: must be shorter than worker.drain_timeout, or a shutdown cuts off calls that are paid for; set that to more than 5m (it defaults to 2m)",
		},
		"validation: at what it is missing from": {
			"    output: 2.5", "    kind: chat",
			"forebay.yaml:11:3: models.mini.output: the model has no price; give US dollars per million output tokens, or an explicit 0 if it is free",
		},
		"validation: in a list": {
			"task_types:", "tiers:\n  - name: low\n    models: [mini, mimi]\ntask_types:",
			`forebay.yaml:15:20: tiers[0].models[1]: no model "mimi", did you mean "mini"?`,
		},
		"drain": {
			"accounts:", "worker: {drain_timeout: 30s, slots: 100000}\naccounts:",
			"forebay.yaml:1:25: worker.drain_timeout: must be longer than the longest timeout of an endpoint, or a shutdown cuts off calls that are paid for; that of relay is 30s\n" +
				"forebay.yaml:1:37: worker.slots: must be 1 to 10000, got 100000",
		},
		"password in the URL": {
			"accounts:", "redis:\n  url: redis://:s3cr3t@redis.internal:6379/0\naccounts:",
			"forebay.yaml:2:8: redis.url: holds a password, and secrets never stand in the file: name its environment variable in password_env, or its file in password_file",
		},
		"URL of Redis": {
			"accounts:", "redis:\n  url: redis.internal:6379\naccounts:",
			"forebay.yaml:2:8: redis.url: must be " + config.RedisURLForms,
		},
		"two of a kind": {
			"accounts:", "redis: {url: redis://r:6379, url_env: REDIS_URL, password_env: P, password_file: /p, prefix: 'a{b}'}\naccounts:",
			"forebay.yaml:1:39: redis.url_env: stands beside url; give one of them\n" +
				"forebay.yaml:1:82: redis.password_file: stands beside password_env; give one of them\n" +
				"forebay.yaml:1:94: redis.prefix: must be 1 to 64 characters of A-Z a-z 0-9 _ . : -, got \"a{b}\"",
		},
		"a switch in YAML's words": {
			"accounts:", "health: {probes: false}\naccounts:",
			"forebay.yaml:1:18: health.probes: must be on or off, not true or false",
		},
		"listen": {
			"accounts:", "http: {listen: '8080'}\nlog: {level: loud, format: xml}\naccounts:",
			"forebay.yaml:1:16: http.listen: must be an address and port such as 127.0.0.1:8080, or off, got \"8080\"\n" +
				"forebay.yaml:2:14: log.level: must be debug, info, warn or error, got \"loud\"\n" +
				"forebay.yaml:2:28: log.format: must be auto, console or json, got \"xml\"",
		},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Contains(t, good, row.old)
			file, err := config.Parse("forebay.yaml", []byte(strings.Replace(good, row.old, row.new, 1)))
			require.EqualError(t, err, row.want)
			assert.Nil(t, file)
			var parse *config.ParseError
			require.ErrorAs(t, err, &parse)
			assert.NotContains(t, err.Error(), "s3cr3t")
		})
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "forebay.yaml")
	_, err := config.Load(path)
	require.EqualError(t, err, path+" cannot be read: no such file or directory; name another file with --config, or write one with `forebay config init`")
	require.ErrorIs(t, err, os.ErrNotExist)

	require.NoError(t, os.WriteFile(path, []byte(good), 0o600))
	file, err := config.Load(path)
	require.NoError(t, err)
	assert.Contains(t, file.Catalog.Models, "mini")
}

func TestHugeFile(t *testing.T) {
	t.Parallel()
	_, err := config.Parse("f", []byte(strings.Repeat("#", 1<<20+1)))
	require.EqualError(t, err, "f:1:1: has 1048577 bytes; at most 1048576 are read")
}

var problemLine = regexp.MustCompile(`^f:[1-9][0-9]*:[1-9][0-9]*: [^\n]+$`)

// Whatever the file holds: no panic, and every problem has its line and column and no word of Go.
func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	for _, seed := range []string{"", "a", "- a", "models: {m: {output: 0}}", "a: &x [*x]", "<<: {a: 1}", "? [a]\n: b", "a: |\n  b\n c", "\x00: 1", "models:\n  m: null", "%YAML 1.2\n---\na: 1", "redis: {url: !!binary x}", "retry: {backoff_base: -1s}", "\"\\u0000\": 1"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 4<<10 {
			t.Skip("the parser is quadratic in the depth of nesting")
		}
		_, err := config.Parse("f", data)
		if err == nil {
			return
		}
		for line := range strings.SplitSeq(err.Error(), "\n") {
			require.Regexp(t, problemLine, line)
			require.NotContains(t, line, "unmarshal")
		}
	})
}
