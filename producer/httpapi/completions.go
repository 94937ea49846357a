package httpapi

import (
	"cmp"
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/producer/internal/calls"
	"github.com/forebay-queue/forebay/producer/internal/openai"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
)

const (
	// callWithin is how long a call waits for its answer: as long as OpenAI's clients do by default. They may name
	// another time, up to longestCall.
	callWithin  = 10 * time.Minute
	longestCall = time.Hour
	// callTries is how often OpenAI's clients try by default: the job of a caller that has gone for good need not live
	// longer, wherever its connection was lost.
	callTries = 3
	// leaveWithin bounds what is done once a call is answered, or its client has left.
	leaveWithin = 10 * time.Second
)

type callInput struct {
	IdempotencyKey string `header:"Idempotency-Key" doc:"The id of the call's job, [A-Za-z0-9_-]{1,120}: the same key is the same job, whose answer is sent again. Under a tenant's API key the id is made of the tenant and the key"`
	Priority       string `header:"X-Forebay-Priority" enum:"critical,default,bulk" doc:"Which queue. Defaults to critical: somebody waits"`
	Try            string `header:"X-Stainless-Retry-Count" doc:"Which repetition of the call this is, from 0, as OpenAI's clients say it. One joins the job of an earlier try that was cut off within the last minute"`
	Timeout        string `header:"X-Stainless-Timeout" doc:"How long the client waits, in seconds, at most 3600; 600 without"`
	RawBody        []byte `contentType:"application/json"`
}

// call is a call of OpenAI's API that waits for its job.
type call struct {
	openai.Call
	id     string // of its job
	kept   calls.Call
	within time.Duration
}

// complete serves an endpoint of OpenAI's: it enqueues the call as a job, waits for its end, and answers it.
func (a *API) complete(endpoint string) func(context.Context, *callInput) (*huma.StreamResponse, error) {
	return func(ctx context.Context, input *callInput) (*huma.StreamResponse, error) {
		c, err := a.beginCall(ctx, endpoint, input)
		if err != nil {
			return nil, err
		}
		return &huma.StreamResponse{Body: func(answer huma.Context) {
			_, w := humago.Unwrap(answer)
			header, limits := w.Header(), http.NewResponseController(w)
			header.Set("X-Forebay-Job", c.id)
			header.Set("X-Request-Id", c.id)
			// Not every writer has deadlines. The one for reading would end the request as if its client had left.
			_ = limits.SetReadDeadline(time.Time{})
			_ = limits.SetWriteDeadline(time.Now().Add(c.within + answerWithin))
			a.leaveCall(ctx, c, a.answerCall(ctx, w, c))
		}}, nil
	}
}

// beginCall reads a call and enqueues its job, or finds that of an earlier try.
func (a *API) beginCall(ctx context.Context, endpoint string, input *callInput) (*call, error) {
	if err := mayWrite(ctx); err != nil {
		return nil, err
	}
	key, err := idempotencyKey(ctx, input.IdempotencyKey)
	if err != nil {
		return nil, err
	}
	read, err := openai.Read(endpoint, input.RawBody, a.client.Catalog())
	if err != nil {
		a.series.count(producer.Receipt{}, err)
		return nil, failure("", err)
	}
	if err := takeJobs(ctx, 1); err != nil {
		return nil, err
	}
	c := &call{Call: read, id: key, within: callWithin}
	if seconds := number(input.Timeout); seconds > 0 {
		c.within = time.Duration(min(seconds, int(longestCall/time.Second))) * time.Second
	}
	c.Job.Tenant = cmp.Or(IdentityOf(ctx).Tenant, catalog.DefaultTenant)
	c.Job.Priority = cmp.Or(tasks.Priority(input.Priority), tasks.PriorityCritical)
	c.Job.Deadline = new(time.Now().Add(callTries*max(c.within, callWithin) + calls.Grace))
	ctx, cancel := context.WithTimeout(ctx, writeWithin)
	defer cancel()
	if key == "" {
		asked := calls.Asked{Tenant: c.Job.Tenant, Endpoint: endpoint, Body: input.RawBody, Try: number(input.Try)}
		if c.kept, err = a.calls.Begin(ctx, asked, c.within+calls.Grace); err != nil {
			return nil, errStore()
		}
		c.id = c.kept.Job
	}
	c.Job.ID = c.id
	receipt, err := a.client.Enqueue(ctx, c.Job)
	a.series.count(receipt, err)
	if err != nil {
		if refusal := openai.Refusal(err); refusal != nil {
			_ = a.calls.Forget(ctx, c.kept) // else it is forgotten by itself
			return nil, failure(c.id, refusal)
		}
		return nil, failure(c.id, err)
	}
	return c, nil
}

// number reads a header that OpenAI's clients set. What is no number is 0.
func number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0
	}
	return max(n, 0)
}

// left says what a call leaves behind.
type left int

const (
	// leftAnswered: nothing more is to be done.
	leftAnswered left = iota
	// leftOpen: the next try finds the job.
	leftOpen
	// leftAlone is the same, and the client may not come again: what was not begun is not begun any more.
	leftAlone
)

// answerCall waits for the end of a call's job and answers it.
func (a *API) answerCall(ctx context.Context, w http.ResponseWriter, c *call) left {
	waiting, cancel := context.WithTimeout(ctx, c.within)
	defer cancel()
	defer context.AfterFunc(a.draining, cancel)()
	type end struct {
		result tasks.Result
		err    error
	}
	ended := make(chan end, 1)
	go func() {
		result, err := a.awaitCall(waiting, c.id)
		ended <- end{result, err}
	}()
	out := newCallWriter(w, c)
	heartbeat := time.NewTicker(a.config.Heartbeat)
	defer heartbeat.Stop()
	for {
		select {
		case <-heartbeat.C:
			if c.Stream && out.comment() != nil {
				cancel()
			}
		case end := <-ended:
			return a.answerEnd(ctx, out, c, end.result, end.err)
		}
	}
}

func (a *API) answerEnd(ctx context.Context, out *callWriter, c *call, result tasks.Result, err error) left {
	switch {
	case err == nil:
		if out.end(openai.AnswerOf(result)) != nil {
			return leftOpen
		}
		return leftAnswered
	case ctx.Err() != nil, out.err != nil:
		return leftAlone
	case a.draining.Err() != nil:
		out.refuse(apiError{
			status: http.StatusServiceUnavailable, code: "shutting_down",
			message: "this process is ending, and the job " + c.id + " goes on; send the call again, as a repetition",
		})
	case failureIsTimeout(err):
		out.refuse(apiError{
			status: http.StatusGatewayTimeout, code: "timeout",
			message: "no answer came within " + c.within.String() + ", and the job " + c.id + " goes on; send the call again, as a repetition",
		})
	default:
		out.refuse(*failure(c.id, err))
	}
	return leftOpen
}

// leaveCall says what has become of a call to those who come after.
func (a *API) leaveCall(ctx context.Context, c *call, how left) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveWithin)
	defer cancel()
	// What fails here is forgotten by itself, and the job has a deadline.
	if how == leftAnswered {
		_ = a.calls.Forget(ctx, c.kept)
		return
	}
	if ours, err := a.calls.Leave(ctx, c.kept); err == nil && ours && how == leftAlone {
		_ = a.client.Withdraw(ctx, c.id)
	}
}
