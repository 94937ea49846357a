package httpapi

import (
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/forebay-queue/forebay/producer/internal/openai"
	"github.com/forebay-queue/forebay/tasks"
)

const groupOpenAI = "openai"

// registerOpenAI makes the routes that OpenAI's clients ask.
func (a *API) registerOpenAI(api huma.API) {
	huma.Register(api, operation(http.MethodGet, modelsPath, "listModels", groupOpenAI, "The names that a call may have as its model", `
Models, task types ("fast_summary"), tiers ("tier:low") and profiles ("profile:balanced"); owned_by says which.`, 403), a.listModels)
	huma.Register(api, operation(http.MethodGet, modelsPath+"/{model}", "getModel", groupOpenAI, "One of the names", "", 403, 404), a.getModel)
	for _, one := range []struct{ path, id, summary string }{
		{openai.ChatCompletions, "completeChat", "Call a chat model, and wait for the answer"},
		{openai.Embeddings, "embed", "Call an embedding model, and wait for the answer"},
	} {
		call := operation(http.MethodPost, one.path, one.id, groupOpenAI, one.summary, `
OpenAI's own call. It is a job like any other: the provider's answer is sent byte for byte, with the job's id in
X-Forebay-Job; with stream, as chunks once it is finished. Where the client leaves, a job that no call is out for is
withdrawn; else it is finished and kept, and a repetition within a minute joins it.`, 400, 403, 404, 408, 409, 413, 415, 500, 502, 503, 504)
		call.SkipValidateBody = true // openai.Read reads it, as it does the lines of batches
		call.MaxBodyBytes = tasks.MaxJobBytes + 1
		call.Responses = map[string]*huma.Response{"200": {
			Description: "The provider's answer",
			Content: map[string]*huma.MediaType{
				mediaJSON: {Schema: &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true}}, "text/event-stream": {Schema: &huma.Schema{Type: huma.TypeString}},
			},
		}}
		huma.Register(api, call, a.complete(one.path))
		api.OpenAPI().Paths[one.path].Post.RequestBody.Content = content(&huma.Schema{
			Type: huma.TypeObject, Required: []string{"model"}, AdditionalProperties: true,
			Properties: map[string]*huma.Schema{"model": {Type: huma.TypeString, Description: "A name of GET /v1/models"}},
		})
	}
}
