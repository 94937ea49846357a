// Package openaitest checks, in tests, that what is answered are OpenAI's objects.
package openaitest

import (
	"bytes"
	"os"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// schemasEnv is where the tests are told where the schemas lie: one JSON file whose $defs have OpenAI's objects by the
// names of its specification ("Batch", "OpenAIFile", "CreateChatCompletionResponse").
const schemasEnv = "FOREBAY_OPENAI_SCHEMAS"

// Schemas are the JSON Schemas of OpenAI's objects.
type Schemas struct {
	compiler *jsonschema.Compiler
}

// Open reads the schemas. Where FOREBAY_OPENAI_SCHEMAS names none, the test is skipped and says so.
func Open(t testing.TB) *Schemas {
	t.Helper()
	path := os.Getenv(schemasEnv)
	if path == "" {
		t.Skip("SKIPPED: " + schemasEnv + " is not set; let it name openai-schemas.json to check the answers against OpenAI's schemas")
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatalf("%s: %v", schemasEnv, err)
	}
	defer func() { _ = file.Close() }()
	document, err := jsonschema.UnmarshalJSON(file)
	if err != nil {
		t.Fatalf("%s: %s is no JSON: %v", schemasEnv, path, err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("openai.json", document); err != nil {
		t.Fatalf("%s: %s: %v", schemasEnv, path, err)
	}
	return &Schemas{compiler}
}

// Check fails the test where a JSON text is not the object of this name.
func (s *Schemas) Check(t testing.TB, name string, object []byte) {
	t.Helper()
	schema, err := s.compiler.Compile("openai.json#/$defs/" + name)
	if err != nil {
		t.Fatalf("the schema of %s: %v", name, err)
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(object))
	if err != nil {
		t.Fatalf("%s: not JSON: %v: %.500s", name, err, object)
	}
	if err := schema.Validate(value); err != nil {
		t.Fatalf("%s: %v\n%.2000s", name, err, object)
	}
}
