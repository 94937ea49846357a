package command

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/forebay-queue/forebay/deploy/simulator"
)

// config turns the flags into the simulator's configuration.
func (f simulateFlags) config() (simulator.Config, error) {
	config := simulator.Config{Seed: f.seed}
	for _, text := range f.regions {
		region, err := f.region(text)
		if err != nil {
			return config, fmt.Errorf("--region %q: %w", text, err)
		}
		config.Regions = append(config.Regions, region)
	}
	for _, text := range f.outages {
		name, rest, _ := strings.Cut(text, ":")
		outage, err := parseOutage(rest)
		if err != nil {
			return config, fmt.Errorf("--outage %q: %w", text, err)
		}
		found := false
		for i := range config.Regions {
			if config.Regions[i].Name == name {
				config.Regions[i].Outages, found = append(config.Regions[i].Outages, outage), true
			}
		}
		if !found {
			return config, fmt.Errorf("--outage %q: there is no region %q", text, name)
		}
	}
	return config, nil
}

func (f simulateFlags) region(text string) (simulator.RegionConfig, error) {
	name, rest, more := strings.Cut(text, ":")
	region := simulator.RegionConfig{
		Name: name, Failure: f.failure, FailureRate: f.failureRate,
		Limits: simulator.Limits{RequestsPerMinute: f.rpm, TokensPerMinute: f.tpm},
	}
	if f.answerBytes != 0 {
		region.Answer, region.AnswerBytes = simulator.AnswerFixed, f.answerBytes
	}
	if !more {
		return region, nil
	}
	for part := range strings.SplitSeq(rest, ":") {
		key, value, named := strings.Cut(part, "=")
		var err error
		switch {
		case !named:
			region.Latency.Min, region.Latency.Max, err = parseSpan(part)
		case key == "rpm":
			region.Limits.RequestsPerMinute, err = strconv.Atoi(value)
		case key == "tpm":
			region.Limits.TokensPerMinute, err = strconv.Atoi(value)
		case key == "failures":
			region.FailureRate, err = strconv.ParseFloat(value, 64)
		default:
			return region, fmt.Errorf("unknown part %q; write NAME:LATENCY:rpm=N:tpm=N:failures=RATE", part)
		}
		if err != nil {
			return region, fmt.Errorf("%q cannot be read; write it as in tokyo:50ms-300ms:rpm=60:failures=0.1", part)
		}
	}
	return region, nil
}

func parseOutage(text string) (simulator.Outage, error) {
	kinds, span, bounded := strings.Cut(text, ":")
	outage := simulator.Outage{Kinds: strings.Split(kinds, ",")}
	if !bounded {
		return outage, nil
	}
	from, until, ranged := strings.Cut(span, "-")
	first, firstErr := strconv.Atoi(from)
	last, lastErr := strconv.Atoi(until)
	if ranged && firstErr == nil && lastErr == nil {
		outage.FromJob, outage.UntilJob = first, last
		return outage, nil
	}
	var err error
	if outage.From, outage.Until, err = parseSpan(span); !ranged || err != nil {
		return outage, fmt.Errorf("the span %q must be in time (30s-60s) or in jobs (100-200)", span)
	}
	return outage, nil
}

// parseSpan reads "50ms-300ms"; a single duration is a span of its own.
func parseSpan(text string) (from, until time.Duration, err error) {
	first, last, ranged := strings.Cut(text, "-")
	if !ranged {
		last = first
	}
	if from, err = time.ParseDuration(first); err == nil {
		until, err = time.ParseDuration(last)
	}
	return from, until, err
}
