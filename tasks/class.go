package tasks

// Class says what kind of failure an attempt or a job ended with. Every failure is given its class once, in one
// place; everything that follows from it stands in the worker's one table.
type Class string

// The classes of failures.
const (
	// ClassInvalid is a request that no endpoint would accept.
	ClassInvalid Class = "invalid"
	// ClassAuth is a key that the provider refuses, or of the wrong shape.
	ClassAuth Class = "auth"
	// ClassQuota is an account without money left.
	ClassQuota Class = "quota"
	// ClassNotServed is a model that this endpoint does not have.
	ClassNotServed Class = "not_served"
	// ClassMisconfigured is an address that is no such API: redirects, pages, foreign 404s.
	ClassMisconfigured Class = "misconfigured"
	// ClassContextLength is a request larger than the model's window.
	ClassContextLength Class = "context_length"
	// ClassContentPolicy is a request or answer that the provider's policy withholds.
	ClassContentPolicy Class = "content_policy"
	// ClassThrottled is a rate limit of the provider: wait, nothing is wrong.
	ClassThrottled Class = "throttled"
	// ClassUnavailable is an endpoint that cannot answer now: server errors, timeouts, broken connections and bodies.
	ClassUnavailable Class = "unavailable"
	// ClassRejected is an answer that fails what the job accepts.
	ClassRejected Class = "rejected"
	// ClassDeferred is a job that the gate lets through nowhere now.
	ClassDeferred Class = "deferred"
	// ClassCancelled is a job that its user ended.
	ClassCancelled Class = "cancelled"
	// ClassExpired is a job whose deadline passed.
	ClassExpired Class = "expired"
	// ClassAbandoned is an attempt that our own shutdown cut off.
	ClassAbandoned Class = "abandoned"
	// ClassInternal is our own fault or our own Redis.
	ClassInternal Class = "internal"
)

// Classes lists every class, in the order of the worker's table.
func Classes() []Class {
	return []Class{
		ClassInvalid, ClassAuth, ClassQuota, ClassNotServed, ClassMisconfigured, ClassContextLength,
		ClassContentPolicy, ClassThrottled, ClassUnavailable, ClassRejected, ClassDeferred, ClassCancelled,
		ClassExpired, ClassAbandoned, ClassInternal,
	}
}

// Failure says why an attempt or a job did not succeed. But for Detail it never holds a prompt, an answer or a key.
type Failure struct {
	Class Class `json:"class"`
	// Code is the provider's own code, or Forebay's, in snake case: "insufficient_quota", "deadline_passed".
	Code string `json:"code,omitempty"`
	// Message says what happened, and where.
	Message string `json:"message"`
	// Detail is what the provider itself said, at most 200 characters of it. It may quote the request: it is for the
	// job's user, and no part of the error's text or of any log.
	Detail string `json:"detail,omitempty"`
	// Hint says what to do next.
	Hint string `json:"hint,omitempty"`
}

// Error implements error. It leaves out the Detail.
func (f *Failure) Error() string {
	text := string(f.Class)
	if f.Code != "" {
		text += " (" + f.Code + ")"
	}
	text += ": " + f.Message
	if f.Hint != "" {
		text += "; " + f.Hint
	}
	return text
}
