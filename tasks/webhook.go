package tasks

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/textproto"
	"slices"
	"strings"
)

// Webhook says whom to tell when a job, or a batch, has ended: a message by the rules of https://www.standardwebhooks.com.
type Webhook struct {
	// URL is where the message is sent: https, to the public Internet, unless the operator allows more.
	URL string `json:"url"`
	// Secret names the tenant's secret that the message is signed with. Defaults to "default".
	Secret string `json:"secret,omitempty"`
	// Events are those that are told, such as "job.failed". Defaults to all.
	Events []string `json:"events,omitempty"`
	// Headers are sent with the message: up to 16, whose names begin with X-. They hold no secrets, for they are kept in
	// the job's record: what is to be trusted is the signature.
	Headers map[string]string `json:"headers,omitempty"`
}

// DefaultSecret is the name of the secret that a webhook is signed with which names none.
const DefaultSecret = "default"

// EventTest is the event of a webhook that somebody sends to try a target.
const EventTest = "webhook.test"

// The limits of a webhook's fields.
const (
	maxWebhookURL         = 2048
	maxWebhookHeaders     = 16
	maxWebhookHeaderValue = 512
)

// unsafeHeaders are names, by how they begin, that proxies, clouds and frameworks act on:
// a message that anybody may ask for has none of them.
var unsafeHeaders = []string{
	"X-Forwarded-", "X-Original-", "X-Rewrite-", "X-Http-Method", "X-Method-", "X-Real-", "X-Client-", "X-Cluster-Client-",
	"X-Remote-", "X-Host", "X-Envoy-", "X-Accel-", "X-Sendfile", "X-Aws-", "X-Amz-", "X-Amzn-", "X-Google-", "X-Goog-", "X-Ms-",
	"X-Api-Key", "X-Auth-", "X-Csrf-", "X-Xsrf-", "X-Access-Token", "X-Vault-", "X-Consul-", "X-Kubernetes-",
}

// JobEvents are the events of a job, one for each end.
func JobEvents() []string {
	return []string{"job.succeeded", "job.failed", "job.cancelled", "job.expired"}
}

// BatchEvents are the events of a batch, one for each end, as OpenAI names them.
func BatchEvents() []string {
	return []string{"batch.completed", "batch.failed", "batch.cancelled", "batch.expired"}
}

// Wants tells that an event is among those that are told.
func (w *Webhook) Wants(event string) bool {
	return w != nil && (len(w.Events) == 0 || slices.Contains(w.Events, event))
}

// UnmarshalJSON refuses unknown fields by name, as DecodeJob does those of a job. The error is a *FieldError.
func (w *Webhook) UnmarshalJSON(data []byte) error {
	type plain Webhook // without this method
	var fields map[string]json.RawMessage
	if json.Unmarshal(data, &fields) != nil {
		return &FieldError{Field: "webhook", Problem: `must be an object such as {"url":"https://example.com/hooks"}, not ` + article(jsonKind(data))}
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if !slices.Contains([]string{"url", "secret", "events", "headers"}, name) {
			return &FieldError{Field: joined("webhook", shortened(name)), Problem: "unknown field; a webhook has url, secret, events and headers"}
		}
	}
	var read plain
	decoder := json.NewDecoder(bytes.NewReader(data))
	if err := decoder.Decode(&read); err != nil {
		field := "webhook"
		if mistyped := (*json.UnmarshalTypeError)(nil); errors.As(err, &mistyped) && mistyped.Field != "" {
			field = joined(field, mistyped.Field)
		}
		return &FieldError{Field: field, Problem: "url and secret are strings, events is a list of strings, headers an object whose values are strings"}
	}
	*w = Webhook(read)
	return nil
}

// Validate checks everything about a webhook that needs no configuration. The events are those that it may name. Each
// problem is a *FieldError.
func (w *Webhook) Validate(events []string) []error {
	var problems []error
	refuse := func(field, format string, args ...any) {
		problems = append(problems, &FieldError{Field: "webhook." + field, Problem: fmt.Sprintf(format, args...)})
	}
	switch {
	case w.URL == "":
		refuse("url", "is missing; say where the message is sent, such as https://example.com/hooks")
	case len(w.URL) > maxWebhookURL:
		refuse("url", "has %d bytes; at most %d are accepted", len(w.URL), maxWebhookURL)
	}
	if w.Secret != "" && !ValidName(w.Secret) {
		refuse("secret", "is the name of a secret: 1 to 64 characters of A-Z a-z 0-9 _ . -")
	}
	for i, event := range w.Events {
		if !slices.Contains(events, event) {
			refuse("events", "must be some of %s", strings.Join(events, ", "))
			break
		}
		if slices.Contains(w.Events[:i], event) {
			refuse("events", "lists %s twice", event)
			break
		}
	}
	if len(w.Headers) > maxWebhookHeaders {
		refuse("headers", "has %d; at most %d are accepted", len(w.Headers), maxWebhookHeaders)
	}
	seen := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(w.Headers)) {
		canonical := textproto.CanonicalMIMEHeaderKey(name)
		switch problem := headerProblem(canonical, w.Headers[name]); {
		case problem != "":
			refuse("headers", "%q %s", shortened(name), problem)
		case seen[canonical]:
			refuse("headers", "%q is given twice, in other cases", shortened(name))
		}
		seen[canonical] = true
	}
	return problems
}

// headerProblem says why a header may not be added to a message, or nothing.
func headerProblem(name, value string) string {
	if len(name) < len("X-a") || len(name) > 64 || !strings.HasPrefix(name, "X-") || strings.Trim(name, headerCharacters) != "" {
		return "is none that may be added: names begin with X- and have at most 64 letters, digits and dashes"
	}
	for _, unsafe := range unsafeHeaders {
		if strings.HasPrefix(name, unsafe) {
			return "may not be added: proxies and frameworks act on it; choose a name of your own, such as X-Yourname-Key"
		}
	}
	if len(value) > maxWebhookHeaderValue || strings.Trim(value, " ") != value ||
		strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }) {
		return fmt.Sprintf("must have a value of at most %d printable ASCII characters, without spaces around it", maxWebhookHeaderValue)
	}
	return ""
}

const headerCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-"
