package check_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

// byCRD checks a manifest by the schema of its custom resource definition. Unknown fields, which Kubernetes would drop
// without a word, are errors.
func byCRD(t *testing.T, file string, manifest []byte) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("testdata", file))
	require.NoError(t, err)
	var crd struct {
		Spec struct {
			Versions []struct {
				Schema struct {
					OpenAPIV3Schema map[string]any `json:"openAPIV3Schema"`
				} `json:"schema"`
			} `json:"versions"`
		} `json:"spec"`
	}
	require.NoError(t, yaml.Unmarshal(content, &crd))
	require.NotEmpty(t, crd.Spec.Versions)
	schema := crd.Spec.Versions[0].Schema.OpenAPIV3Schema
	closed(schema)
	schema["properties"].(map[string]any)["metadata"] = map[string]any{"type": "object"}
	validate(t, file, schema, manifest)
}

// closed has a schema refuse fields that it does not name.
func closed(schema any) {
	switch schema := schema.(type) {
	case map[string]any:
		_, named := schema["properties"].(map[string]any)
		_, open := schema["additionalProperties"]
		if named && !open && schema["x-kubernetes-preserve-unknown-fields"] != true {
			schema["additionalProperties"] = false
		}
		for _, part := range schema {
			closed(part)
		}
	case []any:
		for _, part := range schema {
			closed(part)
		}
	}
}

// validate checks a YAML document by a JSON Schema.
func validate(t *testing.T, name string, schema map[string]any, document []byte) {
	t.Helper()
	compiler := jsonschema.NewCompiler()
	plain, err := json.Marshal(schema)
	require.NoError(t, err)
	parsed, err := jsonschema.UnmarshalJSON(strings.NewReader(string(plain)))
	require.NoError(t, err)
	require.NoError(t, compiler.AddResource("file:///"+name, parsed))
	compiled, err := compiler.Compile("file:///" + name)
	require.NoError(t, err)
	asJSON, err := yaml.YAMLToJSONStrict(document)
	require.NoError(t, err)
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(string(asJSON)))
	require.NoError(t, err)
	require.NoError(t, compiled.Validate(value), "%s", document)
}

func podMonitor(t *testing.T, manifests map[string][]byte, name string) {
	monitor := decode[monitoringv1.PodMonitor](t, manifests, name)
	require.Len(t, monitor.Spec.PodMetricsEndpoints, 1)
}

// scaledObject is what is looked at of KEDA's.
type scaledObject struct {
	Spec struct {
		Advanced struct {
			ScalingModifiers struct{ Formula, Target string }
		}
		Triggers []struct {
			Type, Name string
			Metadata   map[string]string
		}
	}
}

// TestKEDACountsWhatWaits holds the lists that KEDA looks at against those that asynq has: one for single jobs and one for each
// tenant's batches, of each priority and shard. deploy/config's tests hold them against the program.
func TestKEDACountsWhatWaits(t *testing.T) {
	t.Parallel()
	// What github.com/kedacore/keda v2.21.0, pkg/scalers/redis_scaler.go, takes from a trigger's metadata.
	known := []string{"address", "addresses", "username", "sentinelMaster", "listName", "listLength", "databaseIndex", "enableTLS"}
	read := func(deployment string) (lists []string) {
		manifests := rendered(t, deployments()[deployment])
		var object scaledObject
		require.NoError(t, yaml.Unmarshal(manifests["ScaledObject/test-forebay-worker"], &object))
		var names []string
		for _, trigger := range object.Spec.Triggers {
			for key := range trigger.Metadata {
				assert.Contains(t, known, key)
			}
			names = append(names, trigger.Name)
			lists = append(lists, trigger.Metadata["listName"])
		}
		assert.Equal(t, strings.Join(names, " + "), object.Spec.Advanced.ScalingModifiers.Formula)
		assert.Equal(t, "100", object.Spec.Advanced.ScalingModifiers.Target)
		slices.Sort(lists)
		return lists
	}
	assert.Equal(t, []string{
		"asynq:{bulk}:g:default", "asynq:{bulk}:pending", "asynq:{critical}:g:default", "asynq:{critical}:pending",
		"asynq:{default}:g:default", "asynq:{default}:pending",
	}, read("keda"))
	sharded := read("keda, Cluster with shards")
	assert.Len(t, sharded, 18)
	for _, list := range []string{"asynq:{mine:bulk}:pending", "asynq:{mine:bulk:0}:pending", "asynq:{mine:bulk:1}:g:default"} {
		assert.Contains(t, sharded, list)
	}
}
