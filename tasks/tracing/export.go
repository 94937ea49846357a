package tracing

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
	"go.opentelemetry.io/otel/trace/noop"
)

// The protocols of OTLP, as OTEL_EXPORTER_OTLP_PROTOCOL has them.
const (
	ProtocolHTTP = "http/protobuf"
	ProtocolGRPC = "grpc"
)

const (
	// flushWithin bounds what is sent at the end of a process: an unreachable collector holds nobody up.
	flushWithin = 3 * time.Second
	// warnEvery is how often it is told at most that spans do not arrive.
	warnEvery = time.Minute
	// tracesPath is where OTLP over HTTP takes spans.
	tracesPath = "/v1/traces"
	// defaultService is the service's name.
	defaultService = "forebay"
)

// Exporter says where spans go. A zero field means what OpenTelemetry's environment variables say of it, or else its
// documented default.
type Exporter struct {
	// Endpoint is the collector's address; /v1/traces is added for HTTP where it has none. Without it, and without
	// OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT or OTEL_TRACES_EXPORTER, nothing is exported.
	Endpoint string
	// Protocol is ProtocolHTTP or ProtocolGRPC. Defaults to ProtocolHTTP.
	Protocol string
	// Headers are sent with the spans.
	Headers map[string]string
	// SampleRatio is the share of traces that begin here and are recorded, 0 to 1. One that began elsewhere is recorded where
	// its context says so. Defaults to 1.
	SampleRatio *float64
	// Service is the service's name. Defaults to forebay.
	Service string
	// Process is what the process does, such as worker, and Version its build's.
	Process, Version string
	// Log takes warnings, one a minute at most. The zero value discards them.
	Log zerolog.Logger
}

// Enabled tells whether anything is exported.
func (e Exporter) Enabled() bool {
	if strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") {
		return false
	}
	if e.Endpoint != "" {
		return true
	}
	switch os.Getenv("OTEL_TRACES_EXPORTER") {
	case "none":
		return false
	case "otlp":
		return true
	}
	return cmp.Or(os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"), os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT")) != ""
}

// Export has the process's spans exported, where that is asked for. What is returned sends the last of them, within some
// seconds, and is to be called once, at the process's end.
func Export(ctx context.Context, e Exporter) (stop func(), err error) {
	if !e.Enabled() {
		return func() {}, nil
	}
	exporter, err := e.client(ctx)
	if err != nil {
		return nil, fmt.Errorf("tracing: make the exporter: %w", bare(err))
	}
	options := []sdktrace.TracerProviderOption{
		// It drops what is more than its queue holds, so that nothing waits for a collector.
		sdktrace.WithBatcher(exporter), sdktrace.WithResource(e.resource(ctx)),
	}
	if e.SampleRatio != nil {
		options = append(options, sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(*e.SampleRatio))))
	}
	otel.SetErrorHandler(&warnings{log: e.Log})
	provider := sdktrace.NewTracerProvider(options...)
	otel.SetTracerProvider(provider)
	e.Log.Info().Str("protocol", e.protocol()).Msg("traces are exported")
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushWithin)
		defer cancel()
		if err := provider.Shutdown(ctx); err != nil {
			e.Log.Warn().Err(bare(err)).Msg("the last spans of this process did not reach the collector")
		}
		otel.SetTracerProvider(noop.NewTracerProvider())
	}, nil
}

func (e Exporter) protocol() string {
	return cmp.Or(e.Protocol, os.Getenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"), os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL"), ProtocolHTTP)
}

func (e Exporter) client(ctx context.Context) (sdktrace.SpanExporter, error) {
	switch protocol := e.protocol(); protocol {
	case ProtocolHTTP:
		var options []otlptracehttp.Option
		if e.Endpoint != "" {
			address, err := withTracesPath(e.Endpoint)
			if err != nil {
				return nil, err
			}
			options = append(options, otlptracehttp.WithEndpointURL(address))
		}
		if len(e.Headers) > 0 {
			options = append(options, otlptracehttp.WithHeaders(e.Headers))
		}
		return otlptracehttp.New(ctx, options...)
	case ProtocolGRPC:
		var options []otlptracegrpc.Option
		if e.Endpoint != "" {
			options = append(options, otlptracegrpc.WithEndpointURL(e.Endpoint))
		}
		if len(e.Headers) > 0 {
			options = append(options, otlptracegrpc.WithHeaders(e.Headers))
		}
		return otlptracegrpc.New(ctx, options...)
	default:
		return nil, fmt.Errorf("the protocol must be %s or %s, got %.40q", ProtocolHTTP, ProtocolGRPC, protocol)
	}
}

// withTracesPath is the address that takes spans, of a collector's.
func withTracesPath(endpoint string) (string, error) {
	address, err := url.Parse(endpoint)
	if err != nil {
		return "", errors.New("the endpoint is not a URL")
	}
	if !strings.HasSuffix(strings.TrimSuffix(address.Path, "/"), tracesPath) {
		address = address.JoinPath(tracesPath)
	}
	return address.String(), nil
}

// resource says which process the spans are of.
func (e Exporter) resource(ctx context.Context) *resource.Resource {
	own := []attribute.KeyValue{semconv.ServiceName(defaultService), semconv.ServiceInstanceID(uuid.NewString())}
	if e.Version != "" {
		own = append(own, semconv.ServiceVersion(e.Version))
	}
	if e.Process != "" {
		own = append(own, attribute.String("forebay.process", e.Process))
	}
	options := []resource.Option{resource.WithAttributes(own...), resource.WithTelemetrySDK(), resource.WithFromEnv()}
	if e.Service != "" {
		options = append(options, resource.WithAttributes(semconv.ServiceName(e.Service)))
	}
	made, _ := resource.New(ctx, options...) // what of the environment cannot be read is left out
	return made
}

// warnings tells that spans do not arrive.
type warnings struct {
	log   zerolog.Logger
	mutex sync.Mutex
	next  time.Time
}

// Handle implements otel.ErrorHandler.
func (w *warnings) Handle(err error) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	if now := time.Now(); now.After(w.next) {
		w.next = now.Add(warnEvery)
		w.log.Warn().Err(bare(err)).Msg("spans do not reach the collector; jobs go on, and what does not fit into the queue is dropped")
	}
}

var credentials = regexp.MustCompile(`//[^/@\s]*@`)

// bare is an error without the address that it came from, which may hold a password in an environment variable.
func bare(err error) error {
	var from *url.Error
	if errors.As(err, &from) {
		return from.Err
	}
	text := credentials.ReplaceAllString(err.Error(), "//")
	if len(text) > maxState {
		text = strings.ToValidUTF8(text[:maxState], "") + "..."
	}
	return errors.New(text)
}
