// Package metrics has what the metrics of several processes share: how they are registered, what their labels may hold,
// and the series that more than one kind of process counts. docs/metrics.md lists all series.
//
// Every label comes from the catalog or from a fixed list; what is in neither is Other. So the number of series is
// bounded, whatever jobs, tenants and targets there are.
package metrics

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/envelope"
)

const (
	// Other stands in a label for whatever is not known.
	Other = "other"
	// OK stands in a label for what has no failure.
	OK = "ok"
)

// Register registers a collector and returns it, or the equal one that is registered: several workers of a process count
// together. Without a registerer it is returned as it is, and counts for nobody.
func Register[C prometheus.Collector](registerer prometheus.Registerer, collector C) C {
	if registerer == nil {
		return collector
	}
	err := registerer.Register(collector)
	if err == nil {
		return collector
	}
	var there prometheus.AlreadyRegisteredError
	if errors.As(err, &there) {
		if same, ok := there.ExistingCollector.(C); ok {
			return same
		}
	}
	panic(err) // two series of one name that are not the same: the first process that starts shows it
}

// Counter registers a counter with labels.
func Counter(registerer prometheus.Registerer, name, help string, labels ...string) *prometheus.CounterVec {
	return Register(registerer, prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels))
}

// Histogram registers a histogram with labels.
func Histogram(registerer prometheus.Registerer, name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	return Register(registerer, prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels))
}

// CallBuckets are for calls of providers and webhooks, in seconds.
func CallBuckets() []float64 {
	return []float64{0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300}
}

// TaskType is a job's task type as a label: envelope.Adhoc without one.
func TaskType(known *catalog.Catalog, job tasks.Job) string {
	switch {
	case job.TaskType == "":
		return envelope.Adhoc
	case known != nil && known.TaskTypes[job.TaskType] != nil:
		return job.TaskType
	}
	return Other
}

// Tier is the tier of the model that a job was answered by, or of the first that it asks for, as a label; empty where
// it has none.
func Tier(known *catalog.Catalog, job tasks.Job, model string) string {
	if known == nil {
		return Other
	}
	if model != "" {
		return known.TierOf(model)
	}
	if models := known.ModelsFor(job); len(models) > 0 {
		return known.TierOf(models[0])
	}
	return ""
}

// Model is the name of a model as a label; empty for none.
func Model(known *catalog.Catalog, name string) string {
	if name == "" || known != nil && known.Models[name] != nil {
		return name
	}
	return Other
}

// Endpoint is the name of an endpoint as a label; empty for none.
func Endpoint(known *catalog.Catalog, name string) string {
	if name == "" || known != nil && known.Endpoints[name] != nil {
		return name
	}
	return Other
}

// Class is the class of a failure as a label, OK for none.
func Class(class tasks.Class) string {
	if class == "" {
		return OK
	}
	for _, known := range tasks.Classes() {
		if class == known {
			return string(class)
		}
	}
	return Other
}
