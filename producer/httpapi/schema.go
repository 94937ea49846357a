package httpapi

import (
	"encoding/json"
	"io"
	"reflect"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/forebay-queue/forebay/tasks"
)

// format writes answers as every way in does. A client that has left needs none.
var format = huma.Format{
	Marshal: func(w io.Writer, value any) error {
		encoded, err := tasks.Encode(value)
		if err == nil {
			_, _ = w.Write(append(encoded, '\n'))
		}
		return err
	},
	Unmarshal: json.Unmarshal,
}

// newRegistry makes the schemas of the contract's types. Package tasks imports nothing, so that what its types look
// like in JSON is told here where Go's types do not.
func newRegistry() huma.Registry {
	registry := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	registry.RegisterTypeAlias(reflect.TypeFor[tasks.Models](), reflect.TypeFor[modelsSchema]())
	registry.RegisterTypeAlias(reflect.TypeFor[tasks.Duration](), reflect.TypeFor[durationSchema]())
	registry.RegisterTypeAlias(reflect.TypeFor[json.RawMessage](), reflect.TypeFor[anySchema]())
	registry.RegisterTypeAlias(reflect.TypeFor[tasks.Status](), reflect.TypeFor[statusSchema]())
	registry.RegisterTypeAlias(reflect.TypeFor[tasks.Kind](), reflect.TypeFor[kindSchema]())
	registry.RegisterTypeAlias(reflect.TypeFor[tasks.Priority](), reflect.TypeFor[prioritySchema]())
	registry.RegisterTypeAlias(reflect.TypeFor[tasks.Class](), reflect.TypeFor[classSchema]())
	return registry
}

type (
	modelsSchema   struct{}
	durationSchema struct{}
	anySchema      struct{}
	statusSchema   struct{}
	kindSchema     struct{}
	prioritySchema struct{}
	classSchema    struct{}
)

// Schema implements huma.SchemaProvider.
func (modelsSchema) Schema(huma.Registry) *huma.Schema {
	name := &huma.Schema{Type: huma.TypeString}
	return &huma.Schema{OneOf: []*huma.Schema{name, {Type: huma.TypeArray, Items: name, MinItems: new(1), MaxItems: new(16), UniqueItems: true}}}
}

// Schema implements huma.SchemaProvider.
func (durationSchema) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Examples: []any{"48h"}}
}

// Schema implements huma.SchemaProvider.
func (anySchema) Schema(huma.Registry) *huma.Schema { return &huma.Schema{} }

// Schema implements huma.SchemaProvider.
func (statusSchema) Schema(huma.Registry) *huma.Schema {
	return enum(tasks.StatusQueued, tasks.StatusRunning, tasks.StatusRetrying, tasks.StatusSucceeded, tasks.StatusFailed,
		tasks.StatusCancelled, tasks.StatusExpired)
}

// Schema implements huma.SchemaProvider.
func (kindSchema) Schema(huma.Registry) *huma.Schema {
	return enum(tasks.KindChat, tasks.KindEmbedding)
}

// Schema implements huma.SchemaProvider.
func (prioritySchema) Schema(huma.Registry) *huma.Schema { return enum(tasks.Priorities()...) }

// Schema implements huma.SchemaProvider.
func (classSchema) Schema(huma.Registry) *huma.Schema { return enum(tasks.Classes()...) }

func enum[T ~string](values ...T) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString}
	for _, value := range values {
		s.Enum = append(s.Enum, string(value))
	}
	return s
}

func schemaOf[T any](registry huma.Registry) *huma.Schema {
	return registry.Schema(reflect.TypeFor[T](), true, "")
}

// describeSchemas gives the fields of the contract their words. What may grow in answers is left open to readers; a job
// is not: its unknown fields are refused.
func describeSchemas(document *huma.OpenAPI) {
	schemas := document.Components.Schemas.Map()
	for name, schema := range schemas {
		if name != "Job" {
			schema.AdditionalProperties = nil
		}
		for field, text := range fieldTexts[name] {
			if property := schema.Properties[field]; property != nil {
				property.Description = text
			}
		}
	}
	job := schemas["Job"]
	delete(job.Properties, "created_at") // the way in sets it
	job.Required = nil
	job.OneOf = []*huma.Schema{{Required: []string{"input"}}, {Required: []string{"request"}}}
	job.Properties["request"].Type = huma.TypeObject
	job.Properties["id"].Pattern = "^[A-Za-z0-9_-]{1,128}$"
	slices.Sort(job.Required)
}
