package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/forebay-queue/forebay/tasks/batches"
)

const (
	batchesPath = "/v1/batches"
	batchPath   = batchesPath + "/{id}"
)

// batchObject is a batch as OpenAI's clients read it. What has not come is left out, as its schema wants it.
type batchObject struct {
	ID               string            `json:"id" doc:"The batch's id"`
	Object           string            `json:"object" enum:"batch" doc:"batch"`
	Endpoint         string            `json:"endpoint" doc:"Which calls its lines are"`
	Errors           *batchErrors      `json:"errors,omitempty" doc:"Why it failed its validation, by line"`
	InputFileID      string            `json:"input_file_id" doc:"The file of its requests"`
	CompletionWindow string            `json:"completion_window" doc:"24h"`
	Status           batches.Status    `json:"status" enum:"validating,failed,in_progress,finalizing,completed,expired,cancelling,cancelled" doc:"How it stands"`
	OutputFileID     string            `json:"output_file_id,omitempty" doc:"The file of the answers; absent where there are none"`
	ErrorFileID      string            `json:"error_file_id,omitempty" doc:"The file of the requests that were not answered; absent where there are none"`
	CreatedAt        int64             `json:"created_at" doc:"In seconds since 1970, as all times here"`
	InProgressAt     int64             `json:"in_progress_at,omitempty" doc:"When its validation had ended"`
	ExpiresAt        int64             `json:"expires_at,omitempty" doc:"When what has not been answered expires"`
	FinalizingAt     int64             `json:"finalizing_at,omitempty" doc:"When its files were begun"`
	CompletedAt      int64             `json:"completed_at,omitempty" doc:"When it was completed"`
	FailedAt         int64             `json:"failed_at,omitempty" doc:"When it failed its validation"`
	ExpiredAt        int64             `json:"expired_at,omitempty" doc:"When it ended as expired"`
	CancellingAt     int64             `json:"cancelling_at,omitempty" doc:"When its cancel was asked for"`
	CancelledAt      int64             `json:"cancelled_at,omitempty" doc:"When it ended as cancelled"`
	RequestCounts    batchCounts       `json:"request_counts" doc:"How many requests it has, and how many have ended"`
	Usage            *batchUsage       `json:"usage,omitempty" doc:"The tokens of all answers so far"`
	CostUSD          float64           `json:"cost_usd" doc:"What all calls cost so far, at the catalog's prices; not OpenAI's"`
	Name             string            `json:"name,omitempty" doc:"The name of its input; not OpenAI's"`
	Metadata         map[string]string `json:"metadata,omitempty" doc:"What was sent with it"`
}

type batchErrors struct {
	Object string         `json:"object" enum:"list" doc:"list"`
	Data   []batchProblem `json:"data" doc:"Up to 100 of them"`
}

type batchProblem struct {
	Code    string  `json:"code" doc:"A word that keeps its meaning, for programs"`
	Message string  `json:"message" doc:"What is wrong, for people"`
	Param   *string `json:"param" doc:"The field that is wrong; null where there is none"`
	Line    *int    `json:"line" doc:"The line, from 1; null where it is the file"`
}

type batchCounts struct {
	Total     int `json:"total" doc:"All; 0 until they are counted"`
	Completed int `json:"completed" doc:"Those that were answered"`
	Failed    int `json:"failed" doc:"Those that ended without an answer: failed, cancelled or expired"`
}

type batchUsage struct {
	InputTokens         int64 `json:"input_tokens" doc:"Of the requests"`
	InputTokensDetails  any   `json:"input_tokens_details" doc:"cached_tokens, which are not counted: 0"`
	OutputTokens        int64 `json:"output_tokens" doc:"Of the answers"`
	OutputTokensDetails any   `json:"output_tokens_details" doc:"reasoning_tokens, which are not counted: 0"`
	TotalTokens         int64 `json:"total_tokens" doc:"Of both"`
}

func seconds(at time.Time) int64 {
	if at.IsZero() {
		return 0
	}
	return at.Unix()
}

func shownBatch(b batches.Batch) batchObject {
	shown := batchObject{
		ID: b.ID, Object: "batch", Endpoint: b.Endpoint, InputFileID: b.InputFileID, CompletionWindow: b.CompletionWindow,
		Status: b.Status, OutputFileID: b.OutputFileID, ErrorFileID: b.ErrorFileID, CreatedAt: b.CreatedAt.Unix(),
		InProgressAt: seconds(b.InProgressAt), ExpiresAt: seconds(b.Deadline), FinalizingAt: seconds(b.FinalizingAt),
		CompletedAt: seconds(b.CompletedAt), FailedAt: seconds(b.FailedAt), ExpiredAt: seconds(b.ExpiredAt),
		CancellingAt: seconds(b.CancellingAt), CancelledAt: seconds(b.CancelledAt), CostUSD: b.CostUSD, Name: b.Name, Metadata: b.Metadata,
		RequestCounts: batchCounts{Total: b.Total, Completed: b.Counts.Succeeded, Failed: b.Counts.Ended() - b.Counts.Succeeded},
	}
	if len(b.Problems) > 0 {
		shown.Errors = &batchErrors{Object: "list", Data: make([]batchProblem, len(b.Problems))}
		for i, problem := range b.Problems {
			told := batchProblem{Code: problem.Code, Message: problem.Message}
			if problem.Param != "" {
				told.Param = &b.Problems[i].Param
			}
			if problem.Line > 0 {
				told.Line = &b.Problems[i].Line
			}
			shown.Errors.Data[i] = told
		}
	}
	if b.Usage.TotalTokens > 0 {
		shown.Usage = &batchUsage{
			InputTokens: b.Usage.PromptTokens, OutputTokens: b.Usage.CompletionTokens, TotalTokens: b.Usage.TotalTokens,
			InputTokensDetails: map[string]int{"cached_tokens": 0}, OutputTokensDetails: map[string]int{"reasoning_tokens": 0},
		}
	}
	return shown
}

type batchInput struct {
	ID string `path:"id" maxLength:"4096" doc:"The batch's id"`
}

type batchOutput struct{ Body batchObject }

type batchesInput struct {
	After string `query:"after" maxLength:"4096" doc:"The last_id of the page before"`
	Limit int    `query:"limit" default:"20" minimum:"1" maximum:"100" doc:"How many batches a page has"`
	All   bool   `query:"all" doc:"Also those of forebay batch run, which have no files here; not OpenAI's"`
}

type batchList struct {
	Object  string        `json:"object" enum:"list" doc:"list"`
	Data    []batchObject `json:"data" doc:"The batches, the newest first"`
	FirstID string        `json:"first_id,omitempty" doc:"The first one's id; absent where there is none"`
	LastID  string        `json:"last_id,omitempty" doc:"The last one's id; absent where there is none"`
	HasMore bool          `json:"has_more" doc:"There are more behind last_id"`
}

type batchesOutput struct{ Body batchList }

func (a *API) registerBatches(api huma.API) {
	create := operation(http.MethodPost, batchesPath, "createBatch", groupBatches, "Have all requests of a file done", `
Its lines are looked at afterwards: a file that has a line of a wrong form makes the batch fail, with all such lines in its
errors. A request that is refused for what it asks fails alone.`, 400, 403, 415, 503)
	create.SkipValidateBody = true // in OpenAI's words
	create.MaxBodyBytes = maxBatchBytes
	huma.Register(api, create, a.createBatch)
	describeCreateBatch(api.OpenAPI())
	huma.Register(api, operation(http.MethodGet, batchesPath, "listBatches", groupBatches, "List batches", "", 400, 403, 503), a.listBatches)
	huma.Register(api, operation(http.MethodGet, batchPath, "getBatch", groupBatches, "How a batch stands", "", 404, 503), a.getBatch)
	huma.Register(api, operation(http.MethodPost, batchPath+"/cancel", "cancelBatch", groupBatches, "Cancel a batch", `
It is answered as cancelling, and is cancelled when its requests have ended. The answers that came until then are in its files.`,
		403, 404, 409, 503), a.cancelBatch)
}

// batch reads a batch that the request may see. Another tenant's is answered as one that is not there.
func (a *API) batch(ctx context.Context, id string) (batches.Batch, error) {
	tenant, seen := readsAs(ctx)
	if !seen {
		return batches.Batch{}, errNoBatch(id)
	}
	ctx, cancel := context.WithTimeout(ctx, readWithin)
	defer cancel()
	found, err := a.client.Batches().Get(ctx, id, tenant)
	if err != nil {
		return batches.Batch{}, batchFailure(id, err)
	}
	return found, nil
}

func errNoBatch(id string) *apiError {
	return &apiError{
		status: http.StatusNotFound, code: "batch_not_found", param: "id",
		message: "No batch found with id '" + shortened(id) + "'.",
	}
}

func batchFailure(id string, err error) *apiError {
	if errors.Is(err, batches.ErrNotFound) {
		return errNoBatch(id)
	}
	return errStore()
}

func (a *API) getBatch(ctx context.Context, input *batchInput) (*batchOutput, error) {
	found, err := a.batch(ctx, input.ID)
	if err != nil {
		return nil, err
	}
	return &batchOutput{shownBatch(found)}, nil
}

// listBatches lists those of files, unless it is asked for all: with the others OpenAI's clients would not know what to do.
func (a *API) listBatches(ctx context.Context, input *batchesInput) (*batchesOutput, error) {
	tenant, seen := readsAs(ctx)
	if !seen {
		return nil, errNobody()
	}
	ctx, cancel := context.WithTimeout(ctx, listWithin)
	defer cancel()
	list := batchList{Object: "list", Data: []batchObject{}}
	after := input.After
	for {
		found, more, err := a.client.Batches().List(ctx, tenant, after, input.Limit)
		if errors.Is(err, batches.ErrUnknownAfter) {
			return nil, badParam("after", "there is no such batch")
		}
		if err != nil {
			return nil, errStore()
		}
		for _, batch := range found {
			after = batch.ID
			if batch.Kind != batches.KindFile && !input.All {
				continue
			}
			if len(list.Data) == input.Limit {
				list.HasMore = true
				break
			}
			list.Data = append(list.Data, shownBatch(batch))
		}
		if !more || list.HasMore {
			break
		}
		if len(list.Data) == input.Limit {
			list.HasMore = true // at worst the next page is empty
			break
		}
	}
	if len(list.Data) > 0 {
		list.FirstID, list.LastID = list.Data[0].ID, list.Data[len(list.Data)-1].ID
	}
	return &batchesOutput{list}, nil
}

// cancelBatch asks a batch to end. Its members are cancelled by whoever works on it.
func (a *API) cancelBatch(ctx context.Context, input *batchInput) (*batchOutput, error) {
	found, err := a.batch(ctx, input.ID)
	if err != nil {
		return nil, err
	}
	if err := mayWrite(ctx); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, writeWithin)
	defer cancel()
	cancelled, err := a.client.Batches().Cancel(ctx, input.ID, found.Tenant)
	if errors.Is(err, batches.ErrEnded) {
		return nil, &apiError{
			status: http.StatusConflict, code: "batch_ended", param: "id",
			message: fmt.Sprintf("Cannot cancel a batch with status '%s'.", found.Status),
		}
	}
	if err != nil {
		return nil, batchFailure(input.ID, err)
	}
	return &batchOutput{shownBatch(cancelled)}, nil
}
