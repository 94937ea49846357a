package producer

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/envelope"
	"github.com/forebay-queue/forebay/tasks/tracing"
)

const (
	defaultTries = 5
	// askFor is how long one request waits for a job's end; a Wait is made of as many as it takes.
	askFor = 30 * time.Second
	// answerWithin bounds a request beyond what it waits for.
	answerWithin = time.Minute
)

// HTTPConfig configures an HTTPClient. A zero field means its documented default.
type HTTPConfig struct {
	// URL is the address of `forebay producer`, such as https://forebay.example.com. Required.
	URL string
	// Key is the API key; a server on loopback may need none.
	Key string
	// Tries is how often a request is sent that gets no answer, or one that says to try again. What is repeated does
	// nothing twice: a job without an id is given one before it is sent. Defaults to 5, over some seconds; waiting for
	// the time that a rate limit names is not counted.
	Tries int
	// HTTPClient makes the requests. Defaults to one that follows no redirects.
	HTTPClient *http.Client
}

func (c HTTPConfig) validate() (*url.URL, error) {
	base, err := url.Parse(c.URL)
	switch {
	case c.URL == "":
		err = errors.New("producer: HTTPConfig.URL is missing; give it the address of `forebay producer`")
	case err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" || base.User != nil || base.RawQuery != "":
		err = errors.New("producer: HTTPConfig.URL must be an address such as https://forebay.example.com; the key has a field of its own")
	case c.Tries < 0:
		err = fmt.Errorf("producer: HTTPConfig.Tries must be at least 1, got %d", c.Tries)
	}
	return base, err
}

// HTTPClient is Jobs over HTTP. It may be used by any number of goroutines. What a server refuses is an *HTTPError
// that wraps what the Client's error would wrap.
type HTTPClient struct {
	base   *url.URL
	key    string
	tries  int
	client *http.Client

	closed context.Context //nolint:containedctx // the life of the client, which no single call has
	close  context.CancelFunc
}

// NewHTTP returns an HTTPClient. It sends nothing yet: see Ready.
func NewHTTP(config HTTPConfig) (*HTTPClient, error) {
	base, err := config.validate()
	if err != nil {
		return nil, err
	}
	if config.Tries == 0 {
		config.Tries = defaultTries
	}
	if config.HTTPClient == nil {
		config.HTTPClient = &http.Client{
			Transport:     http.DefaultTransport.(*http.Transport).Clone(), //nolint:forcetypeassert // net/http's own
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	c := &HTTPClient{base: base, key: config.Key, tries: config.Tries, client: config.HTTPClient}
	c.closed, c.close = context.WithCancel(context.Background())
	return c, nil
}

// Close ends every call, and the connections that are idle.
func (c *HTTPClient) Close() error {
	c.close()
	c.client.CloseIdleConnections()
	return nil
}

// Ready reports whether the server takes jobs in.
func (c *HTTPClient) Ready(ctx context.Context) error {
	return c.call(ctx, request{method: http.MethodGet, path: "/readyz"}, nil)
}

// accepted is what the server answers for one job.
type accepted struct {
	ID      string       `json:"id"`
	Created bool         `json:"created"`
	Status  tasks.Status `json:"status"`
	Error   *HTTPError   `json:"error"`
}

// Enqueue accepts a job, as Client.Enqueue does. A receipt's Created is false also where the answer to an earlier try
// was lost.
func (c *HTTPClient) Enqueue(ctx context.Context, job tasks.Job) (Receipt, error) {
	body, err := encodeJob(&job)
	receipt := Receipt{ID: job.ID}
	if err != nil {
		return receipt, err
	}
	var answer accepted
	ctx = tracing.With(ctx, job.Trace)
	if err := c.call(ctx, request{method: http.MethodPost, path: "/v1/jobs", body: body, repeat: true}, &answer); err != nil {
		return receipt, enqueueError(job.ID, err)
	}
	receipt.Created, receipt.Status = answer.Created, answer.Status
	return receipt, nil
}

// encodeJob checks a job as far as it can be without the server's catalog, and gives it an id.
func encodeJob(job *tasks.Job) ([]byte, error) {
	named := func(err error) error {
		if tasks.ValidID(job.ID) {
			return fmt.Errorf("job %s: %w", job.ID, err)
		}
		return err
	}
	if err := job.Validate(); err != nil {
		return nil, named(err)
	}
	if job.ID == "" {
		id, err := uuid.NewV7()
		if err != nil {
			return nil, fmt.Errorf("make an id for a job: %w", err)
		}
		job.ID = id.String()
	}
	body, err := tasks.Encode(job)
	if err != nil {
		return nil, named(&tasks.FieldError{Field: "request", Problem: "cannot be written as JSON: " + err.Error()})
	}
	return body, nil
}

// EnqueueMany is Enqueue for any number of jobs, some hundred to a request. It takes jobs only as its results are
// read, and none after ctx has ended.
func (c *HTTPClient) EnqueueMany(ctx context.Context, jobs iter.Seq[tasks.Job]) iter.Seq2[Receipt, error] {
	return func(yield func(Receipt, error) bool) {
		first := 0
		for chunk := range chunks(jobs) {
			receipts, errs := c.enqueueChunk(ctx, chunk, first)
			for i, receipt := range receipts {
				if !yield(receipt, errs[i]) {
					return
				}
			}
			if ctx.Err() != nil {
				return
			}
			first += len(chunk)
		}
	}
}

func (c *HTTPClient) enqueueChunk(ctx context.Context, jobs []tasks.Job, first int) ([]Receipt, []error) {
	receipts, errs := make([]Receipt, len(jobs)), make([]error, len(jobs))
	bodies := make([][]byte, len(jobs))
	var left []int // the places of those without an answer
	for i := range jobs {
		bodies[i], errs[i] = encodeJob(&jobs[i])
		receipts[i].Index, receipts[i].ID = first+i, jobs[i].ID
		if errs[i] == nil {
			left = append(left, i)
		}
	}
	for try := 1; len(left) > 0; try++ {
		texts := make([][]byte, len(left))
		for at, i := range left {
			texts[at] = bodies[i]
		}
		body := append(append([]byte("["), bytes.Join(texts, []byte(","))...), ']')
		var answers []accepted
		err := c.call(ctx, request{method: http.MethodPost, path: "/v1/jobs", body: body, repeat: true}, &answers)
		if err == nil && len(answers) != len(left) {
			err = fmt.Errorf("%s answered for %d jobs of %d", c.base.Host, len(answers), len(left))
		}
		var again []int
		for at, i := range left {
			switch {
			case err != nil:
				errs[i] = enqueueError(jobs[i].ID, err)
			case answers[at].Error == nil:
				receipts[i].Created, receipts[i].Status, errs[i] = answers[at].Created, answers[at].Status, nil
			default:
				errs[i] = enqueueError(jobs[i].ID, answers[at].Error)
				if answers[at].Error.passes() {
					again = append(again, i)
				}
			}
		}
		if left = again; try == c.tries || len(left) > 0 && pause(ctx, backoff(try)) != nil {
			break
		}
	}
	return receipts, errs
}

// Get reads how a job stands. It answers ErrNotFound for a job that is not there, or another tenant's.
func (c *HTTPClient) Get(ctx context.Context, id string) (tasks.Result, error) {
	return c.job(ctx, id, request{method: http.MethodGet, repeat: true})
}

// Wait returns the job's result once it has ended, for as long as ctx lasts.
func (c *HTTPClient) Wait(ctx context.Context, id string) (tasks.Result, error) {
	for {
		result, err := c.job(ctx, id, request{
			method: http.MethodGet, query: url.Values{"wait": {askFor.String()}}, wait: askFor, repeat: true,
		})
		if err != nil || result.Status.Ended() {
			return result, err
		}
	}
}

// Cancel ends a job, as Client.Cancel does.
func (c *HTTPClient) Cancel(ctx context.Context, id string) (tasks.Result, error) {
	return c.job(ctx, id, request{method: http.MethodDelete, repeat: true})
}

// Reopen runs a job again, as Client.Reopen does. It is not sent again when its answer is lost: Get tells what it did.
func (c *HTTPClient) Reopen(ctx context.Context, id string) (tasks.Result, error) {
	return c.job(ctx, id, request{method: http.MethodPost, path: "/retry"})
}

// ReopenRun runs a job again whose run is the given one, as Client.ReopenRun does. It is not sent again when its answer
// is lost.
func (c *HTTPClient) ReopenRun(ctx context.Context, id string, run int) (tasks.Result, error) {
	return c.job(ctx, id, request{method: http.MethodPost, path: "/retry", query: runQuery(run)})
}

// Discard deletes all that is kept of a job which has ended, as Client.Discard does. It is not sent again when its answer
// is lost: Get tells whether the job is still there.
func (c *HTTPClient) Discard(ctx context.Context, id string, run int) error {
	_, err := c.job(ctx, id, request{method: http.MethodPost, path: "/discard", query: runQuery(run)})
	return err
}

func runQuery(run int) url.Values {
	if run == 0 {
		return nil
	}
	return url.Values{"run": {fmt.Sprint(run)}}
}

func (c *HTTPClient) job(ctx context.Context, id string, r request) (tasks.Result, error) {
	if err := checkID(id); err != nil {
		return tasks.Result{}, err
	}
	r.path = "/v1/jobs/" + id + r.path
	var result tasks.Result
	if err := c.call(ctx, r, &result); err != nil {
		return tasks.Result{}, named(id, fmt.Errorf("job %s: %w", id, err))
	}
	return result, nil
}

// List reads a part of the jobs that a filter means, as Client.List does.
func (c *HTTPClient) List(ctx context.Context, filter Filter, cursor string, limit int) (Page, error) {
	query := filterQuery(filter)
	set(query, "cursor", cursor)
	if limit != 0 {
		query.Set("limit", fmt.Sprint(limit))
	}
	var page Page
	err := c.call(ctx, request{method: http.MethodGet, path: "/v1/jobs", query: query, repeat: true}, &page)
	return page, err
}

// Group counts the jobs that a filter means, as Client.Group does.
func (c *HTTPClient) Group(ctx context.Context, filter Filter, by string) (Groups, error) {
	query := filterQuery(filter)
	query.Set("group_by", by)
	var groups Groups
	err := c.call(ctx, request{method: http.MethodGet, path: "/v1/jobs", query: query, repeat: true}, &groups)
	return groups, err
}

func set(query url.Values, name, value string) {
	if value != "" {
		query.Set(name, value)
	}
}

// filterQuery writes a filter as parameters: several values of one are separated by commas.
func filterQuery(filter Filter) url.Values {
	query := url.Values{}
	statuses := make([]string, len(filter.Statuses))
	for i, status := range filter.Statuses {
		statuses[i] = string(status)
	}
	set(query, "status", strings.Join(statuses, ","))
	set(query, "task_type", strings.Join(taskTypeNames(filter.TaskTypes), ","))
	set(query, "tenant", filter.Tenant)
	set(query, "code", strings.Join(filter.Codes, ","))
	set(query, "text", filter.Text)
	set(query, "batch", filter.Batch)
	for name, at := range map[string]time.Time{"since": filter.Since, "until": filter.Until} {
		if !at.IsZero() {
			query.Set(name, at.UTC().Format(time.RFC3339Nano))
		}
	}
	return query
}

// taskTypeNames are task types as they are written where an empty word would be none.
func taskTypeNames(taskTypes []string) []string {
	names := make([]string, len(taskTypes))
	for i, name := range taskTypes {
		names[i] = cmp.Or(name, envelope.Adhoc)
	}
	return names
}
