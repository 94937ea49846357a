package producer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/tracing"
)

const (
	backoffFirst = 200 * time.Millisecond
	backoffMost  = 5 * time.Second
	// maxAnswer bounds what is read of an answer.
	maxAnswer = 256 << 20
)

// HTTPError is what a server refuses a request with.
type HTTPError struct {
	// Status is HTTP's; 0 for one job of several.
	Status int `json:"-"`
	// Code is a word for programs, such as "job_not_found".
	Code string `json:"code"`
	// Param is the field or parameter that is wrong, or empty.
	Param string `json:"param"`
	// Message says what happened and what to do.
	Message string `json:"message"`

	retryAfter time.Duration
}

// Error implements error.
func (e *HTTPError) Error() string {
	if e.Status == 0 {
		return e.Message
	}
	return fmt.Sprintf("%s (HTTP %d, %s)", e.Message, e.Status, e.Code)
}

// Unwrap is what a Client's error would wrap.
func (e *HTTPError) Unwrap() error {
	switch e.Code {
	case "job_not_found":
		return ErrNotFound
	case "id_conflict":
		return ErrIDConflict
	case "not_ended":
		return ErrNotEnded
	case "succeeded":
		return ErrSucceeded
	case "stale_run":
		return ErrStaleRun
	case "refused":
		return ErrRefused
	case "store_full":
		return ErrFull
	}
	if e.Status != 0 && e.Status != http.StatusBadRequest && e.Status != http.StatusRequestEntityTooLarge || e.passes() {
		return nil
	}
	if e.Param != "" {
		return &tasks.FieldError{Field: e.Param, Problem: strings.TrimPrefix(e.Message, e.Param+": ")}
	}
	return tasks.ErrInvalidJob
}

// passes tells that the same request may succeed later.
func (e *HTTPError) passes() bool {
	switch e.Status {
	case 0:
		return e.Code == "store_unavailable" || e.Code == "store_full" || e.Code == "rate_limited"
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout, http.StatusRequestTimeout:
		return true
	}
	return false
}

// enqueueError is why a job was not accepted, or that nobody knows whether it was.
func enqueueError(id string, err error) error {
	var refused *HTTPError
	if errors.As(err, &refused) && !refused.passes() {
		return fmt.Errorf("job %s: %w", id, err)
	}
	return fmt.Errorf("%w: %w; enqueue job %s again, which repeats nothing", ErrUnaccepted, err, id)
}

// request is one call of the API.
type request struct {
	method, path string
	query        url.Values
	body         []byte
	// wait is how long the server may take beyond the usual.
	wait time.Duration
	// repeat tells that a request without an answer may be sent again.
	repeat bool
}

// call makes a request, and repeats it where that may help and does nothing twice.
func (c *HTTPClient) call(ctx context.Context, r request, into any) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(c.closed, func() { cancel(errors.New("the client is closed")) })()
	for try := 1; ; {
		err := c.once(ctx, r, into)
		var refused *HTTPError
		answered := errors.As(err, &refused)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case answered && !refused.passes():
			return err
		case answered && refused.Status == http.StatusTooManyRequests:
			// A rate limit costs no try: whoever waits as told gets through.
			if pause(ctx, max(refused.retryAfter, backoff(1))) != nil {
				return fmt.Errorf("%w; the last answer was: %w", context.Cause(ctx), err)
			}
			continue
		case !answered && !r.repeat, try == c.tries:
			return err
		}
		wait := backoff(try)
		if answered {
			wait = max(wait, refused.retryAfter)
		}
		if pause(ctx, wait) != nil {
			return fmt.Errorf("%w; the last try: %w", context.Cause(ctx), err)
		}
		try++
	}
}

// once makes a request.
func (c *HTTPClient) once(ctx context.Context, r request, into any) error {
	ctx, cancel := context.WithTimeout(ctx, answerWithin+r.wait)
	defer cancel()
	address := c.base.JoinPath(r.path)
	address.RawQuery = r.query.Encode()
	sent, err := http.NewRequestWithContext(ctx, r.method, address.String(), bytes.NewReader(r.body))
	if err != nil {
		return err
	}
	if r.body != nil {
		sent.Header.Set("Content-Type", "application/json")
	}
	if c.key != "" {
		sent.Header.Set("Authorization", "Bearer "+c.key)
	}
	tracing.SetHeader(sent.Header, tracing.Of(ctx))
	answer, err := c.client.Do(sent)
	if err != nil {
		var from *url.Error
		if errors.As(err, &from) {
			err = from.Err // without the address, which may say which texts were looked for
		}
		return fmt.Errorf("reach Forebay at %s: %w", c.base.Host, err)
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("read the answer of Forebay at %s: %w", c.base.Host, err)
	}
	if answer.StatusCode < 200 || answer.StatusCode > 299 {
		return c.refusal(answer, data)
	}
	if into != nil && json.Unmarshal(data, into) != nil {
		return &HTTPError{
			Status: answer.StatusCode, Code: "no_answer",
			Message: c.base.Host + " answered what is no answer of Forebay's; check the address",
		}
	}
	return nil
}

// refusal reads an error in OpenAI's form.
func (c *HTTPClient) refusal(answer *http.Response, data []byte) *HTTPError {
	var envelope struct {
		Error *HTTPError `json:"error"`
	}
	if json.Unmarshal(data, &envelope) != nil || envelope.Error == nil || envelope.Error.Code == "" {
		envelope.Error = &HTTPError{
			Code:    "no_answer",
			Message: c.base.Host + " answered with " + answer.Status + ", and not as Forebay does; check the address",
		}
	}
	envelope.Error.Status = answer.StatusCode
	if seconds, err := strconv.Atoi(answer.Header.Get("Retry-After")); err == nil && seconds > 0 {
		envelope.Error.retryAfter = time.Duration(seconds) * time.Second
	}
	return envelope.Error
}

// backoff is how long to wait after a try, with jitter.
func backoff(try int) time.Duration {
	wait := backoffMost
	if try < 5 {
		wait = min(wait, backoffFirst<<(try-1))
	}
	return wait/2 + rand.N(wait/2)
}

// pause waits, or answers why ctx ended before.
func pause(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
