package httpapi_test

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// document is what the tests look at of an OpenAPI document.
type document struct {
	OpenAPI    string
	Paths      map[string]map[string]operation
	Components struct {
		Schemas         map[string]schema
		SecuritySchemes map[string]struct{ Scheme string }
	}
}

type operation struct {
	OperationID string
	Summary     string
	Parameters  []struct{ Name, In, Description string }
	RequestBody *struct{ Content map[string]json.RawMessage }
	Responses   map[string]struct {
		Description string
		Content     map[string]json.RawMessage
	}
}

type schema struct {
	Ref, Description string
	Properties       map[string]map[string]any
}

func readDocument(t *testing.T, b bundle) (document, string) {
	t.Helper()
	text := b.ask("GET", "/openapi.json", "").Body.String()
	var read document
	require.NoError(t, json.Unmarshal([]byte(text), &read))
	return read, text
}

// Every route of the server is in the document, and all that is in it is served: an address that is asked answers
// something else than "not_found", and no other method than those that are described.
func TestTheDocumentIsTheServer(t *testing.T) {
	t.Parallel()
	b := embedded(t)
	read, _ := readDocument(t, b)
	require.Equal(t, "3.1.0", read.OpenAPI)
	require.Equal(t, "bearer", read.Components.SecuritySchemes["key"].Scheme, "the page asks for a key")
	fill := strings.NewReplacer("{id}", "absent", "{queue}", "bulk", "{task_type}", "fast_summary", "{name}", "absent")
	ids := map[string]bool{}
	for path, operations := range read.Paths {
		var described []string
		for method, o := range operations {
			described = append(described, strings.ToUpper(method))
			require.NotEmpty(t, o.Summary, path)
			require.False(t, ids[o.OperationID], "%s is there twice", o.OperationID)
			ids[o.OperationID] = true
			asked := strings.ToUpper(method)
			if o.OperationID == "streamLive" {
				asked = "HEAD" // its answer to GET does not end
			}
			answer := b.ask(asked, fill.Replace(path), "")
			require.NotContains(t, answer.Body.String(), `"not_found"`, path)
			require.NotEqual(t, 405, answer.Code, path)
			for _, name := range regexp.MustCompile(`\{(\w+)\}`).FindAllStringSubmatch(path, -1) {
				require.True(t, slices.ContainsFunc(o.Parameters, func(p struct{ Name, In, Description string }) bool {
					return p.Name == name[1] && p.In == "path" && p.Description != ""
				}), path)
			}
			for status, response := range o.Responses {
				require.NotEmpty(t, response.Description, path)
				if status >= "400" {
					require.Contains(t, string(response.Content["application/json"]), "ErrorEnvelope", path)
				}
			}
		}
		allowed := b.ask("TRACE", fill.Replace(path), "").Header().Values("Allow")
		allowed = slices.DeleteFunc(allowed, func(method string) bool { return method == "HEAD" })
		slices.Sort(described)
		slices.Sort(allowed)
		require.Equal(t, described, allowed, path)
	}
	for _, path := range []string{
		"/v1/jobs", "/v1/jobs/{id}", "/v1/jobs/{id}/events", "/v1/jobs/{id}/retry", "/v1/jobs/{id}/discard", "/v1/webhooks", "/v1/webhooks/{id}/redeliver", "/v1/webhook-targets/test", "/v1/queues",
		"/v1/queues/{queue}/pause", "/v1/queues/{queue}/resume", "/v1/task-types/{task_type}/pause", "/v1/status", "/healthz", "/readyz",
	} {
		require.Contains(t, read.Paths, path)
	}
	require.Contains(t, read.Paths["/v1/jobs"]["post"].RequestBody.Content, "application/json")
}

// Every field of every schema says what it is, every reference leads somewhere, and the job has the fields that
// docs/jobs.md names.
func TestTheDocumentsSchemas(t *testing.T) {
	t.Parallel()
	read, text := readDocument(t, embedded(t))
	for _, ref := range regexp.MustCompile(`"#/components/schemas/(\w+)"`).FindAllStringSubmatch(text, -1) {
		require.Contains(t, read.Components.Schemas, ref[1])
	}
	for name, s := range read.Components.Schemas {
		for field, property := range s.Properties {
			if name == "ErrorEnvelope" {
				continue
			}
			require.NotEmpty(t, property["description"], "%s.%s", name, field)
		}
	}
	for name, fields := range map[string][]string{
		"Job": {
			"v", "id", "task_type", "model", "profile", "tier", "input", "request", "kind", "priority", "run_at",
			"deadline", "max_retries", "max_cost_usd", "retention", "tenant", "metadata",
		},
		"Result": {"id", "status", "waiting", "model", "text", "response", "usage", "cost_usd", "attempts", "error", "run", "retries"},
	} {
		for _, field := range fields {
			require.Contains(t, read.Components.Schemas[name].Properties, field, name)
		}
	}
	require.NotContains(t, read.Components.Schemas["Job"].Properties, "created_at")
	for _, wrong := range []string{`"nullable"`, `"$schema":"http`, "problem+json"} {
		require.NotContains(t, text, wrong)
	}
}

// The page asks nobody but its own server, has no script inside, and is told so by its policy.
func TestThePage(t *testing.T) {
	t.Parallel()
	b := embedded(t)
	page := b.ask("GET", "/docs/", "")
	require.NotContains(t, page.Header().Get("Content-Security-Policy"), "script-src 'unsafe")
	require.Contains(t, page.Header().Get("Content-Security-Policy"), "script-src 'self';")
	for _, tag := range regexp.MustCompile(`(?s)<script[^>]*>(.*?)</script>`).FindAllStringSubmatch(page.Body.String(), -1) {
		require.Empty(t, tag[1])
	}
	for _, asset := range regexp.MustCompile(`(?:src|href)="([^"]+)"`).FindAllStringSubmatch(page.Body.String(), -1) {
		require.NotContains(t, asset[1], "//")
		path := "/docs/" + asset[1]
		if strings.HasPrefix(asset[1], "/") {
			path = asset[1]
		}
		answer := b.ask("GET", path, "", "Accept-Encoding", "gzip")
		require.Equal(t, 200, answer.Code, path)
		require.NotZero(t, answer.Body.Len(), path)
	}
}
