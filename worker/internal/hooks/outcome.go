package hooks

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/forebay-queue/forebay/tasks/targets"
	"github.com/forebay-queue/forebay/tasks/webhooks"
	"github.com/forebay-queue/forebay/worker/internal/policy"
)

// Class is what an attempt came to. It is the word for it in the history.
type Class string

// The classes of attempts.
const (
	// Delivered was answered with a status of 200 to 299, to the end.
	Delivered Class = "delivered"
	// Gone was answered with 410: the receiver wants no more.
	Gone Class = "gone"
	// Refused was not sent: its target is none that a request may go to.
	Refused Class = "refused"
	// Redirected was answered with a redirect, which is not followed.
	Redirected Class = "redirected"
	// Throttled was answered with 429.
	Throttled Class = "throttled"
	// Rejected was answered with another status of 400 to 499.
	Rejected Class = "rejected"
	// Faulty was answered with another status of 500 and above: by what is behind the URL.
	Faulty Class = "faulty"
	// Unavailable was answered with 502, 503 or 504, or with no status that there is: by what stands before all URLs of the
	// target.
	Unavailable Class = "unavailable"
	// TimedOut had no answer, or not the whole of it, in time.
	TimedOut Class = "timeout"
	// Unresolved has a host of which no name server knows an address.
	Unresolved Class = "dns"
	// Untrusted has a certificate that does not hold, or speaks no TLS.
	Untrusted Class = "tls"
	// Unreachable had no connection.
	Unreachable Class = "unreachable"
	// Broken had an answer that broke off.
	Broken Class = "broken"
	// Abandoned was given up by the worker's own shutdown. It may have arrived.
	Abandoned Class = "abandoned"
)

// longestRest is the longest that a target may ask to be left alone.
const longestRest = 24 * time.Hour

// verdict is what a class means.
type verdict struct {
	state  webhooks.State
	reason string
	// effect is what it says of the target; off switches the URL off.
	effect webhooks.Effect
	off    bool
	// free attempts are not the receiver's fault, and not counted.
	free bool
}

const (
	again = webhooks.Pending
	// waitsBackoff is what a webhook waits for whose attempt failed, waitsRetryAfter where its target named the time.
	waitsBackoff    = "backoff"
	waitsRetryAfter = "retry_after"
)

// verdicts is the one table of what follows. A target that answers, whatever it says, is well enough for others.
var verdicts = map[Class]verdict{
	Delivered:   {state: webhooks.Delivered, effect: webhooks.TargetWell},
	Gone:        {state: webhooks.Dead, reason: webhooks.ReasonGone, effect: webhooks.TargetUnknown, off: true},
	Refused:     {state: webhooks.Dead, reason: webhooks.ReasonRefused, effect: webhooks.TargetUnknown},
	Redirected:  {state: again, reason: waitsBackoff, effect: webhooks.TargetUnknown},
	Throttled:   {state: again, reason: waitsBackoff, effect: webhooks.TargetUnknown},
	Rejected:    {state: again, reason: waitsBackoff, effect: webhooks.TargetUnknown},
	Faulty:      {state: again, reason: waitsBackoff, effect: webhooks.TargetUnknown},
	Unavailable: {state: again, reason: waitsBackoff, effect: webhooks.TargetIll},
	TimedOut:    {state: again, reason: waitsBackoff, effect: webhooks.TargetIll},
	Unresolved:  {state: again, reason: waitsBackoff, effect: webhooks.TargetIll},
	Untrusted:   {state: again, reason: waitsBackoff, effect: webhooks.TargetIll},
	Unreachable: {state: again, reason: waitsBackoff, effect: webhooks.TargetIll},
	Broken:      {state: again, reason: waitsBackoff, effect: webhooks.TargetIll},
	Abandoned:   {state: again, reason: "given_back", effect: webhooks.TargetUnknown, free: true},
}

// Classify says what an attempt came to. It is the only place that reads a status or an error of one. The context is
// that of the attempt, without its timeout.
func Classify(ctx context.Context, answer Answer) Class {
	if answer.Err != nil {
		return classifyError(ctx, answer)
	}
	switch status := answer.Status; {
	case status >= 200 && status <= 299:
		return Delivered
	case status == http.StatusGone:
		return Gone
	case status >= 300 && status <= 399:
		return Redirected
	case status == http.StatusTooManyRequests:
		return Throttled
	case status >= 400 && status <= 499:
		return Rejected
	case status >= 500 && status <= 599 && status != http.StatusBadGateway && status != http.StatusServiceUnavailable && status != http.StatusGatewayTimeout:
		return Faulty
	}
	return Unavailable
}

func classifyError(ctx context.Context, answer Answer) Class {
	var timeout net.Error
	var dns *net.DNSError
	var op *net.OpError
	var record tls.RecordHeaderError
	var certificate *tls.CertificateVerificationError
	var alert tls.AlertError
	switch err := answer.Err; {
	case ctx.Err() != nil:
		return Abandoned
	case errors.Is(err, targets.ErrRefused):
		return Refused
	case answer.Status == http.StatusGone:
		return Gone
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return TimedOut
	case errors.As(err, &dns):
		return Unresolved
	case errors.As(err, &certificate), errors.As(err, &record), errors.As(err, &alert), errors.Is(err, http.ErrSchemeMismatch):
		return Untrusted
	case answer.Status == 0 && errors.As(err, &op) && op.Op == "dial":
		return Unreachable
	}
	return Broken
}

// RetryAfter is how long the target asked to be left alone, up to 24h; 0 when it did not, or was satisfied.
func RetryAfter(answer Answer, now time.Time) time.Duration {
	if answer.Status >= 200 && answer.Status <= 299 || answer.Header == nil {
		return 0
	}
	wait, named := policy.RetryAfter(answer.Header, now)
	if digits := strings.TrimSpace(answer.Header.Get("Retry-After")); !named && digits != "" && strings.Trim(digits, "0123456789") == "" {
		return longestRest // more than a year: it is not to be asked soon
	}
	return wait
}

// Next is what follows from an attempt of a class, which has the wait of its schedule before it, and asked for a rest.
// Where there is no wait in its schedule any more, it was the last.
func Next(class Class, wait time.Duration, last bool, rest time.Duration) webhooks.Next {
	v := verdicts[class]
	next := webhooks.Next{State: v.state, Reason: v.reason, Effect: v.effect, Off: v.off, Free: v.free, Rest: rest}
	switch {
	case v.state != again || v.free:
	case last:
		next.State, next.Reason = webhooks.Dead, webhooks.ReasonExhausted
	case rest > wait:
		next.Reason, next.Wait = waitsRetryAfter, rest
	default:
		next.Wait = wait
	}
	if v.off {
		next.Rest = 0 // it is about the URL, not about the target
	}
	return next
}
