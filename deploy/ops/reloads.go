package ops

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/forebay-queue/forebay/tasks/metrics"
)

// Reloads counts how the configuration of a process comes and goes.
type Reloads struct {
	failures prometheus.Counter
	loaded   prometheus.Gauge
}

// NewReloads registers the series; registerer may be nil.
func NewReloads(registerer prometheus.Registerer) *Reloads {
	return &Reloads{
		failures: metrics.Register(registerer, prometheus.NewCounter(prometheus.CounterOpts{
			Name: "forebay_config_reload_failures_total", Help: "Configurations that were refused while the process ran; the old one stays.",
		})),
		loaded: metrics.Register(registerer, prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "forebay_config_loaded_timestamp_seconds", Help: "When the configuration that the process works by was loaded; 0 without one.",
		})),
	}
}

// Loaded says when the configuration was loaded that the process works by.
func (r *Reloads) Loaded(at time.Time) { r.loaded.Set(float64(at.UnixMilli()) / 1000) }

// Failed says that a configuration was refused.
func (r *Reloads) Failed() { r.failures.Inc() }
