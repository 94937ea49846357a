package httpapi

import (
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/producer/httpapi/dashboard"
	"github.com/forebay-queue/forebay/tasks"
)

// The addresses that other files name.
const (
	healthPath   = "/healthz"
	readyPath    = "/readyz"
	metricsPath  = "/metrics"
	documentPath = "/openapi.json"
	yamlPath     = "/openapi.yaml"
	pagePath     = "/docs/"
	jobsPath     = "/v1/jobs"
	jobPath      = jobsPath + "/{id}"
	resultPath   = jobPath + "/result"
	eventsPath   = jobPath + "/events"
	livePath     = "/v1/events"
)

// The groups of the document.
const (
	groupJobs     = "jobs"
	groupBatches  = "files and batches"
	groupWebhooks = "webhooks"
	groupOperator = "operation"
	groupProcess  = "process"
)

// register makes the routes and the document of them.
func (a *API) register() error {
	config := huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title: "Forebay", Version: "1",
				Description: "Jobs for language models: sent once, done once, with what they cost. Every error has the form of `Error`.",
				License:     &huma.License{Name: "MIT", Identifier: "MIT"},
			},
			Servers: []*huma.Server{{URL: "/", Description: "Where this document is served"}},
			Tags: []*huma.Tag{
				{Name: groupJobs, Description: "Sending jobs, and what became of them"},
				{Name: groupOpenAI, Description: "What OpenAI's clients ask"},
				{Name: groupBatches, Description: "OpenAI's Files and Batches"},
				{Name: groupSchedules, Description: "Jobs that are made again and again"},
				{Name: groupWebhooks, Description: "What tells of the ends of jobs and batches"},
				{Name: groupOperator, Description: "The deployment, for operators' keys"},
				{Name: groupProcess, Description: "This process"},
			},
			Components: &huma.Components{Schemas: newRegistry(), SecuritySchemes: map[string]*huma.SecurityScheme{
				"key": {Type: "http", Scheme: "bearer", Description: "An API key; `forebay keys create` makes one. Without any, this machine is served."},
			}},
			Security: []map[string][]string{{"key": {}}, {}},
		},
		Formats:                      map[string]huma.Format{mediaJSON: format, "json": format},
		DefaultFormat:                mediaJSON,
		RejectUnknownQueryParameters: true,
	}
	described := humago.New(a.mux, config)
	a.registerJobs(described)
	if a.client.Catalog() != nil {
		a.registerOpenAI(described)
	}
	if a.config.Files != nil {
		a.registerFiles(described)
		a.registerBatches(described)
	}
	a.registerSchedules(described)
	a.registerWebhooks(described)
	a.registerOperation(described)
	describeEnqueue(described.OpenAPI())
	describeList(described.OpenAPI())
	describeSchemas(described.OpenAPI())
	if err := a.serveDocument(described.OpenAPI()); err != nil {
		return err
	}
	pages, err := dashboard.Routes()
	if err != nil {
		return err
	}
	for _, routes := range []map[string]http.Handler{pages, a.config.Routes} {
		for pattern, handler := range routes {
			a.mux.Handle(pattern, handler)
		}
	}
	return nil
}

// operation describes an address. What it may answer beside its success are the statuses.
func operation(method, path, id, group, summary, description string, errs ...int) huma.Operation {
	if group != groupProcess {
		errs = append(errs, http.StatusUnauthorized, http.StatusTooManyRequests)
	}
	return huma.Operation{
		Method: method, Path: path, OperationID: id, Tags: []string{group}, Summary: summary,
		Description: strings.TrimSpace(description), Errors: errs,
		BodyReadTimeout: bodyWithin,
	}
}

func (a *API) registerJobs(api huma.API) {
	send := operation(http.MethodPost, jobsPath, "sendJobs", groupJobs, "Send one job, or an array of them", `
One job is answered with 201, or with 200 where it had been accepted before: the same id asking for the same is the same
job. An array is answered with 200 and one entry for each of its jobs, in their order; one that is refused does not touch
the others. At most 10,000 jobs and 32 MiB, and 8 MiB for one job.`, 400, 403, 408, 409, 413, 415, 503)
	send.SkipValidateBody = true // tasks.DecodeJob reads it, as it does for every way in
	send.MaxBodyBytes = maxBodyBytes + 1
	huma.Register(api, send, a.enqueue)
	huma.Register(api, operation(http.MethodGet, jobsPath, "listJobs", groupJobs, "List jobs, or count them", `
The open ones first, then those that have ended, the newest end first; neither prompts nor answers. A page has a next
while there may be more. A list is no snapshot: a job that changes between two pages may be shown twice.`, 400, 403, 503), a.listJobs)
	huma.Register(api, operation(http.MethodGet, jobPath, "getJob", groupJobs, "How a job stands, or its result", `
With wait it is answered as soon as the job has ended; waiting costs nothing.`, 400, 404, 503), a.getJob)
	huma.Register(api, operation(http.MethodGet, jobPath+"/request", "getRequest", groupJobs, "What a job asks for", `
The job as it was accepted, its prompt and its metadata included.`, 400, 404, 503), a.getRequest)
	huma.Register(api, operation(http.MethodDelete, jobPath, "cancelJob", groupJobs, "Cancel a job", `
A job that waits ends at once, as cancelled. One that runs is ended by its worker, is answered as running, and may still
succeed if its answer is on its way. One that has ended is answered as it stands.`, 400, 403, 404, 503), a.cancelJob)
	huma.Register(api, operation(http.MethodPost, jobPath+"/retry", "retryJob", groupJobs, "Run a job again that has ended without success", `
The job is queued anew with all its retries. What its earlier runs cost still counts. With run it is only while that is
the job's, so that any number of people who have seen the same list run it once.`, 400, 403, 404, 409, 503), a.retryJob)
	huma.Register(api, operation(http.MethodPost, "/v1/retries", "retryJobs", groupJobs, "Run many jobs again that have ended without success", `
Those that the filter means, at most 1,000; with more in the answer there are others. Each is run once, however many people
ask for the same.`, 400, 403, 413, 415, 503), a.retryJobs)
	huma.Register(api, operation(http.MethodPost, jobPath+"/discard", "discardJob", groupJobs, "Delete the record of a job that has ended", `
All that is kept of it is deleted, its answer included, and its id is free. It is answered as it was. One that has not ended
is cancelled first.`, 400, 403, 404, 409, 503), a.discardJob)
	link := operation(http.MethodGet, resultPath, "getLinkedResult", groupJobs, "The result of a job that a webhook links to", `
A webhook whose result is too large to be sent links to it here. The link needs no key, is of one run of one job, and
expires.`, 400, 403, 404, 503)
	link.Security = []map[string][]string{{}}
	huma.Register(api, link, a.linkedResult)
	events := operation(http.MethodGet, eventsPath, "streamEvents", groupJobs, "How a job goes on, as server-sent events", `
An event is named status, or result for the end, after which the stream ends; its data is what GET of the job answers. The
end is told at once. Other changes are told within some seconds, and those that do not last may be left out.`, 400, 404, 503)
	events.Responses = map[string]*huma.Response{
		"200": {Description: "The events", Content: map[string]*huma.MediaType{"text/event-stream": {Schema: &huma.Schema{Type: huma.TypeString}}}},
		"204": {Description: "The job has ended, and Last-Event-ID names its result: do not ask again"},
	}
	huma.Register(api, events, a.streamEvents)
	huma.Register(api, operation(http.MethodGet, "/v1/session", "getSession", groupJobs, "Who asks, and what they may see and do", ""), a.getSession)
	live := operation(http.MethodGet, livePath, "streamLive", groupJobs, "What happens, as server-sent events", `
An event named hello says who asks; events has entries of the streams of events, gathered for some tenths of a second:
{"events": [...], "dropped": n}, of a tenant's key those of its own jobs. For operators there are also status, which is what
/v1/status answers, and activity, the point of /v1/activity that is under way and the one before. docs/events.md has the fields.`, 403)
	live.Responses = map[string]*huma.Response{"200": {
		Description: "The events", Content: map[string]*huma.MediaType{"text/event-stream": {Schema: &huma.Schema{Type: huma.TypeString}}},
	}}
	huma.Register(api, live, a.streamLive)
}

func (a *API) registerOperation(api huma.API) {
	huma.Register(api, operation(http.MethodGet, "/v1/queues", "getQueues", groupOperator, "The queues, and what is paused", "", 403, 503), a.getQueues)
	for _, button := range []struct {
		name, summary string
		paused        bool
	}{{"pause", "Begin no call of", true}, {"resume", "Go on with", false}} {
		huma.Register(api, operation(http.MethodPost, "/v1/queues/{queue}/"+button.name, button.name+"Queue", groupOperator,
			button.summary+" a queue", "For all workers at once. Calls that are out finish.", 403, 404, 503), a.pauseQueue(button.paused))
		huma.Register(api, operation(http.MethodPost, "/v1/task-types/{task_type}/"+button.name, button.name+"TaskType", groupOperator,
			button.summary+" a task type", "For all workers at once. Calls that are out finish.", 403, 404, 503), a.pauseTaskType(button.paused))
	}
	if a.config.Status != nil {
		huma.Register(api, operation(http.MethodGet, "/v1/status", "getStatus", groupOperator,
			"Queues, workers, waits, endpoints and budget", "The same as `forebay status --json`.", 403, 503), a.getStatus)
	}
	huma.Register(api, operation(http.MethodGet, "/v1/activity", "getActivity", groupOperator, "What the deployment did over time", `
Jobs, calls, their times and costs, in steps of ten seconds for windows of up to an hour, and of ten minutes and more for others.
Times are medians and 95th percentiles, right within 9 %; null where there was nothing.`, 400, 403, 503), a.getActivity)
	if a.config.Metrics != nil {
		metrics := operation(http.MethodGet, metricsPath, "getMetrics", groupOperator,
			"What the process counts, for Prometheus", "docs/metrics.md says what each series is.", 403, 503)
		metrics.Responses = map[string]*huma.Response{"200": {
			Description: "The series", Content: map[string]*huma.MediaType{"text/plain": {Schema: &huma.Schema{Type: huma.TypeString}}},
		}}
		huma.Register(api, metrics, a.getMetrics)
	}
	huma.Register(api, operation(http.MethodGet, healthPath, "getHealth", groupProcess, "200 for as long as the process lives", ""), a.getHealth)
	huma.Register(api, operation(http.MethodGet, readyPath, "getReady", groupProcess,
		"200, or 503 with the reason while jobs cannot be taken in", "", 503), a.getReady)
}

// describeEnqueue says what the body of a POST is, and its answers: huma knows bytes only.
func describeEnqueue(document *huma.OpenAPI) {
	post, registry := document.Paths[jobsPath].Post, document.Components.Schemas
	one, many := schemaOf[tasks.Job](registry), schemaOf[Accepted](registry)
	content := func(s *huma.Schema) map[string]*huma.MediaType {
		return map[string]*huma.MediaType{mediaJSON: {Schema: s}}
	}
	post.RequestBody.Content = content(&huma.Schema{OneOf: []*huma.Schema{one, {Type: huma.TypeArray, Items: one, MaxItems: new(maxJobs)}}})
	location := map[string]*huma.Param{"Location": {Description: "Where the job is read", Schema: &huma.Schema{Type: huma.TypeString}}}
	post.Responses["201"] = &huma.Response{Description: "The job is accepted", Content: content(many), Headers: location}
	post.Responses["200"] = &huma.Response{
		Description: "The job had been accepted before; or what became of each job of an array",
		Content:     content(&huma.Schema{OneOf: []*huma.Schema{many, {Type: huma.TypeArray, Items: many}}}), Headers: location,
	}
}

// describeList says what a list answers: one of two.
func describeList(document *huma.OpenAPI) {
	registry := document.Components.Schemas
	document.Paths[jobsPath].Get.Responses["200"] = &huma.Response{
		Description: "A page of jobs, or with group_by how many there are of each kind",
		Content:     content(&huma.Schema{OneOf: []*huma.Schema{schemaOf[producer.Page](registry), schemaOf[producer.Groups](registry)}}),
	}
}

func content(s *huma.Schema) map[string]*huma.MediaType {
	return map[string]*huma.MediaType{mediaJSON: {Schema: s}}
}
