package httpapi

import (
	"context"
	"net/http"

	"github.com/forebay-queue/forebay/producer/internal/openai"
)

const modelsPath = "/v1/models"

// maySee refuses nobody's requests.
func maySee(ctx context.Context) error {
	if identity := IdentityOf(ctx); identity.Operator || identity.Tenant != "" {
		return nil
	}
	return &apiError{status: http.StatusForbidden, code: "tenant_forbidden", message: "this key is no tenant's"}
}

type modelList struct {
	Object string         `json:"object"`
	Data   []openai.Model `json:"data"`
}

type modelsOutput struct{ Body modelList }

// listModels answers the names that a call may have as its model.
func (a *API) listModels(ctx context.Context, _ *struct{}) (*modelsOutput, error) {
	if err := maySee(ctx); err != nil {
		return nil, err
	}
	return &modelsOutput{modelList{Object: "list", Data: openai.Models(a.client.Catalog())}}, nil
}

type modelInput struct {
	Model string `path:"model" maxLength:"4096" doc:"The name, with its slashes as %2F"`
}

type modelOutput struct{ Body openai.Model }

func (a *API) getModel(ctx context.Context, input *modelInput) (*modelOutput, error) {
	if err := maySee(ctx); err != nil {
		return nil, err
	}
	model, err := openai.Find(input.Model, a.client.Catalog())
	if err != nil {
		return nil, failure("", err)
	}
	return &modelOutput{model}, nil
}
