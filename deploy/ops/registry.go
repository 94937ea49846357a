package ops

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"
)

const (
	// gatherWithin is longer than what a scheduler asks of Redis for a scrape.
	gatherWithin = 10 * time.Second
	// mostScrapes is how many scrapes are answered at a time.
	mostScrapes = 4
)

// Build is what a process says of its program.
type Build struct{ Version, Commit, GoVersion string }

// NewRegistry returns the registry of a process, which shows its build, what Go's runtime does and, where the system
// tells, the process itself.
func NewRegistry(build Build) *prometheus.Registry {
	registry := prometheus.NewRegistry()
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "forebay_build_info", Help: "1, labelled with what the process was built from.",
	}, []string{"version", "commit", "go_version"})
	info.WithLabelValues(build.Version, build.Commit, build.GoVersion).Set(1)
	registry.MustRegister(info, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

// MetricsHandler shows what is gathered, in the format that is asked for. What cannot be gathered is left out, and
// logged.
func MetricsHandler(gatherer prometheus.Gatherer, log zerolog.Logger) http.Handler {
	return promhttp.HandlerFor(gatherer, promhttp.HandlerOpts{
		ErrorLog: gatherLog{log}, ErrorHandling: promhttp.ContinueOnError, EnableOpenMetrics: true,
		MaxRequestsInFlight: mostScrapes, Timeout: gatherWithin,
	})
}

// gatherLog is a promhttp.Logger.
type gatherLog struct{ log zerolog.Logger }

// Println implements promhttp.Logger.
func (g gatherLog) Println(v ...any) {
	event := g.log.Warn()
	for _, part := range v {
		if err, ok := part.(error); ok {
			event = event.Err(err)
		}
	}
	event.Msg("some metrics could not be gathered")
}
