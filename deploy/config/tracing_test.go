package config_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/deploy/config"
)

// exporting parses a section tracing, with variables of the environment.
func exporting(t *testing.T, section string, env map[string]string) (*config.File, error) {
	t.Helper()
	file, err := config.Parse("f", []byte("tracing: "+section+`
endpoints: {e: {account: a, url: "http://127.0.0.1:8000/v1", priority: 1, auth: none}}
accounts: {a: {}}
models: {m: {output: 1}}
`))
	if err == nil {
		file.Catalog.LookupEnv = func(name string) (string, bool) {
			value, found := env[name]
			return value, found
		}
	}
	return file, err
}

func TestExporter(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(path, []byte("of-the-file\n"), 0o600))
	file, err := exporting(t, `{endpoint: "https://collector.example.com:4318", protocol: grpc, sample_ratio: 0, service_name: summaries,
  headers: {authorization: {env: AUTH}, x-key: {file: `+path+`}}, content: on}`, map[string]string{"AUTH": "Bearer of-the-environment"})
	require.NoError(t, err)
	require.Empty(t, config.Check(file))
	exporter, err := file.Exporter()
	require.NoError(t, err)
	assert.Equal(t, "https://collector.example.com:4318", exporter.Endpoint)
	assert.Equal(t, "grpc", exporter.Protocol)
	assert.Equal(t, map[string]string{"authorization": "Bearer of-the-environment", "x-key": "of-the-file"}, exporter.Headers)
	assert.Zero(t, *exporter.SampleRatio, "none is not the default, all")
	assert.Equal(t, "summaries", exporter.Service)
	assert.Equal(t, config.On, file.Tracing.Content)

	file, err = exporting(t, "{}", nil)
	require.NoError(t, err)
	exporter, err = file.Exporter()
	require.NoError(t, err)
	assert.Nil(t, exporter.SampleRatio)
	assert.Equal(t, []string{config.Off, config.Off}, []string{file.Tracing.Content, file.Tracing.Upstream})
}

func TestTracingIsChecked(t *testing.T) {
	t.Parallel()
	const secret = "sesame-open"
	for section, want := range map[string]string{
		"{endpoint: collector:4318}":                              "f:1:21: tracing.endpoint: must be the address of a collector, such as http://127.0.0.1:4318",
		"{endpoint: 'ftp://collector'}":                           "tracing.endpoint: must be the address of a collector",
		"{endpoint: 'http://user:" + secret + "@127.0.0.1:4318'}": "tracing.endpoint: must be an address alone; secrets never stand in the file",
		"{endpoint: 'http://127.0.0.1:4318/?key=" + secret + "'}": "tracing.endpoint: must be an address alone",
		"{endpoint: ''}":                             "tracing.endpoint: must be the address of a collector, such as http://127.0.0.1:4318, got nothing",
		"{protocol: http/json}":                      `tracing.protocol: must be http/protobuf or grpc, got "http/json"`,
		"{sample_ratio: 1.1}":                        "tracing.sample_ratio: must be 0 to 1",
		"{sample_ratio: -0.1}":                       "tracing.sample_ratio: must be 0 to 1",
		"{sample_ratio: .nan}":                       "tracing.sample_ratio",
		"{content: yes}":                             "tracing.content",
		"{content: some}":                            "tracing.content: must be on or off",
		"{upstream: some}":                           "tracing.upstream: must be on or off",
		"{headers: {authorization: " + secret + "}}": "tracing.headers.authorization: must be a mapping",
		"{headers: {authorization: {}}}":             "tracing.headers.authorization: needs env",
		"{headers: {a: {env: A, file: /a}}}":         "tracing.headers.a.file: stands beside env; give one of them",
		"{headers: {a: {env: '" + secret + "'}}}":    "tracing.headers.a.env: must be the name of an environment variable",
		"{headers: {'a b': {env: A}}}":               "is no name of a header",
		"{headers: {a: {env: UNSET}}}":               "tracing.headers.a.env: the environment variable UNSET is not set or empty",
		"{headers: {a: {file: /nowhere/key}}}":       "tracing.headers.a.file: /nowhere/key cannot be read: no such file or directory",
		"{headers: {a: {env: TWO_LINES}}}":           "tracing.headers.a.env: it holds a character that no header may have",
		"{end_point: a}":                             "tracing.end_point: unknown field, did you mean endpoint?",
	} {
		t.Run(section, func(t *testing.T) {
			t.Parallel()
			file, err := exporting(t, section, map[string]string{"A": secret, "TWO_LINES": secret + "\nx: y"})
			text := ""
			if err != nil {
				text = err.Error()
			} else {
				for _, problem := range config.Check(file) {
					text += problem.String() + "\n"
				}
			}
			assert.Contains(t, text, want)
			assert.NotContains(t, text, secret)
		})
	}
}
