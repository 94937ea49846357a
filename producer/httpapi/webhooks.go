package httpapi

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/webhooks"
)

const (
	webhooksPath = "/v1/webhooks"
	webhookPath  = webhooksPath + "/{id}"
	targetsPath  = "/v1/webhook-targets"
)

type webhookInput struct {
	ID string `path:"id" maxLength:"4096" doc:"The webhook's id"`
}

type webhookOutput struct{ Body tasks.WebhookStatus }

type webhooksInput struct {
	State  string    `query:"state" enum:"pending,delivered,dead,discarded" doc:"How they stand"`
	Event  string    `query:"event" maxLength:"64" doc:"What they tell of, such as job.failed"`
	Job    string    `query:"job" maxLength:"128" doc:"The job that they tell of"`
	Batch  string    `query:"batch" maxLength:"128" doc:"The batch that they tell of"`
	Reason string    `query:"reason" maxLength:"64" doc:"Why they are dead"`
	Target string    `query:"target" maxLength:"2048" doc:"A host, an origin such as https://example.com:443, or a URL"`
	Tenant string    `query:"tenant" maxLength:"64" doc:"Whose; for operators, whose default is everybody's"`
	Since  time.Time `query:"since" doc:"What they tell of happened at this moment or later, RFC 3339"`
	Until  time.Time `query:"until" doc:"It happened before this moment"`
	Cursor string    `query:"cursor" maxLength:"256" doc:"The next of the page before"`
	Limit  int       `query:"limit" default:"50" minimum:"1" maximum:"1000" doc:"How many a page has"`
}

type webhookList struct {
	Webhooks []tasks.WebhookStatus `json:"webhooks" doc:"The newest first, with their last attempts only"`
	Next     string                `json:"next,omitempty" doc:"Where the next page begins; absent at the end. A page may have fewer than were asked for, or none, and a next"`
}

type webhooksOutput struct{ Body webhookList }

type testInput struct {
	Wait    string `query:"wait" example:"30s" doc:"How long to wait for the attempt, such as 30s or a number of seconds, which is the default; at most 60s"`
	RawBody []byte `contentType:"application/json"`
}

type testAsked struct {
	URL     string            `json:"url" doc:"The target"`
	Secret  string            `json:"secret,omitempty" doc:"The name of the secret that signs it; default"`
	Headers map[string]string `json:"headers,omitempty" doc:"Headers to send with it, whose names begin with X-"`
	Tenant  string            `json:"tenant,omitempty" doc:"Whose webhook it is; for operators, whose default is default"`
}

type tenantInput struct {
	Tenant string `query:"tenant" maxLength:"64" doc:"Whose; for operators"`
}

type targetsOutput struct {
	Body struct {
		Tenant  string                  `json:"tenant" doc:"Whose they are"`
		Targets []webhooks.TargetStatus `json:"targets" doc:"Those used last are first"`
	}
}

type secretsOutput struct {
	Body struct {
		Secrets []producer.WebhookSecret `json:"secrets" doc:"Without their values"`
	}
}

type switchInput struct {
	Body struct {
		URL    string `json:"url" maxLength:"2048" doc:"The URL that answered 410"`
		Tenant string `json:"tenant,omitempty" maxLength:"64" doc:"Whose target; for operators, whose default is default"`
	}
}

type switchOutput struct {
	Body struct {
		WasOff bool `json:"was_off" doc:"Whether the URL was off"`
	}
}

func (a *API) registerWebhooks(api huma.API) {
	huma.Register(api, operation(http.MethodGet, webhooksPath, "listWebhooks", groupWebhooks, "List webhooks", `
The newest first. Those that ran out of attempts are dead, and stay until somebody decides.`, 400, 403, 503), a.listWebhooks)
	huma.Register(api, operation(http.MethodGet, webhookPath, "getWebhook", groupWebhooks, "How a webhook stands, with its attempts", "", 404, 503), a.getWebhook)
	for _, verb := range []struct {
		name, summary, description string
		do                         func(ctx context.Context, id, tenant string) error
	}{
		{"redeliver", "Send a webhook again", `
Its schedule begins anew, whatever has become of it, and its id stays the same, so that receivers which have seen it can tell.`, a.client.Webhooks().Redeliver},
		{"discard", "Give a webhook up", `
One that is pending or dead is not tried any more. Its record is kept for as long as that of a delivered one.`, a.client.DiscardWebhook},
	} {
		huma.Register(api, operation(http.MethodPost, webhookPath+"/"+verb.name, verb.name+"Webhook", groupWebhooks,
			verb.summary, verb.description, 403, 404, 409, 503), a.changeWebhook(verb.do))
	}
	test := operation(http.MethodPost, targetsPath+"/test", "testWebhook", groupWebhooks, "Try a target", `
A webhook.test is sent as any other webhook is, by a worker and through the queue, and its attempt is waited for. It is
tried once: what was not delivered is discarded.`, 400, 403, 415, 503)
	test.SkipValidateBody, test.MaxBodyBytes = true, 1<<16
	huma.Register(api, test, a.testWebhook)
	api.OpenAPI().Paths[targetsPath+"/test"].Post.RequestBody.Content = content(schemaOf[testAsked](api.OpenAPI().Components.Schemas))
	huma.Register(api, operation(http.MethodGet, "/v1/webhook-secrets", "listWebhookSecrets", groupWebhooks,
		"The secrets that webhooks are signed with", "Their names and fingerprints, never their values.", 403), a.listSecrets)
	huma.Register(api, operation(http.MethodGet, targetsPath, "listWebhookTargets", groupWebhooks,
		"How the targets of a tenant's webhooks stand", "", 403, 503), a.listTargets)
	on := operation(http.MethodPost, targetsPath+"/switch-on", "switchOnWebhookTarget", groupWebhooks,
		"Use a URL again that answered 410", "And its target at once, if its breaker is open.", 400, 403, 404, 415, 503)
	huma.Register(api, on, a.switchOn)
}

// webhookTenant is whose webhooks a request is about: its own, or for an operator whom it names, else otherwise.
func webhookTenant(ctx context.Context, named, otherwise string) (string, error) {
	identity := IdentityOf(ctx)
	switch {
	case identity.Operator:
		return cmp.Or(named, otherwise), nil
	case identity.Tenant == "" || (named != "" && named != identity.Tenant):
		return "", &apiError{
			status: http.StatusForbidden, code: "tenant_forbidden", param: "tenant",
			message: "tenant: this key sees the webhooks of its own tenant only; leave it out",
		}
	}
	return identity.Tenant, nil
}

func webhookFailure(id string, err error) *apiError {
	switch {
	case errors.Is(err, webhooks.ErrNotFound):
		return &apiError{
			status: http.StatusNotFound, code: "webhook_not_found", param: "id",
			message: "there is no webhook " + shortened(id) + ": the id is wrong, or its retention has passed",
		}
	case errors.Is(err, webhooks.ErrEnded):
		return &apiError{
			status: http.StatusConflict, code: "webhook_ended", param: "id",
			message: "webhook " + shortened(id) + " has been delivered, or was discarded before",
		}
	case errors.Is(err, webhooks.ErrCursor):
		return badParam("cursor", "is none of this list; take the `next` of the page before, or leave it out to begin")
	}
	return failure(id, err)
}

// webhook reads a webhook that the request may see. Another tenant's is answered as one that is not there.
func (a *API) webhook(ctx context.Context, id string) (*webhooks.Record, error) {
	tenant, seen := readsAs(ctx)
	if !seen || !tasks.ValidID(id) {
		return nil, webhookFailure(id, webhooks.ErrNotFound)
	}
	ctx, cancel := context.WithTimeout(ctx, readWithin)
	defer cancel()
	record, err := a.client.Webhooks().Get(ctx, id, tenant)
	if err != nil {
		return nil, webhookFailure(id, err)
	}
	return record, nil
}

func (a *API) getWebhook(ctx context.Context, input *webhookInput) (*webhookOutput, error) {
	record, err := a.webhook(ctx, input.ID)
	if err != nil {
		return nil, err
	}
	return &webhookOutput{record.Status()}, nil
}

func (a *API) listWebhooks(ctx context.Context, input *webhooksInput) (*webhooksOutput, error) {
	tenant, err := webhookTenant(ctx, input.Tenant, "")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, listWithin)
	defer cancel()
	page, err := a.client.Webhooks().List(ctx, webhooks.Filter{
		Tenant: tenant, State: webhooks.State(input.State), Event: input.Event, Job: input.Job, Batch: input.Batch,
		Reason: input.Reason, Target: input.Target, Since: input.Since, Before: input.Until, After: input.Cursor, Limit: input.Limit,
	})
	if err != nil {
		return nil, webhookFailure("", err)
	}
	list := webhookList{Webhooks: []tasks.WebhookStatus{}, Next: page.Next}
	for _, record := range page.Webhooks {
		list.Webhooks = append(list.Webhooks, record.Brief())
	}
	return &webhooksOutput{list}, nil
}

// changeWebhook does something to one webhook, and answers how it stands then.
func (a *API) changeWebhook(change func(ctx context.Context, id, tenant string) error) func(context.Context, *webhookInput) (*webhookOutput, error) {
	return func(ctx context.Context, input *webhookInput) (*webhookOutput, error) {
		record, err := a.webhook(ctx, input.ID)
		if err != nil {
			return nil, err
		}
		if err := mayWrite(ctx); err != nil {
			return nil, err
		}
		if err := takeJobs(ctx, 1); err != nil {
			return nil, err
		}
		writing, cancel := context.WithTimeout(ctx, writeWithin)
		defer cancel()
		if err := change(writing, record.ID, record.Tenant); err != nil {
			return nil, webhookFailure(input.ID, err)
		}
		return a.getWebhook(ctx, input)
	}
}

// testWebhook tries a target, and answers what came of it.
func (a *API) testWebhook(ctx context.Context, input *testInput) (*webhookOutput, error) {
	if err := mayWrite(ctx); err != nil {
		return nil, err
	}
	var asked testAsked
	if err := json.Unmarshal(input.RawBody, &asked); err != nil {
		return nil, &apiError{status: http.StatusBadRequest, code: "invalid_json", message: "the body must be a JSON object with url, and where they are needed secret and headers"}
	}
	tenant, err := webhookTenant(ctx, asked.Tenant, catalog.DefaultTenant)
	if err != nil {
		return nil, err
	}
	wait, err := parseWait(cmp.Or(input.Wait, producer.WebhookTestWithin.String()))
	if err != nil {
		return nil, err
	}
	if err := takeJobs(ctx, 1); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	defer context.AfterFunc(a.draining, cancel)()
	status, err := a.client.TestWebhook(ctx, tenant, tasks.Webhook{URL: asked.URL, Secret: asked.Secret, Headers: asked.Headers})
	if err != nil {
		problem := webhookFailure("", err)
		if problem.code == "invalid_job" { // what is wrong is the question
			problem.code = "invalid_request"
		}
		return nil, problem
	}
	return &webhookOutput{status}, nil
}

// listSecrets names the secrets. Where they are is for operators.
func (a *API) listSecrets(ctx context.Context, input *tenantInput) (*secretsOutput, error) {
	tenant, err := webhookTenant(ctx, input.Tenant, "")
	if err != nil {
		return nil, err
	}
	var output secretsOutput
	output.Body.Secrets = producer.WebhookSecrets(a.client.Catalog(), tenant)
	if !IdentityOf(ctx).Operator {
		for _, secret := range output.Body.Secrets {
			for i := range secret.Keys {
				secret.Keys[i].From, secret.Keys[i].Problem = "", ""
			}
		}
	}
	return &output, nil
}

func (a *API) listTargets(ctx context.Context, input *tenantInput) (*targetsOutput, error) {
	tenant, err := webhookTenant(ctx, input.Tenant, catalog.DefaultTenant)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, readWithin)
	defer cancel()
	targets, err := a.client.Webhooks().Targets(ctx, tenant)
	if err != nil {
		return nil, errStore()
	}
	var output targetsOutput
	output.Body.Tenant, output.Body.Targets = tenant, []webhooks.TargetStatus{}
	for _, target := range targets {
		output.Body.Targets = append(output.Body.Targets, target.Status())
	}
	return &output, nil
}

func (a *API) switchOn(ctx context.Context, input *switchInput) (*switchOutput, error) {
	if err := mayWrite(ctx); err != nil {
		return nil, err
	}
	tenant, err := webhookTenant(ctx, input.Body.Tenant, catalog.DefaultTenant)
	if err != nil {
		return nil, err
	}
	if _, err := webhooks.Origin(input.Body.URL); err != nil {
		return nil, badParam("url", "must be the URL of a target, such as https://example.com/hooks")
	}
	ctx, cancel := context.WithTimeout(ctx, writeWithin)
	defer cancel()
	was, err := a.client.Webhooks().SwitchOn(ctx, tenant, input.Body.URL)
	switch {
	case errors.Is(err, webhooks.ErrUnknownTarget):
		return nil, &apiError{
			status: http.StatusNotFound, code: "target_not_found", param: "url",
			message: "url: no webhook of the tenant was ever sent to its host; see GET " + targetsPath,
		}
	case err != nil:
		return nil, errStore()
	}
	var output switchOutput
	output.Body.WasOff = was
	return &output, nil
}
