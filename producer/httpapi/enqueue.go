package httpapi

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/producer/internal/openai"
	"github.com/forebay-queue/forebay/tasks"
)

const (
	// maxBodyBytes and maxJobs bound what one request brings in.
	maxBodyBytes = 32 << 20
	maxJobs      = 10_000
	// longestKey leaves room for "-" and a job's place in an array.
	longestKey = 120
)

type enqueueInput struct {
	IdempotencyKey string `header:"Idempotency-Key" doc:"The id of a job that has none of its own, [A-Za-z0-9_-]{1,120}; in an array that of the job at place n is the key, \"-\" and n. Under a tenant's API key the id is made of the tenant and the key. So a request whose answer was lost may be sent again"`
	RawBody        []byte `contentType:"application/json"`
}

type enqueueOutput struct {
	Status   int
	Location string `header:"Location"`
	Body     any
}

// Accepted says what became of one job of a request.
type Accepted struct {
	// Index is the job's place in the array, from 0; absent without one.
	Index *int `json:"index,omitempty" doc:"The job's place in the array, from 0; absent where one job was sent"`
	// ID is absent where a job without an id was refused.
	ID      string       `json:"id,omitempty" doc:"The job's id"`
	Created *bool        `json:"created,omitempty" doc:"false: the job had been accepted before, and nothing was repeated"`
	Status  tasks.Status `json:"status,omitempty" doc:"queued for a new job; a job that was there is as far as it is"`
	Error   *errorBody   `json:"error,omitempty" doc:"Why the job was refused. The others of its array are not touched"`
}

// checkBody refuses what is no JSON, before it is read.
func checkBody(r *http.Request, pattern string) *apiError {
	most := int64(maxBodyBytes)
	switch pattern {
	case http.MethodPost + " " + jobsPath, http.MethodPost + " " + batchesPath, http.MethodPut + " " + schedulePath:
	case http.MethodPost + " " + openai.ChatCompletions, http.MethodPost + " " + openai.Embeddings:
		most = tasks.MaxJobBytes
	default:
		return nil
	}
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return &apiError{
			status: http.StatusUnsupportedMediaType, code: "unsupported_encoding", param: "Content-Encoding",
			message: "a body that is compressed is not taken; send the JSON as it is",
		}
	}
	media, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	charset, given := params["charset"]
	if err != nil || media != mediaJSON || (given && !strings.EqualFold(charset, "utf-8")) {
		return &apiError{
			status: http.StatusUnsupportedMediaType, code: "unsupported_media_type", param: "Content-Type",
			message: "send JSON in UTF-8, with the header Content-Type: application/json",
		}
	}
	if r.ContentLength > most {
		problem := errTooLarge()
		return &problem
	}
	return nil
}

// enqueue takes in one job, or an array of them.
func (a *API) enqueue(ctx context.Context, input *enqueueInput) (*enqueueOutput, error) {
	if err := mayWrite(ctx); err != nil {
		return nil, err
	}
	key, err := idempotencyKey(ctx, input.IdempotencyKey)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, writeWithin)
	defer cancel()
	if bytes.HasPrefix(bytes.TrimLeft(input.RawBody, " \t\r\n"), []byte("[")) {
		return a.enqueueMany(ctx, input.RawBody, key)
	}
	if len(input.RawBody) > tasks.MaxJobBytes {
		problem := errTooLarge()
		return nil, &problem
	}
	if err := takeJobs(ctx, 1); err != nil {
		return nil, err
	}
	job, err := decode(ctx, input.RawBody, key)
	if err != nil {
		a.series.count(producer.Receipt{ID: key}, err)
		return nil, failure(key, err)
	}
	receipt, err := a.client.Enqueue(ctx, job)
	a.series.count(receipt, err)
	if err != nil {
		return nil, failure(receipt.ID, err)
	}
	output := &enqueueOutput{Status: http.StatusOK, Location: jobsPath + "/" + receipt.ID, Body: accepted(receipt, nil)}
	if receipt.Created {
		output.Status = http.StatusCreated
	}
	return output, nil
}

// idempotencyKey reads the header, also where it is quoted as the IETF's draft has it. Ids are those of all tenants, and
// people choose such keys alike: that of a tenant is made its own.
func idempotencyKey(ctx context.Context, header string) (string, error) {
	key := header
	if len(key) >= 2 && key[0] == '"' && key[len(key)-1] == '"' {
		key = key[1 : len(key)-1]
	}
	if header != "" && (!tasks.ValidID(key) || len(key) > longestKey) {
		return "", badParam("Idempotency-Key", "becomes the job's id, and must have 1 to 120 characters of A-Z a-z 0-9 _ -")
	}
	if identity := IdentityOf(ctx); key != "" && !identity.Operator {
		digest := sha256.Sum256([]byte(identity.Tenant + " " + key))
		key = "key-" + hex.EncodeToString(digest[:20])
	}
	return key, nil
}

// decode reads one job, and gives it the request's tenant and, where it has none, the id.
func decode(ctx context.Context, body []byte, id string) (tasks.Job, error) {
	job, err := tasks.DecodeJob(body)
	if err != nil {
		return tasks.Job{}, err
	}
	if job.ID == "" {
		job.ID = id
	}
	identity := IdentityOf(ctx)
	switch {
	case identity.Operator || job.Tenant == identity.Tenant:
	case job.Tenant == "":
		job.Tenant = identity.Tenant
	default:
		return tasks.Job{}, &apiError{
			status: http.StatusForbidden, code: "tenant_forbidden", param: "tenant",
			message: "tenant: this key's jobs are another tenant's; leave it out",
		}
	}
	return job, nil
}

// enqueueMany takes in the jobs of an array: each by itself, so that one that is refused does not touch the others.
func (a *API) enqueueMany(ctx context.Context, body []byte, key string) (*enqueueOutput, error) {
	texts, err := split(body)
	if err != nil {
		return nil, err
	}
	if err := takeJobs(ctx, len(texts)); err != nil {
		return nil, err
	}
	answers := make([]Accepted, len(texts))
	var jobs []tasks.Job
	var places []int // of the jobs, in the array
	for i, text := range texts {
		id := ""
		if key != "" {
			id = key + "-" + strconv.Itoa(i)
		}
		job, err := decode(ctx, text, id)
		if err != nil {
			a.series.count(producer.Receipt{}, err)
			answers[i] = accepted(producer.Receipt{}, err)
			continue
		}
		jobs, places = append(jobs, job), append(places, i)
	}
	taken := 0
	for receipt, err := range a.client.EnqueueMany(ctx, slices.Values(jobs)) {
		a.series.count(receipt, err)
		answers[places[taken]] = accepted(receipt, err)
		taken++
	}
	for _, place := range places[taken:] { // the time was over before their turn
		a.series.count(producer.Receipt{}, errStore())
		answers[place] = accepted(producer.Receipt{}, errStore())
	}
	for i := range answers {
		answers[i].Index = &i
	}
	return &enqueueOutput{Status: http.StatusOK, Body: answers}, nil
}

// split cuts an array into the texts of its jobs, byte for byte. Nothing is taken of an array that is no JSON.
func split(body []byte) ([]json.RawMessage, error) {
	var texts []json.RawMessage
	if err := json.Unmarshal(body, &texts); err != nil {
		problem := "the array cannot be read as JSON"
		if syntax := (*json.SyntaxError)(nil); errors.As(err, &syntax) {
			problem = fmt.Sprintf("the array is not JSON at byte %d: %s", syntax.Offset, syntax)
		}
		return nil, &apiError{status: http.StatusBadRequest, code: "invalid_job", message: problem + "; no job of it was accepted"}
	}
	if len(texts) > maxJobs {
		return nil, &apiError{
			status: http.StatusRequestEntityTooLarge, code: "too_many_jobs",
			message: fmt.Sprintf("at most %d jobs are taken in one request, got %d; no job of it was accepted", maxJobs, len(texts)),
		}
	}
	return texts, nil
}

func accepted(receipt producer.Receipt, err error) Accepted {
	if err != nil {
		told := failure(receipt.ID, err).body()
		return Accepted{ID: receipt.ID, Error: &told}
	}
	return Accepted{ID: receipt.ID, Created: &receipt.Created, Status: receipt.Status}
}
