package httpapi

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/forebay-queue/forebay/producer"
	"github.com/forebay-queue/forebay/tasks/metrics"
)

// series are what an API counts.
type series struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	intake   *metrics.Intake
}

func newSeries(registerer prometheus.Registerer) *series {
	return &series{
		requests: metrics.Counter(registerer, "forebay_http_requests_total", "Requests over HTTP.", "route", "method", "status"),
		duration: metrics.Histogram(registerer, "forebay_http_request_duration_seconds",
			"How long requests took; those that wait for a job's end are among them, streams of events are not.",
			[]float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 15, 30, 60}, "route"),
		intake: metrics.NewIntake(registerer, metrics.WayHTTP),
	}
}

// served counts a request that was answered.
func (a *API) served(w *answerWriter, r *http.Request, begun time.Time) {
	route, method, status := a.routeOf(r), r.Method, w.status
	if !knownMethod(method) {
		method = metrics.Other
	}
	if status == 0 {
		status = http.StatusOK // net/http's for an answer without a body
	}
	a.series.requests.WithLabelValues(route, method, strconv.Itoa(status)).Inc()
	if route != eventsPath && route != livePath {
		a.series.duration.WithLabelValues(route).Observe(time.Since(begun).Seconds())
	}
}

func knownMethod(method string) bool {
	return slices.Contains(methods, method) || method == http.MethodHead || method == http.MethodOptions
}

// routeOf is the pattern that a request is answered by.
func (a *API) routeOf(r *http.Request) string {
	if _, pattern := a.mux.Handler(r); pattern != "" {
		if _, path, found := strings.Cut(pattern, " "); found {
			return path
		}
		return pattern
	}
	for _, page := range []string{loginPath, logoutPath, monitorPath} {
		if below(r.URL.Path, page) {
			return page
		}
	}
	return metrics.Other
}

// count counts what became of a job that somebody sent.
func (s *series) count(receipt producer.Receipt, err error) {
	switch {
	case err != nil:
		s.intake.Refused(failure(receipt.ID, err).code)
	case receipt.Created:
		s.intake.Accepted()
	}
}
