package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
)

// Ledger counts the ends of attempts in the ledgers of jobs, by what is known of their price.
type Ledger struct{ count *prometheus.CounterVec }

// NewLedger registers the series; registerer may be nil.
func NewLedger(registerer prometheus.Registerer) *Ledger {
	return &Ledger{Counter(registerer, "forebay_ledger_attempts_total",
		"Attempts that have ended in the ledger: settled, free, maybe_billed, or abandoned by a worker that is gone.", "endpoint", "state")}
}

// Ended counts an attempt whose worker has told its end.
func (l *Ledger) Ended(attempt tasks.Attempt) {
	state := "free"
	switch {
	case attempt.MaybeBilled:
		state = "maybe_billed"
	case attempt.Usage != nil:
		state = "settled"
	}
	l.count.WithLabelValues(attempt.Endpoint, state).Inc()
}

// Abandoned counts an attempt that was ended in the place of its worker. The catalog is that of the process, which may be
// nil: the attempt may be older.
func (l *Ledger) Abandoned(known *catalog.Catalog, attempt tasks.Attempt) {
	l.count.WithLabelValues(Endpoint(known, attempt.Endpoint), "abandoned").Inc()
}
