package httpapi

import (
	"context"
	"time"

	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/tasks"
)

type listInput struct {
	Status   []tasks.Status `query:"status" doc:"Any of these, separated by commas"`
	TaskType []string       `query:"task_type" doc:"Any of these, separated by commas"`
	Code     []string       `query:"code" doc:"Codes or classes of the job's error, separated by commas; of an open job that is why its last delivery failed"`
	Tenant   string         `query:"tenant" doc:"Whose jobs; for operators, whose default is everybody's"`
	Since    time.Time      `query:"since" doc:"From this moment on, RFC 3339: of the acceptance of an open job, of the end of one that has ended"`
	Until    time.Time      `query:"until" doc:"Before this moment"`
	Text     string         `query:"text" doc:"A part of the id, the task type, the error's code or message, or a value of the metadata; in any case"`
	Batch    string         `query:"batch" doc:"The batch that they are members of: they come in the order of their numbers then"`
	GroupBy  string         `query:"group_by" doc:"Count the jobs instead, by status, code, task_type, tenant, model or day"`
	Cursor   string         `query:"cursor" doc:"The next of the page before"`
	Limit    int            `query:"limit" default:"50" minimum:"1" maximum:"1000" doc:"How many jobs a page has"`
}

type listOutput struct{ Body any }

// listJobs answers a page of the jobs that the request may see, or counts them.
func (a *API) listJobs(ctx context.Context, input *listInput) (*listOutput, error) {
	filter := producer.Filter{
		Statuses: input.Status, TaskTypes: input.TaskType, Codes: input.Code, Tenant: input.Tenant,
		Since: input.Since, Until: input.Until, Text: input.Text, Batch: input.Batch,
	}
	if err := ofTenant(ctx, &filter); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, listWithin)
	defer cancel()
	var listed any
	var err error
	if input.GroupBy != "" {
		var groups producer.Groups
		groups, err = a.client.Group(ctx, filter, input.GroupBy)
		if !IdentityOf(ctx).Operator {
			groups.Looked = 0 // it would tell how many jobs the others have
		}
		listed = groups
	} else {
		listed, err = a.client.List(ctx, filter, input.Cursor, input.Limit)
	}
	if err != nil {
		problem := failure("", err)
		if problem.code == "invalid_job" { // what is wrong is the question
			problem.code = "invalid_request"
		}
		return nil, problem
	}
	return &listOutput{listed}, nil
}
