package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
)

// Ends counts the ends of jobs, whoever brings them about. By routes they are counted apart: all labels at once would be
// as many series as their product.
type Ends struct{ count, routes *prometheus.CounterVec }

// NewEnds registers the series; registerer may be nil.
func NewEnds(registerer prometheus.Registerer) *Ends {
	return &Ends{
		count: Counter(registerer, "forebay_jobs_ended_total", "Jobs that this process has ended.", "status", "task_type", "tier", "code"),
		routes: Counter(registerer, "forebay_jobs_ended_by_route_total",
			"Jobs that this process has ended, by the route of their answer, or of their last call; empty for those that were never called for.", "status", "model", "endpoint"),
	}
}

// Ended counts one. The catalog is that of the process, which may be nil.
func (e *Ends) Ended(known *catalog.Catalog, job tasks.Job, status tasks.Status, result tasks.Result) {
	code := ""
	if result.Error != nil {
		code = Code(result.Error.Code)
	}
	e.count.WithLabelValues(string(status), TaskType(known, job), Tier(known, job, result.Model), code).Inc()
	model, endpoint := result.Model, result.Endpoint
	if calls := len(result.Attempts); endpoint == "" && calls > 0 {
		model, endpoint = result.Attempts[calls-1].Model, result.Attempts[calls-1].Endpoint
	}
	e.routes.WithLabelValues(string(status), Model(known, model), Endpoint(known, endpoint)).Inc()
}

// Way is a way in.
type Way string

// The ways in. Jobs of Go programs and of the command line are not among them: those processes are not scraped.
const (
	WayHTTP     Way = "http"
	WayInbox    Way = "inbox"
	WayBatch    Way = "batch"
	WaySchedule Way = "schedule"
)

// Intake counts what comes in by one way.
type Intake struct {
	accepted prometheus.Counter
	refused  *prometheus.CounterVec
}

// NewIntake registers the series of one way; registerer may be nil.
func NewIntake(registerer prometheus.Registerer, way Way) *Intake {
	refused := Counter(registerer, "forebay_jobs_refused_total", "Jobs that were not accepted, by the code that their sender was told.", "way", "code")
	return &Intake{
		accepted: Counter(registerer, "forebay_jobs_accepted_total", "Jobs that were accepted and had not been before.", "way").
			WithLabelValues(string(way)),
		refused: refused.MustCurryWith(prometheus.Labels{"way": string(way)}),
	}
}

// Accepted counts a job that is new.
func (i *Intake) Accepted() { i.accepted.Inc() }

// Refused counts a job that was not accepted.
func (i *Intake) Refused(code string) { i.refused.WithLabelValues(Code(code)).Inc() }
