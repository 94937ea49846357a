package main_test

import (
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	collectorv1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonv1 "go.opentelemetry.io/proto/otlp/common/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// spanCollector takes spans as a collector does, by OTLP over HTTP.
type spanCollector struct {
	url string

	mu   sync.Mutex
	kept []collectedSpan
	raw  bytes.Buffer // all that came, for what must not be in it
	keys []string     // the headers x-collector-key of the requests
}

// collectedSpan is a span, and the process that has sent it.
type collectedSpan struct {
	*tracev1.Span
	process, service string
}

func newSpanCollector(t *testing.T) *spanCollector {
	t.Helper()
	c := &spanCollector{}
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	c.url = server.URL
	return c
}

// ServeHTTP implements http.Handler.
func (c *spanCollector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var body io.Reader = r.Body
	if r.Header.Get("Content-Encoding") == "gzip" {
		packed, err := gzip.NewReader(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		body = packed
	}
	text, err := io.ReadAll(body)
	var sent collectorv1.ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(text, &sent)
	}
	if err != nil || r.URL.Path != "/v1/traces" {
		http.Error(w, "no spans", http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.raw.Write(text)
	c.keys = append(c.keys, r.Header.Get("X-Collector-Key"))
	for _, resource := range sent.GetResourceSpans() {
		known := attributesOf(resource.GetResource().GetAttributes())
		for _, scope := range resource.GetScopeSpans() {
			for _, span := range scope.GetSpans() {
				c.kept = append(c.kept, collectedSpan{span, known["forebay.process"], known["service.name"]})
			}
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

// trace are the spans of a trace, in the order of their beginnings.
func (c *spanCollector) trace(id string) []collectedSpan {
	c.mu.Lock()
	defer c.mu.Unlock()
	var found []collectedSpan
	for _, span := range c.kept {
		if hex.EncodeToString(span.GetTraceId()) == id {
			found = append(found, span)
		}
	}
	slices.SortStableFunc(found, func(a, b collectedSpan) int { return int(int64(a.GetStartTimeUnixNano() - b.GetStartTimeUnixNano())) })
	return found
}

// text is all that came.
func (c *spanCollector) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.raw.String()
}

// holds tells whether a text came in anything.
func (c *spanCollector) holds(text string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return bytes.Contains(c.raw.Bytes(), []byte(text))
}

func (s collectedSpan) id() string     { return hex.EncodeToString(s.GetSpanId()) }
func (s collectedSpan) parent() string { return hex.EncodeToString(s.GetParentSpanId()) }

// attributes are those of the span, as texts.
func (s collectedSpan) attributes() map[string]string { return attributesOf(s.GetAttributes()) }

func (s collectedSpan) events() []string {
	var names []string
	for _, event := range s.GetEvents() {
		names = append(names, event.GetName())
	}
	return names
}

func attributesOf(list []*commonv1.KeyValue) map[string]string {
	found := map[string]string{}
	for _, one := range list {
		text := one.GetValue().GetStringValue()
		if text == "" {
			text = one.GetValue().String()
		}
		found[one.GetKey()] = text
	}
	return found
}

// named are the spans of a name.
func named(spans []collectedSpan, name string) []collectedSpan {
	return slices.DeleteFunc(slices.Clone(spans), func(s collectedSpan) bool { return s.GetName() != name })
}

// only is the one span of a name.
func only(t *testing.T, spans []collectedSpan, name string) collectedSpan {
	t.Helper()
	found := named(spans, name)
	require.Len(t, found, 1, "%s, of %v", name, namesOf(spans))
	return found[0]
}

func namesOf(spans []collectedSpan) []string {
	var names []string
	for _, span := range spans {
		names = append(names, span.GetName())
	}
	return names
}
