package hooks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/tracing"
)

const (
	// mostRead is how much of an answer is read, mostKept how much of that is kept.
	mostRead = 64 << 10
	mostKept = 512
)

// Message is what one attempt sends.
type Message struct {
	// ID is the webhook's, the same on every attempt.
	ID string
	// URL is where it goes, Headers what its user added.
	URL     string
	Headers map[string]string
	Body    []byte
	// Keys are the secrets that it is signed with, each: a receiver may have any of them while they are changed.
	Keys []string
	// Trace is sent as traceparent and tracestate; the zero value for neither.
	Trace tasks.TraceContext
}

// Answer is what came of it.
type Answer struct {
	// Status is 0 when there was none.
	Status int
	Header http.Header
	// Text is the beginning of the body, as valid UTF-8.
	Text    string
	Latency time.Duration
	// Err is what kept the answer from being read to its end, or to the limit. It may hold the URL: it is never shown.
	Err error
}

// Sender sends messages. It may be used by any number of goroutines.
type Sender struct {
	client *http.Client
	agent  string
}

// NewSender returns a Sender that names itself with a version. The client bounds an attempt, follows no redirect, and
// connects only where webhooks may go: see targets.Guard.
func NewSender(client *http.Client, version string) *Sender {
	agent := "forebay"
	if version != "" {
		agent += "/" + version
	}
	return &Sender{client, agent}
}

// Close gives up the connections that are idle.
func (s *Sender) Close() { s.client.CloseIdleConnections() }

// Send makes one attempt. The error is of what could not be sent at all; it holds neither the URL nor a secret.
func (s *Sender) Send(ctx context.Context, m Message) (Answer, error) {
	request, err := s.request(ctx, m, time.Now())
	if err != nil {
		return Answer{}, err
	}
	began := time.Now()
	answer, err := s.client.Do(request)
	if err != nil {
		return Answer{Latency: time.Since(began), Err: err}, nil
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, mostRead))
	return Answer{
		Status: answer.StatusCode, Header: answer.Header, Text: beginning(body), Latency: time.Since(began), Err: err,
	}, nil
}

// request is the POST of a message, signed now.
func (s *Sender) request(ctx context.Context, m Message, now time.Time) (*http.Request, error) {
	signature, err := Sign(m, now)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, m.URL, bytes.NewReader(m.Body))
	if err != nil {
		return nil, errors.New("the URL of the webhook cannot be read")
	}
	for name, value := range m.Headers {
		request.Header.Set(name, value)
	}
	tracing.SetHeader(request.Header, m.Trace)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", s.agent)
	request.Header.Set(standardwebhooks.HeaderWebhookID, m.ID)
	request.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	request.Header.Set(standardwebhooks.HeaderWebhookSignature, signature)
	return request, nil
}

// Sign is the signature of a message at a time: one for each key, joined by spaces.
func Sign(m Message, now time.Time) (string, error) {
	signatures := make([]string, len(m.Keys))
	for i, key := range m.Keys {
		signer, err := standardwebhooks.NewWebhook(key)
		if err != nil {
			return "", fmt.Errorf("key %d of the secret is no base64", i+1)
		}
		if signatures[i], err = signer.Sign(m.ID, now, m.Body); err != nil {
			return "", fmt.Errorf("sign with key %d of the secret: %w", i+1, err)
		}
	}
	return strings.Join(signatures, " "), nil
}

// beginning is the first part of a body, without a character that was cut in two.
func beginning(body []byte) string {
	return strings.ToValidUTF8(string(body[:min(len(body), mostKept)]), "")
}
