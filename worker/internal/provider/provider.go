// Package provider makes one call to one endpoint of an OpenAI-compatible API and reports what came back. It judges
// nothing: what an answer means is said by package policy.
package provider

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/tracing"
)

// maxBodyBytes is the size of the largest answer that is read; a larger one is an error of the endpoint.
const maxBodyBytes = 64 << 20

// ErrBodyTooLarge is the error of an answer above 64 MiB.
var ErrBodyTooLarge = errors.New("the answer is larger than 64 MiB")

// DialFunc opens a connection. Tests inject one that goes through memory.
type DialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// Config configures the Client of one endpoint.
type Config struct {
	Endpoint *catalog.Endpoint
	// MaxConns is how many idle connections are kept. Defaults to 64.
	MaxConns int
	// Dial opens connections. Defaults to TCP with a 10s limit.
	Dial DialFunc
}

// Client calls one endpoint. It never retries and never follows a redirect.
type Client struct {
	endpoint *catalog.Endpoint
	// transport is used without an http.Client, which would only add redirects, cookies and a copy of the headers.
	transport *http.Transport
	urls      map[tasks.Kind]*url.URL
	models    *url.URL
	// header is what all requests have in common. Its values are shared, never changed.
	header http.Header
}

// New returns the Client of an endpoint.
func New(config Config) (*Client, error) {
	endpoint := config.Endpoint
	transport := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           config.Dial,
		MaxIdleConnsPerHost:   config.MaxConns,
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   10 * time.Second,
		ForceAttemptHTTP2:     true,
		ExpectContinueTimeout: time.Second,
	}
	if transport.MaxIdleConnsPerHost == 0 {
		transport.MaxIdleConnsPerHost = 64
	}
	if transport.DialContext == nil {
		transport.DialContext = (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext
	}
	if endpoint.Proxy != "" {
		proxy, err := url.Parse(endpoint.Proxy)
		if err != nil {
			return nil, fmt.Errorf("endpoint %s: its proxy is not a URL", endpoint.Name)
		}
		transport.Proxy = http.ProxyURL(proxy)
	}
	base, err := url.Parse(endpoint.URL)
	if err != nil {
		return nil, fmt.Errorf("endpoint %s: its address is not a URL", endpoint.Name)
	}
	address := func(path string) *url.URL {
		address := base.JoinPath(path)
		query := address.Query()
		for name, value := range endpoint.Query {
			query.Set(name, value)
		}
		address.RawQuery = query.Encode()
		return address
	}
	urls := map[tasks.Kind]*url.URL{tasks.KindChat: address("chat/completions"), tasks.KindEmbedding: address("embeddings")}
	header := http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json"}, "User-Agent": {"forebay"}}
	for name, value := range endpoint.Headers {
		header.Set(name, value)
	}
	return &Client{endpoint: endpoint, urls: urls, models: address("models"), header: header, transport: transport}, nil
}

// Close closes the idle connections.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// Call is one request.
type Call struct {
	Kind tasks.Kind
	// Model is the name that the endpoint knows the model by.
	Model string
	// MaxTokensField is the model's name for the request's max_tokens, if it has another.
	MaxTokensField string
	// Body is the request without its model.
	Body json.RawMessage
	// Key is the account's API key; empty for an endpoint without authentication.
	Key string
	// RequestID is sent as X-Request-Id: the job's id.
	RequestID string
	// Trace is sent as traceparent and tracestate; the zero value for neither.
	Trace tasks.TraceContext
}

// Answer is what came back.
type Answer struct {
	// Status is 0 when no answer came.
	Status int
	Header http.Header
	Body   []byte
	// Err is the transport's error, which may come after a status: a body that broke off.
	Err error
	// Sent tells that the request was written: it may have been received, and billed.
	Sent    bool
	Latency time.Duration
}

// Do makes the call. It ends with the context, whose cause says why.
func (c *Client) Do(ctx context.Context, call Call) Answer {
	var sent atomic.Bool
	trace := &httptrace.ClientTrace{WroteHeaders: func() { sent.Store(true) }}
	request, err := c.request(httptrace.WithClientTrace(ctx, trace), call)
	if err != nil {
		return Answer{Err: err}
	}
	answer := c.send(ctx, request)
	answer.Sent = answer.Status != 0 || sent.Load()
	return answer
}

// send makes a round trip and reads the answer to its end.
func (c *Client) send(ctx context.Context, request *http.Request) Answer {
	started := time.Now()
	response, err := c.transport.RoundTrip(request)
	if err != nil {
		return Answer{Err: reason(ctx, err), Latency: time.Since(started)}
	}
	defer func() { _ = response.Body.Close() }()
	body, err := readBody(response)
	if err != nil {
		err = reason(ctx, err)
	}
	return Answer{
		Status: response.StatusCode, Header: response.Header, Body: body, Err: err, Latency: time.Since(started),
	}
}

func (c *Client) request(ctx context.Context, call Call) (*http.Request, error) {
	body, err := buildBody(call)
	if err != nil {
		return nil, err
	}
	header := c.authorised(call.Key)
	header.Set("X-Request-Id", call.RequestID)
	tracing.SetHeader(header, call.Trace)
	address, found := c.urls[call.Kind]
	if !found {
		return nil, fmt.Errorf("there is no call of the kind %q", call.Kind)
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	request := &http.Request{
		Method: http.MethodPost, URL: address, Host: address.Host, Header: header, ContentLength: int64(len(body)),
		// The transport repeats a POST by itself only when not one byte of it was written, or when HTTP/2 says that it
		// was not processed: it was not received, so it is not billed.
		GetBody: open,
	}
	request.Body, _ = open()
	return request.WithContext(ctx), nil
}

// authorised is a header of its own for one request, with the key in it.
func (c *Client) authorised(key string) http.Header {
	header := make(http.Header, len(c.header)+2)
	maps.Copy(header, c.header)
	switch {
	case c.endpoint.Auth == catalog.AuthNone || key == "":
	case c.endpoint.Auth == catalog.AuthAPIKey:
		header.Set("Api-Key", key)
	default:
		header.Set("Authorization", "Bearer "+key)
	}
	return header
}

// buildBody puts the model into the request; every other byte stays as its user wrote it, unless the model has its
// own name for max_tokens.
func buildBody(call Call) ([]byte, error) {
	body := bytes.TrimSpace(call.Body)
	if len(body) < 2 || body[0] != '{' {
		return nil, errors.New("the request is not a JSON object")
	}
	if call.MaxTokensField != "" && call.MaxTokensField != "max_tokens" {
		renamed, err := renameMaxTokens(body, call.MaxTokensField)
		if err != nil {
			return nil, err
		}
		body = renamed
	}
	model, err := json.Marshal(call.Model)
	if err != nil {
		return nil, err
	}
	rest := bytes.TrimLeft(body[1:], " \t\r\n")
	built := make([]byte, 0, len(body)+len(model)+12)
	built = append(built, `{"model":`...)
	built = append(built, model...)
	if rest[0] != '}' {
		built = append(built, ',')
	}
	return append(built, rest...), nil
}

func renameMaxTokens(body []byte, field string) ([]byte, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil {
		return nil, errors.New("the request is not a JSON object")
	}
	bound, found := fields["max_tokens"]
	if !found {
		return body, nil
	}
	delete(fields, "max_tokens")
	if _, set := fields[field]; !set {
		fields[field] = bound
	}
	return tasks.Encode(fields)
}

func readBody(response *http.Response) ([]byte, error) {
	if response.ContentLength > maxBodyBytes {
		return nil, ErrBodyTooLarge
	}
	var buffer bytes.Buffer
	if response.ContentLength > 0 {
		buffer.Grow(int(response.ContentLength) + bytes.MinRead)
	}
	_, err := buffer.ReadFrom(io.LimitReader(response.Body, maxBodyBytes+1))
	if buffer.Len() > maxBodyBytes {
		return nil, ErrBodyTooLarge
	}
	return buffer.Bytes(), err
}

// reason is why a call failed: the cause of its context, if that ended it, or the transport's error.
func reason(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return withoutURL(err)
}

// withoutURL takes the address out of an error of net/http: it may hold credentials.
func withoutURL(err error) error {
	var urlError *url.Error
	if errors.As(err, &urlError) {
		return urlError.Err
	}
	return err
}

// Redact returns the text without the key, for messages that quote a provider.
func Redact(text, key string) string {
	if len(key) < 8 {
		return text
	}
	return strings.ReplaceAll(text, key, "[key]")
}
