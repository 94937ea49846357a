package config

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/forebay-queue/forebay/tasks/tracing"
)

// Tracing is where the spans of jobs are sent, by OpenTelemetry's protocol. What stands here goes before OpenTelemetry's
// own environment variables, which hold for all that does not.
type Tracing struct {
	// Endpoint is the collector's address, http or https, such as http://127.0.0.1:4318. It holds no secrets. Defaults to
	// OTEL_EXPORTER_OTLP_ENDPOINT; without both nothing is exported, and the trace of a job is only carried through.
	Endpoint string `yaml:"endpoint"`
	// Protocol is how they are sent: http/protobuf or grpc. Defaults to OTEL_EXPORTER_OTLP_PROTOCOL, else http/protobuf.
	Protocol string `yaml:"protocol"`
	// Headers are those that are sent with the spans, by their names, such as authorization. Defaults to none.
	Headers map[string]TracingHeader `yaml:"headers"`
	// SampleRatio is the share of the traces that begin at Forebay and are recorded, 0 to 1; of one that began elsewhere its
	// sender has decided. Defaults to OTEL_TRACES_SAMPLER, else 1.
	SampleRatio *float64 `yaml:"sample_ratio"`
	// ServiceName is what the spans call the service. Defaults to OTEL_SERVICE_NAME, else forebay.
	ServiceName string `yaml:"service_name"`
	// Content is On or Off: whether prompts and answers are part of the spans of calls. Defaults to Off.
	Content string `yaml:"content"`
	// Upstream is On or Off: whether providers are told the trace, too. Defaults to Off.
	Upstream string `yaml:"upstream"`
}

// TracingHeader says where a header's value is. It never stands in the file itself.
type TracingHeader struct {
	// Env names the environment variable that holds the value, File the file. One of them.
	Env  string `yaml:"env"`
	File string `yaml:"file"`
}

var headerPattern = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$")

func (t Tracing) validate() []error {
	var problems []error
	add := func(wrong bool, problem string, path ...string) {
		if wrong {
			problems = append(problems, refuse(problem, append([]string{"tracing"}, path...)...))
		}
	}
	if t.Endpoint != "" {
		address, err := url.Parse(t.Endpoint)
		switch {
		case err != nil || address.Host == "" || address.Scheme != "http" && address.Scheme != "https":
			add(true, "must be the address of a collector, such as http://127.0.0.1:4318", "endpoint")
		case address.User != nil || address.RawQuery != "" || address.Fragment != "":
			add(true, "must be an address alone; secrets never stand in the file: name their environment variables, or their files, in headers", "endpoint")
		}
	}
	add(t.Protocol != "" && t.Protocol != tracing.ProtocolHTTP && t.Protocol != tracing.ProtocolGRPC,
		fmt.Sprintf("must be %s or %s, got %.40q", tracing.ProtocolHTTP, tracing.ProtocolGRPC, t.Protocol), "protocol")
	add(t.SampleRatio != nil && !(*t.SampleRatio >= 0 && *t.SampleRatio <= 1), "must be 0 to 1", "sample_ratio")
	add(len(t.ServiceName) > 64, "must be at most 64 characters", "service_name")
	add(t.Content != On && t.Content != Off, "must be on or off", "content")
	add(t.Upstream != On && t.Upstream != Off, "must be on or off", "upstream")
	for _, name := range slices.Sorted(maps.Keys(t.Headers)) {
		header := t.Headers[name]
		add(!headerPattern.MatchString(name), "is no name of a header", "headers", name)
		switch {
		case header.Env == "" && header.File == "":
			add(true, "needs env, the environment variable that holds the value, or its file in file", "headers", name)
		case header.Env != "" && header.File != "":
			add(true, "stands beside env; give one of them", "headers", name, "file")
		default:
			add(header.Env != "" && !envPattern.MatchString(header.Env),
				"must be the name of an environment variable, such as OTLP_TOKEN; the value itself never stands in the file", "headers", name, "env")
		}
	}
	return problems
}

// Exporter is where the spans go, with the headers' values. The error joins *catalog.PathErrors and holds nothing of a
// value.
func (f *File) Exporter() (tracing.Exporter, error) {
	exporter := tracing.Exporter{
		Endpoint: f.Tracing.Endpoint, Protocol: f.Tracing.Protocol, SampleRatio: f.Tracing.SampleRatio, Service: f.Tracing.ServiceName,
	}
	var problems []error
	for _, name := range slices.Sorted(maps.Keys(f.Tracing.Headers)) {
		value, field, err := f.headerValue(f.Tracing.Headers[name])
		if err != nil {
			problems = append(problems, refuse(err.Error(), "tracing", "headers", name, field))
			continue
		}
		if exporter.Headers == nil {
			exporter.Headers = map[string]string{}
		}
		exporter.Headers[name] = value
	}
	return exporter, errors.Join(problems...)
}

func (f *File) headerValue(header TracingHeader) (value, field string, err error) {
	if header.Env != "" {
		value, field = strings.TrimSpace(f.env(header.Env)), "env"
		if value == "" {
			return "", field, fmt.Errorf("the environment variable %s is not set or empty; put the header's value there", header.Env)
		}
	} else {
		field = "file"
		text, err := os.ReadFile(header.File)
		if err != nil {
			return "", field, fmt.Errorf("%s cannot be read: %w", header.File, cause(err))
		}
		if value = strings.TrimSpace(string(text)); value == "" {
			return "", field, fmt.Errorf("%s is empty; put the header's value there", header.File)
		}
	}
	if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f || r > math.MaxInt8 }) {
		return "", field, errors.New("it holds a character that no header may have")
	}
	return value, field, nil
}
