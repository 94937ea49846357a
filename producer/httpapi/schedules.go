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

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/schedules"
	"github.com/forebay-queue/forebay/tasks/seal"
)

// The addresses of schedules.
const (
	schedulesPath  = "/v1/schedules"
	schedulePath   = schedulesPath + "/{name}"
	groupSchedules = "schedules"
	// mostSchedules is how many a tenant has at most: all are looked at every second.
	mostSchedules = 1000
)

type scheduleInput struct {
	Name   string `path:"name" maxLength:"64" doc:"The schedule's name"`
	Tenant string `query:"tenant" maxLength:"64" doc:"Whose schedule it is, for operators; default"`
}

type putScheduleInput struct {
	Name    string `path:"name" maxLength:"64" doc:"The schedule's name"`
	Tenant  string `query:"tenant" maxLength:"64" doc:"Whose schedule it is, for operators; default"`
	RawBody []byte `contentType:"application/json"`
}

// scheduleAsked is what a schedule is asked for with.
type scheduleAsked struct {
	Cron         string           `json:"cron" doc:"Five fields (minute, hour, day of the month, month, day of the week), @hourly, @daily, @weekly, @monthly, or @every and a duration" example:"30 2 * * *"`
	TimeZone     string           `json:"time_zone,omitempty" doc:"A name of the IANA database; UTC" example:"Europe/Berlin"`
	Missed       schedules.Missed `json:"missed,omitempty" enum:"skip,once,all" doc:"What becomes of ticks while no scheduler runs; skip"`
	ExpiresAfter tasks.Duration   `json:"expires_after,omitempty" doc:"How long after its tick a job ends as expired"`
	Job          json.RawMessage  `json:"job" doc:"What is made at every tick, without id, run_at and deadline"`
}

type scheduleOutput struct{ Body schedules.Entry }

type schedulesOutput struct {
	Body struct {
		Schedules []schedules.Entry `json:"schedules" doc:"By tenant and name"`
	}
}

func (a *API) registerSchedules(api huma.API) {
	put := operation(http.MethodPut, schedulePath, "putSchedule", groupSchedules, "Add a schedule, or replace the one of that name", `
Its job is checked now, and made at every tick, each tick once, by whichever scheduler leads.`, 400, 403, 404, 409, 413, 415, 503)
	put.SkipValidateBody = true
	put.MaxBodyBytes = tasks.MaxJobBytes
	huma.Register(api, put, a.putSchedule)
	huma.Register(api, operation(http.MethodGet, schedulesPath, "listSchedules", groupSchedules, "List schedules", "", 403, 503), a.listSchedules)
	huma.Register(api, operation(http.MethodGet, schedulePath, "getSchedule", groupSchedules, "Read a schedule, and what has become of it", "", 403, 404, 503), a.getSchedule)
	huma.Register(api, operation(http.MethodDelete, schedulePath, "removeSchedule", groupSchedules, "Take a schedule away", "The jobs that it has made stay.", 403, 404, 409, 503), a.removeSchedule)
	huma.Register(api, operation(http.MethodPost, schedulePath+"/pause", "pauseSchedule", groupSchedules, "Have a schedule make no jobs",
		"The ticks meanwhile are not made up for.", 403, 404, 503), a.pauseSchedule(true))
	huma.Register(api, operation(http.MethodPost, schedulePath+"/resume", "resumeSchedule", groupSchedules, "Have a paused schedule go on from now", "",
		403, 404, 503), a.pauseSchedule(false))
	huma.Register(api, operation(http.MethodPost, schedulePath+"/run", "runSchedule", groupSchedules, "Make a schedule's job now, beside its ticks", "",
		400, 403, 404, 503), a.runSchedule)
	document := api.OpenAPI()
	document.Paths[schedulePath].Put.RequestBody.Content = content(schemaOf[scheduleAsked](document.Components.Schemas))
}

func (a *API) schedules() *schedules.Store {
	return schedules.New(a.client.Redis(), a.client.Keys(), a.client.Sealer())
}

// tenantOfSchedule is whose schedules a request is about; another tenant's are not there.
func tenantOfSchedule(ctx context.Context, asked string, change bool) (string, error) {
	identity := IdentityOf(ctx)
	tenant := identity.Tenant
	if identity.Operator {
		if tenant = asked; tenant == "" {
			tenant = catalog.DefaultTenant
		}
	}
	if tenant == "" || asked != "" && asked != tenant {
		return "", errNoSchedule()
	}
	if change {
		return tenant, mayWrite(ctx)
	}
	return tenant, nil
}

func (a *API) putSchedule(ctx context.Context, input *putScheduleInput) (*scheduleOutput, error) {
	tenant, err := tenantOfSchedule(ctx, input.Tenant, true)
	if err != nil {
		return nil, err
	}
	schedule, err := a.decodeSchedule(input.RawBody, tenant, input.Name)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, writeWithin)
	defer cancel()
	if own, err := a.schedules().List(ctx, tenant); len(own) >= mostSchedules && err == nil {
		return nil, &apiError{
			status: http.StatusConflict, code: "too_many_schedules",
			message: fmt.Sprintf("the tenant has %d schedules, which is the most; remove some", len(own)),
		}
	}
	if err := a.schedules().Put(ctx, schedule); err != nil {
		return nil, scheduleFailure(err)
	}
	return a.shownSchedule(ctx, tenant, input.Name)
}

// decodeSchedule reads a schedule and checks its job, as every tick will.
func (a *API) decodeSchedule(body []byte, tenant, name string) (schedules.Schedule, error) {
	var asked scheduleAsked
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(&asked)
	if err == nil {
		if _, end := decoder.Token(); !errors.Is(end, io.EOF) {
			err = errors.New("something follows the object")
		}
	}
	if err != nil {
		return schedules.Schedule{}, &apiError{
			status: http.StatusBadRequest, code: "invalid_schedule",
			message: "the body must be a JSON object with cron, job, and if need be time_zone, missed and expires_after: " + err.Error(),
		}
	}
	schedule := schedules.Schedule{
		Name: name, Tenant: tenant, Cron: asked.Cron, TimeZone: asked.TimeZone, Missed: asked.Missed, ExpiresAfter: asked.ExpiresAfter,
	}
	if schedule.Job, err = tasks.DecodeJob(asked.Job); err != nil {
		return schedule, inJob(err)
	}
	if given := schedule.Job.Tenant; given != "" && given != tenant {
		return schedule, &apiError{
			status: http.StatusForbidden, code: "tenant_forbidden", param: "job.tenant", message: "job.tenant: a schedule's jobs are its own tenant's; leave it out",
		}
	}
	now := time.Now()
	if err := schedule.Complete(now); err != nil {
		problem := &apiError{status: http.StatusBadRequest, code: "invalid_schedule", message: err.Error()}
		if field := (*schedules.FieldError)(nil); errors.As(err, &field) {
			problem.param = field.Field
		}
		return schedule, problem
	}
	if known := a.client.Catalog(); known != nil {
		if _, err := known.Prepare(schedule.Job, now); err != nil {
			return schedule, inJob(err)
		}
	}
	return schedule, nil
}

// inJob is what is wrong with the job of a schedule.
func inJob(err error) *apiError {
	problem := failure("", err)
	if problem.param != "" {
		problem.param, problem.message = "job."+problem.param, "job."+problem.message
	}
	return problem
}

func (a *API) listSchedules(ctx context.Context, _ *struct{}) (*schedulesOutput, error) {
	tenant, seen := readsAs(ctx)
	if !seen {
		return nil, errNobody()
	}
	ctx, cancel := context.WithTimeout(ctx, readWithin)
	defer cancel()
	list, err := a.schedules().List(ctx, tenant)
	if err != nil && list == nil {
		return nil, errStore()
	}
	output := &schedulesOutput{}
	output.Body.Schedules = list
	return output, nil
}

func (a *API) getSchedule(ctx context.Context, input *scheduleInput) (*scheduleOutput, error) {
	tenant, err := tenantOfSchedule(ctx, input.Tenant, false)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, readWithin)
	defer cancel()
	return a.shownSchedule(ctx, tenant, input.Name)
}

func (a *API) shownSchedule(ctx context.Context, tenant, name string) (*scheduleOutput, error) {
	entry, err := a.schedules().Get(ctx, tenant, name)
	if err != nil {
		return nil, scheduleFailure(err)
	}
	return &scheduleOutput{entry}, nil
}

func (a *API) removeSchedule(ctx context.Context, input *scheduleInput) (*struct{}, error) {
	tenant, err := tenantOfSchedule(ctx, input.Tenant, true)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, writeWithin)
	defer cancel()
	if err := a.schedules().Remove(ctx, tenant, input.Name, ""); err != nil {
		return nil, scheduleFailure(err)
	}
	return nil, nil //nolint:nilnil // 204
}

func (a *API) pauseSchedule(paused bool) func(context.Context, *scheduleInput) (*scheduleOutput, error) {
	return func(ctx context.Context, input *scheduleInput) (*scheduleOutput, error) {
		tenant, err := tenantOfSchedule(ctx, input.Tenant, true)
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(ctx, writeWithin)
		defer cancel()
		entry, err := a.schedules().Pause(ctx, tenant, input.Name, paused)
		if err != nil {
			return nil, scheduleFailure(err)
		}
		return &scheduleOutput{entry}, nil
	}
}

// runSchedule makes the job beside the ticks, under an id of its own.
func (a *API) runSchedule(ctx context.Context, input *scheduleInput) (*enqueueOutput, error) {
	tenant, err := tenantOfSchedule(ctx, input.Tenant, true)
	if err == nil {
		err = takeJobs(ctx, 1)
	}
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, writeWithin)
	defer cancel()
	entry, err := a.schedules().Get(ctx, tenant, input.Name)
	if err != nil {
		return nil, scheduleFailure(err)
	}
	job := entry.JobAt(time.Now())
	job.ID += "-" + uuid.NewString()[:8]
	receipt, err := a.client.Enqueue(ctx, job)
	a.series.count(receipt, err)
	if err != nil {
		return nil, failure(receipt.ID, err)
	}
	return &enqueueOutput{Status: http.StatusCreated, Location: jobsPath + "/" + receipt.ID, Body: accepted(receipt, nil)}, nil
}

func errNoSchedule() *apiError {
	return &apiError{status: http.StatusNotFound, code: "schedule_not_found", param: "name", message: "there is no such schedule"}
}

func scheduleFailure(err error) *apiError {
	switch {
	case errors.Is(err, schedules.ErrNotFound):
		return errNoSchedule()
	case errors.Is(err, seal.ErrUnreadable):
		return errUnreadable(err)
	case errors.Is(err, schedules.ErrConfigured):
		return &apiError{
			status: http.StatusConflict, code: "schedule_configured", param: "name",
			message: "the schedule stands in the configuration, and is changed there; it can be paused here",
		}
	}
	return errStore()
}
