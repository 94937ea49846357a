package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/tasks"
)

// mostRetried is how many jobs one request runs again at most.
const mostRetried = 1000

type retryManyInput struct{ Body retryMany }

type retryMany struct {
	Status   []tasks.Status `json:"status,omitempty" enum:"failed,cancelled,expired" doc:"Any of these; failed"`
	Code     []string       `json:"code,omitempty" doc:"Codes or classes of the job's error"`
	TaskType []string       `json:"task_type,omitempty" doc:"Any of these"`
	Batch    string         `json:"batch,omitempty" doc:"The batch that they are members of"`
	Tenant   string         `json:"tenant,omitempty" doc:"Whose jobs; for operators, whose default is everybody's"`
	Before   time.Time      `json:"before,omitzero" doc:"Jobs that ended before this moment, RFC 3339. Give that of the first request with all that follow, so that what fails anew is not run again"`
	Limit    int            `json:"limit,omitempty" minimum:"1" maximum:"1000" doc:"How many at most; 1000"`
}

type retryManyOutput struct{ Body producer.Reopened }

// retryJobs runs jobs again that have ended without success: all that a filter means, up to a limit.
func (a *API) retryJobs(ctx context.Context, input *retryManyInput) (*retryManyOutput, error) {
	if err := mayWrite(ctx); err != nil {
		return nil, err
	}
	asked := input.Body
	filter := producer.Filter{
		Statuses: asked.Status, Codes: asked.Code, TaskTypes: asked.TaskType, Batch: asked.Batch, Tenant: asked.Tenant, Until: asked.Before,
	}
	if err := ofTenant(ctx, &filter); err != nil {
		return nil, err
	}
	if len(filter.Statuses) == 0 {
		filter.Statuses = []tasks.Status{tasks.StatusFailed}
	}
	limit := asked.Limit
	if limit == 0 {
		limit = mostRetried
	}
	if err := takeJobs(ctx, limit); err != nil {
		return nil, err
	}
	writing, cancel := context.WithTimeout(ctx, writeWithin)
	defer cancel()
	done, err := a.client.ReopenMany(writing, filter, limit)
	if err != nil && done.Reopened+done.Skipped == 0 {
		problem := failure("", err)
		if problem.code == "invalid_job" { // what is wrong is the question
			problem.code = "invalid_request"
		}
		return nil, problem
	}
	done.More = done.More || err != nil // what was done is told; the rest is asked for again
	return &retryManyOutput{done}, nil
}

// ofTenant has a filter mean only what the request may see.
func ofTenant(ctx context.Context, filter *producer.Filter) error {
	identity := IdentityOf(ctx)
	if identity.Operator {
		return nil
	}
	if identity.Tenant == "" || (filter.Tenant != "" && filter.Tenant != identity.Tenant) {
		return &apiError{
			status: http.StatusForbidden, code: "tenant_forbidden", param: "tenant",
			message: "tenant: this key sees the jobs of its own tenant only; leave it out",
		}
	}
	filter.Tenant = identity.Tenant
	return nil
}
