package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"github.com/forebay-queue/forebay/producer/batchrun"
	"github.com/forebay-queue/forebay/producer/files"
	"github.com/forebay-queue/forebay/producer/internal/openai"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/batches"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/tracing"
)

const (
	maxBatchBytes    = 1 << 20
	completionWindow = "24h"
	windowOfBatches  = 24 * time.Hour
	// OpenAI's bounds of metadata.
	maxMetadata, maxMetadataKey, maxMetadataValue = 16, 64, 512
)

type createBatchInput struct {
	RawBody []byte `contentType:"application/json"`
}

// batchAsked is what a batch is asked for with.
type batchAsked struct {
	InputFileID        string            `json:"input_file_id" doc:"A file of the purpose batch"`
	Endpoint           string            `json:"endpoint" enum:"/v1/chat/completions,/v1/embeddings" doc:"Which calls its lines are"`
	CompletionWindow   string            `json:"completion_window" enum:"24h" doc:"24h"`
	Metadata           map[string]string `json:"metadata,omitempty" doc:"Up to 16 pairs of strings (64 and 512 characters)"`
	OutputExpiresAfter *expiresAfter     `json:"output_expires_after,omitempty" doc:"How long its files are kept; as long as the configuration says without it"`
	Webhook            *tasks.Webhook    `json:"webhook,omitempty" doc:"Whom to tell of its end; those that the tenant has subscribed without it. Not OpenAI's"`
}

type expiresAfter struct {
	Anchor  string `json:"anchor" enum:"created_at" doc:"created_at"`
	Seconds int    `json:"seconds" doc:"3600 to 2592000"`
}

func describeCreateBatch(document *huma.OpenAPI) {
	document.Paths[batchesPath].Post.RequestBody.Content = content(schemaOf[batchAsked](document.Components.Schemas))
}

// createBatch takes a batch in. Whoever works on batches finds it.
func (a *API) createBatch(ctx context.Context, input *createBatchInput) (*batchOutput, error) {
	if err := mayWrite(ctx); err != nil {
		return nil, err
	}
	asked, err := decodeBatch(input.RawBody)
	if err == nil {
		err = asked.check()
	}
	if err != nil {
		return nil, err
	}
	file, err := a.file(ctx, asked.InputFileID)
	if problem := (*apiError)(nil); errors.As(err, &problem) && problem.status == http.StatusNotFound {
		problem.status, problem.param = http.StatusBadRequest, "input_file_id"
	}
	if err != nil {
		return nil, err
	}
	if file.Purpose != files.PurposeBatch {
		return nil, invalidValue("input_file_id", fmt.Sprintf("the file's purpose is '%s', and must be 'batch'", file.Purpose))
	}
	tenant := IdentityOf(ctx).Tenant
	if tenant == "" {
		tenant = catalog.DefaultTenant
	}
	if file.Tenant != tenant { // an operator's: whose file it is, theirs is the batch
		tenant = file.Tenant
	}
	known := a.client.Catalog()
	if err := checkBatchWebhook(known, tenant, asked.Webhook); err != nil {
		return nil, err
	}
	now := time.Now()
	batch := batches.Batch{
		ID: batches.NewID(), Tenant: tenant, Name: file.Filename, Kind: batches.KindFile, Status: batches.StatusValidating,
		Endpoint: asked.Endpoint, CompletionWindow: completionWindow, InputFileID: file.ID, Metadata: asked.Metadata,
		Retention: known.Defaults.Retention, CreatedAt: now, Deadline: now.Add(windowOfBatches),
		Webhooks: known.BatchWebhooks(tenant, asked.Webhook), Trace: tracing.Of(ctx),
	}
	if asked.OutputExpiresAfter != nil {
		batch.OutputExpiresAfter = time.Duration(asked.OutputExpiresAfter.Seconds) * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, writeWithin)
	defer cancel()
	if err := batchrun.Take(ctx, a.config.Files, file, &batch); err != nil {
		return nil, a.fileFailure(file.ID, err)
	}
	if _, err := a.client.Batches().Create(ctx, batch); err != nil {
		return nil, errStore()
	}
	return &batchOutput{shownBatch(batch)}, nil
}

// checkBatchWebhook refuses a webhook that could not be delivered.
func checkBatchWebhook(known *catalog.Catalog, tenant string, webhook *tasks.Webhook) error {
	err := known.CheckWebhook(tenant, webhook, tasks.BatchEvents())
	if problem := (*tasks.FieldError)(nil); errors.As(err, &problem) {
		return invalidValue(problem.Field, problem.Problem)
	}
	return err
}

func invalidValue(param, message string) *apiError {
	return &apiError{status: http.StatusBadRequest, code: "invalid_value", param: param, message: param + ": " + message}
}

// decodeBatch reads what is asked for; unknown fields are refused by their names.
func decodeBatch(body []byte) (batchAsked, error) {
	var asked batchAsked
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(&asked)
	if err == nil {
		if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
			return asked, &apiError{status: http.StatusBadRequest, code: "invalid_json", message: "something follows the JSON object of the body"}
		}
		return asked, nil
	}
	var mistyped *json.UnmarshalTypeError
	var webhook *tasks.FieldError
	switch {
	case errors.As(err, &webhook):
		return asked, invalidValue(webhook.Field, webhook.Problem)
	case errors.As(err, &mistyped) && mistyped.Field != "":
		return asked, &apiError{
			status: http.StatusBadRequest, code: "invalid_type", param: mistyped.Field,
			message: fmt.Sprintf("Invalid type for '%s': %s was sent.", mistyped.Field, mistyped.Value),
		}
	case json.Valid(body) && bytes.HasPrefix(bytes.TrimSpace(body), []byte("{")):
		return asked, &apiError{
			status: http.StatusBadRequest, code: "unknown_parameter",
			message: "A field is not known: " + err.Error() + ". A batch has input_file_id, endpoint, completion_window, metadata, output_expires_after and webhook.",
		}
	}
	return asked, &apiError{status: http.StatusBadRequest, code: "invalid_json", message: "the body must be a JSON object"}
}

// check refuses what OpenAI refuses, and what is not served here.
func (b batchAsked) check() error {
	for _, field := range []struct{ param, value string }{
		{"input_file_id", b.InputFileID}, {"endpoint", b.Endpoint}, {"completion_window", b.CompletionWindow},
	} {
		if field.value == "" {
			return &apiError{
				status: http.StatusBadRequest, code: "missing_required_parameter", param: field.param,
				message: "Missing required parameter: '" + field.param + "'.",
			}
		}
	}
	switch {
	case b.Endpoint != openai.ChatCompletions && b.Endpoint != openai.Embeddings:
		return invalidValue("endpoint", fmt.Sprintf("%.100q is not supported here; %s and %s are", b.Endpoint, openai.ChatCompletions, openai.Embeddings))
	case b.CompletionWindow != completionWindow:
		return invalidValue("completion_window", fmt.Sprintf("%.100q is not supported; %s is", b.CompletionWindow, completionWindow))
	case len(b.Metadata) > maxMetadata:
		return invalidValue("metadata", fmt.Sprintf("has more than %d pairs", maxMetadata))
	}
	for key, value := range b.Metadata {
		if utf8.RuneCountInString(key) > maxMetadataKey || utf8.RuneCountInString(value) > maxMetadataValue {
			return invalidValue("metadata", fmt.Sprintf("keys have up to %d characters, and values up to %d", maxMetadataKey, maxMetadataValue))
		}
	}
	if after := b.OutputExpiresAfter; after != nil && (after.Anchor != anchorCreated || after.Seconds < shortestKept || after.Seconds > longestKept) {
		return invalidValue("output_expires_after", fmt.Sprintf("needs anchor, which is created_at, and seconds, %d to %d", shortestKept, longestKept))
	}
	return nil
}
