package httpapi

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
)

// resultInput is a link of catalog.ResultLink.
type resultInput struct {
	ID        string `path:"id" maxLength:"4096" doc:"The job's id"`
	Run       int    `query:"run" required:"true" minimum:"1" doc:"Which run of the job"`
	Expires   int64  `query:"expires" required:"true" doc:"When the link ceases to work, in seconds since 1970"`
	Secret    string `query:"secret" required:"true" maxLength:"64" doc:"The name of the secret that it is signed with"`
	Signature string `query:"signature" required:"true" maxLength:"128" doc:"The signature"`
}

// isResultLink tells of a request that brings its own leave: one link to one result.
func isResultLink(r *http.Request) bool {
	id, found := strings.CutPrefix(r.URL.Path, jobsPath+"/")
	id, link := strings.CutSuffix(id, "/result")
	return found && link && r.Method == http.MethodGet && tasks.ValidID(id) && len(r.Header.Values("Authorization")) == 0
}

// linkedResult answers a link that a webhook has brought. What is wrong with one does not say whether there is such a job.
func (a *API) linkedResult(ctx context.Context, input *resultInput) (*jobOutput, error) {
	known := a.client.Catalog()
	if known == nil || !tasks.ValidID(input.ID) {
		return nil, errNoLink(catalog.ErrLink)
	}
	reading, cancel := context.WithTimeout(ctx, readWithin)
	defer cancel()
	result, err := a.client.Get(reading, input.ID)
	problem := (*apiError)(nil)
	unread := errors.Is(err, producer.ErrUnreadable) // which is told only to whoever has a good link
	if err != nil && !unread && errors.As(failure(input.ID, err), &problem) && problem.status == http.StatusServiceUnavailable {
		return nil, problem
	}
	run, bad := known.CheckResultLink(result.Tenant, input.ID, url.Values{
		"run": {strconv.Itoa(input.Run)}, "expires": {strconv.FormatInt(input.Expires, 10)},
		"secret": {input.Secret}, "signature": {input.Signature},
	}, time.Now())
	switch {
	case bad != nil:
		return nil, errNoLink(bad)
	case unread:
		return nil, errUnreadable(err)
	case run != result.Run:
		return nil, &apiError{
			status: http.StatusNotFound, code: "run_not_found", param: "run",
			message: "the job has been run again since this link was made; read it with an API key",
		}
	}
	result.Webhooks, result.Waits = nil, nil // where the tenant's messages go, and whose limits there are, is not for whoever has the link
	return &jobOutput{result}, nil
}

func errNoLink(err error) *apiError {
	return &apiError{status: http.StatusForbidden, code: "invalid_link", message: err.Error()}
}
