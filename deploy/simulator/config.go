package simulator

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"time"
)

// Headers of requests and answers.
const (
	// HeaderRequestID names the job that a call is made for; the counters keep it apart by this id.
	HeaderRequestID = "X-Request-Id"
	// HeaderFailure asks for a failure by its name (see Failures).
	HeaderFailure = "X-Simulate-Failure"
	// HeaderSimulated stands on every answer, with the value "true".
	HeaderSimulated = "X-Forebay-Simulated"
	// Fingerprint is the system_fingerprint of every chat completion.
	Fingerprint = "forebay-simulator"
)

// Values of RegionConfig.Answer.
const (
	AnswerSummary = "summary" // summarise the last user message
	AnswerFixed   = "fixed"   // the same AnswerBytes bytes to everybody, whatever max_tokens: the cheapest answer, for benchmarks
)

// Values of Distribution.Shape.
const (
	ShapeUniform   = "uniform"
	ShapeLogNormal = "lognormal"
)

const (
	// DefaultMaxTokens bounds a chat completion that names no bound.
	DefaultMaxTokens = 1024
	// NoJobs as Config.MaxJobs: no job is kept apart.
	NoJobs = -1

	defaultMaxBody     = 32 << 20
	defaultMaxJobs     = 100_000
	defaultAnswerBytes = 1024
	defaultSlow        = 10 * time.Second
	defaultFailure     = "500"
	defaultRegion      = "simulated"
)

// Config configures a Simulator. A zero field means its documented default.
type Config struct {
	// Seed makes latencies and random failures repeatable. Zero is a seed like any other.
	Seed uint64
	// Regions are the endpoints. Defaults to one of the name "simulated".
	Regions []RegionConfig
	// Keys are the API keys accepted (Authorization: Bearer, or api-key). Empty: any, and none.
	Keys []string
	// Models are the models served; others get 404 model_not_found. Empty: any.
	Models []string
	// MaxBody is the largest request in bytes; a larger one gets 413. Defaults to 32 MiB.
	MaxBody int64
	// MaxJobs is how many jobs (by HeaderRequestID) are counted one by one; the calls of further ones are summed up
	// in Counters.Untracked. NoJobs turns it off. Defaults to 100,000, which take some 15 MB.
	MaxJobs int
}

// RegionConfig configures one region. A zero field means its documented default.
type RegionConfig struct {
	// Name is the first segment of the region's path: [A-Za-z0-9_.-]{1,64}, neither "v1" nor "_simulator".
	Name string
	// Latency is waited for before an answer. Refusals (key, limits, bad requests) come at once. Defaults to none.
	Latency Distribution
	// Limits hold for each API key over all models. Defaults to none.
	Limits Limits
	// ModelLimits hold for each API key and the model named, on top of Limits.
	ModelLimits map[string]Limits
	// FailureRate is the share of the calls, from 0 to 1, that fail in the way of Failure. Defaults to 0.
	FailureRate float64
	// Failure is the kind of the failures that FailureRate brings. Defaults to "500".
	Failure string
	// Outages are spans in which every call fails.
	Outages []Outage
	// Answer is AnswerSummary (the default) or AnswerFixed.
	Answer string
	// AnswerBytes is the length of the fixed answer. Defaults to 1024.
	AnswerBytes int
	// Slow is how long the failures "slow-headers" and "drip-body" take. Defaults to 10s.
	Slow time.Duration
}

// Distribution is a random duration between Min and Max. A Max below Min means Min.
type Distribution struct {
	Min, Max time.Duration
	// Shape is ShapeUniform (the default) or ShapeLogNormal: the median is then the geometric mean of Min and Max,
	// which stand two standard deviations away and beyond which nothing falls. It needs a Min above zero.
	Shape string
}

// Limits are enforced over a sliding log of 60 seconds. Zero means no limit.
type Limits struct {
	RequestsPerMinute int
	// TokensPerMinute counts prompt and bound (max_tokens, times n) on arrival, and gives nothing back.
	TokensPerMinute int
}

// Outage is a span in which every call to the region fails, by the kinds in turn. The span is given by jobs or by
// time, not by both; without either it lasts from the start for ever.
type Outage struct {
	// Kinds are names of Failures. At least one.
	Kinds []string
	// FromJob and UntilJob: the outage lasts while at least FromJob and fewer than UntilJob distinct jobs have been
	// answered by all regions together (Counters.JobsAnswered). UntilJob 0 means for ever. Other regions must go on
	// answering, or it never ends.
	FromJob, UntilJob int
	// From and Until are counted from New. Until 0 means for ever.
	From, Until time.Duration
}

var regionName = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

// withDefaults returns a copy in which every zero field is set.
func (c Config) withDefaults() Config {
	if len(c.Regions) == 0 {
		c.Regions = []RegionConfig{{Name: defaultRegion}}
	}
	setDefault(&c.MaxBody, defaultMaxBody)
	setDefault(&c.MaxJobs, defaultMaxJobs)
	c.Regions = slices.Clone(c.Regions)
	for i := range c.Regions {
		r := &c.Regions[i]
		setDefault(&r.Failure, defaultFailure)
		setDefault(&r.Answer, AnswerSummary)
		setDefault(&r.AnswerBytes, defaultAnswerBytes)
		setDefault(&r.Slow, defaultSlow)
		setDefault(&r.Latency.Shape, ShapeUniform)
		r.Latency.Max = max(r.Latency.Max, r.Latency.Min)
	}
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (c Config) validate() error {
	var errs []error
	seen := map[string]bool{}
	for i, r := range c.Regions {
		switch {
		case !regionName.MatchString(r.Name) || r.Name == segmentAPI || r.Name == segmentControl:
			errs = append(errs, fmt.Errorf("region %d: name %q must match %s and be neither %q nor %q",
				i+1, r.Name, regionName, segmentAPI, segmentControl))
		case seen[r.Name]:
			errs = append(errs, fmt.Errorf("region %q is named twice; give each region its own name", r.Name))
		}
		seen[r.Name] = true
		if err := r.validate(); err != nil {
			errs = append(errs, fmt.Errorf("region %q: %w", r.Name, err))
		}
	}
	if c.MaxBody < 0 {
		errs = append(errs, fmt.Errorf("the largest body must be positive, got %d bytes", c.MaxBody))
	}
	return errors.Join(errs...)
}

func (r RegionConfig) validate() error {
	errs := []error{r.Latency.validate(), r.Limits.validate(), knownKinds(r.Failure)}
	for model, limits := range r.ModelLimits {
		if err := limits.validate(); err != nil {
			errs = append(errs, fmt.Errorf("model %q: %w", model, err))
		}
	}
	if math.IsNaN(r.FailureRate) || r.FailureRate < 0 || r.FailureRate > 1 {
		errs = append(errs, fmt.Errorf("the failure rate must be between 0 and 1, got %v", r.FailureRate))
	}
	if r.Answer != AnswerSummary && r.Answer != AnswerFixed {
		errs = append(errs, fmt.Errorf("the answer must be %q or %q, got %q", AnswerSummary, AnswerFixed, r.Answer))
	}
	if r.AnswerBytes < 0 || r.Slow < 0 {
		errs = append(errs, fmt.Errorf("the length of the fixed answer and the slowness must not be negative, got %d bytes and %s",
			r.AnswerBytes, r.Slow))
	}
	for i, o := range r.Outages {
		if err := o.validate(); err != nil {
			errs = append(errs, fmt.Errorf("outage %d: %w", i+1, err))
		}
	}
	return errors.Join(errs...)
}

func (d Distribution) validate() error {
	switch {
	case d.Min < 0:
		return fmt.Errorf("the latency must not be negative, got %s", d.Min)
	case d.Shape != ShapeUniform && d.Shape != ShapeLogNormal:
		return fmt.Errorf("the latency's shape must be %q or %q, got %q", ShapeUniform, ShapeLogNormal, d.Shape)
	case d.Shape == ShapeLogNormal && d.Min == 0:
		return errors.New("a lognormal latency needs a minimum above zero")
	}
	return nil
}

func (l Limits) validate() error {
	if l.RequestsPerMinute < 0 || l.TokensPerMinute < 0 {
		return fmt.Errorf("limits must not be negative, got %d requests and %d tokens per minute", l.RequestsPerMinute, l.TokensPerMinute)
	}
	return nil
}

func (o Outage) validate() error {
	byJobs, byTime := o.FromJob != 0 || o.UntilJob != 0, o.From != 0 || o.Until != 0
	switch {
	case len(o.Kinds) == 0:
		return errors.New("it names no kinds of failure")
	case byJobs && byTime:
		return errors.New("its span is given by jobs and by time; choose one")
	case o.FromJob < 0 || o.UntilJob != 0 && o.UntilJob <= o.FromJob:
		return fmt.Errorf("it must end after it begins, got jobs %d to %d", o.FromJob, o.UntilJob)
	case o.From < 0 || o.Until != 0 && o.Until <= o.From:
		return fmt.Errorf("it must end after it begins, got %s to %s", o.From, o.Until)
	}
	return knownKinds(o.Kinds...)
}
