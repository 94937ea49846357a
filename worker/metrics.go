package worker

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/activity"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/gate"
	"github.com/forebay-queue/forebay/tasks/metrics"
	"github.com/forebay-queue/forebay/tasks/webhooks"
	"github.com/forebay-queue/forebay/worker/internal/hooks"
	"github.com/forebay-queue/forebay/worker/internal/slots"
)

// series are what the workers of a process count.
type series struct {
	ends            *metrics.Ends
	ledger          *metrics.Ledger
	latency         *prometheus.HistogramVec
	open            *prometheus.GaugeVec
	attempts        *prometheus.CounterVec
	attemptDuration *prometheus.HistogramVec
	tokens, cost    *prometheus.CounterVec
	waits, retries  *prometheus.CounterVec
	hooks           *prometheus.CounterVec
	hookDuration    prometheus.Histogram
	slots           *slotCount
	activity        *activity.Recorder
}

func newSeries(registerer prometheus.Registerer, recorder *activity.Recorder) *series {
	return &series{
		ends:   metrics.NewEnds(registerer),
		ledger: metrics.NewLedger(registerer),
		latency: metrics.Histogram(registerer, "forebay_queue_latency_seconds",
			"How long jobs, and webhooks, had to wait for their first beginning since it was due.",
			[]float64{0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14400}, "queue"),
		open: metrics.Register(registerer, prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "forebay_open_attempts", Help: "Attempts that are out: written to the ledger, and not ended.",
		}, []string{"endpoint"})),
		attempts: metrics.Counter(registerer, "forebay_attempts_total",
			"Attempts that have ended, by the class of their failure; ok for an answer.", "endpoint", "model", "class"),
		attemptDuration: metrics.Histogram(registerer, "forebay_attempt_duration_seconds",
			"How long calls took until their answer, or their failure, was there.", metrics.CallBuckets(), "endpoint", "model"),
		tokens: metrics.Counter(registerer, "forebay_tokens_total", "Tokens that were used, of prompts and of completions.",
			"endpoint", "model", "kind"),
		cost: metrics.Counter(registerer, "forebay_cost_usd_total", "What calls cost by the prices of the configuration, in US dollars.",
			"endpoint", "model"),
		waits: metrics.Counter(registerer, "forebay_waits_total", "Times that jobs had to wait before a call, by the reason.", "reason"),
		retries: metrics.Counter(registerer, "forebay_retries_total",
			"Deliveries that failed and are repeated after a backoff, by the class of the failure.", "class"),
		hooks: metrics.Counter(registerer, "forebay_webhook_attempts_total", "Attempts to deliver webhooks, by what came of them.", "outcome"),
		hookDuration: metrics.Register(registerer, prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "forebay_webhook_attempt_duration_seconds", Help: "How long attempts to deliver webhooks took.",
			Buckets: []float64{0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120},
		})),
		slots:    metrics.Register(registerer, newSlotCount()),
		activity: recorder,
	}
}

// begun observes how late something was begun that was due at a time.
func (s *series) begun(queue string, due time.Time) {
	s.latency.WithLabelValues(queue).Observe(max(0, time.Since(due).Seconds()))
}

// out counts an attempt as out, until the function it returns is called.
func (s *series) out(endpoint string) (back func()) {
	open := s.open.WithLabelValues(endpoint)
	open.Inc()
	return open.Dec
}

// attempted counts an attempt of a job that has ended. A success of the walk and a failure meet here.
func (s *series) attempted(known *catalog.Catalog, job tasks.Job, m *made) {
	s.activity.Attempted(known, job, m.ledger, m.called, m.report.Latency)
	endpoint, model := m.route.Endpoint, m.route.Model
	s.attempts.WithLabelValues(endpoint, model, metrics.Class(m.outcome.Class)).Inc()
	if m.ledger.Seq != 0 {
		s.ledger.Ended(m.ledger)
	}
	if m.called {
		s.attemptDuration.WithLabelValues(endpoint, model).Observe(m.report.Latency.Seconds())
	}
	if usage := m.outcome.Usage; usage != nil {
		s.tokens.WithLabelValues(endpoint, model, "prompt").Add(float64(max(0, usage.PromptTokens)))
		s.tokens.WithLabelValues(endpoint, model, "completion").Add(float64(max(0, usage.CompletionTokens)))
		s.cost.WithLabelValues(endpoint, model).Add(max(0, m.ledger.CostUSD))
	}
}

// waitReasons are those of waits of jobs.
var waitReasons = map[string]bool{
	string(gate.ReasonBreakerOpen): true, string(gate.ReasonProbeOut): true, string(gate.ReasonRamp): true,
	string(gate.ReasonCooldown): true, string(gate.ReasonNotServed): true, string(gate.ReasonRequests): true,
	string(gate.ReasonTokens): true, string(gate.ReasonPermits): true, string(gate.ReasonBudget): true,
	reasonAttemptOpen: true, reasonRedisAway: true, reasonGivenBack: true, reasonPaused: true, reasonUnreadable: true,
	reasonNoRoute: true, codeKeyMissing: true,
}

// waits counts a wait of a job.
func (s *series) waited(reason string) {
	if !waitReasons[reason] {
		reason = metrics.Other
	}
	s.waits.WithLabelValues(reason).Inc()
}

// back counts a delivery that goes back into the queue.
func (d *delivery) countBack(end conclusion) {
	s := d.worker.series
	if !end.spends {
		s.waited(end.waiting.Reason)
		return
	}
	class := tasks.ClassInternal
	if end.failure != nil {
		class = end.failure.Class
	}
	s.retries.WithLabelValues(metrics.Class(class)).Inc()
	s.activity.Retried(d.plan.catalog, d.job, d.record.Run, end.failure, len(d.record.Attempts)+len(d.attempts))
}

// webhookAttempted counts an attempt of a webhook.
func (s *series) webhookAttempted(class hooks.Class, attempt webhooks.Attempt) {
	s.hooks.WithLabelValues(string(class)).Inc()
	s.hookDuration.Observe(attempt.Latency.Seconds())
}

// slotCount shows the slots of all workers of a process.
type slotCount struct {
	desc  *prometheus.Desc
	mutex sync.Mutex
	pools map[*slots.Pool]struct{}
}

func newSlotCount() *slotCount {
	return &slotCount{
		desc:  prometheus.NewDesc("forebay_slots", "Slots for deliveries: how many there are, and how many are taken.", []string{"state"}, nil),
		pools: map[*slots.Pool]struct{}{},
	}
}

func (c *slotCount) add(pool *slots.Pool) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.pools[pool] = struct{}{}
}

func (c *slotCount) remove(pool *slots.Pool) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	delete(c.pools, pool)
}

// Describe implements prometheus.Collector.
func (c *slotCount) Describe(out chan<- *prometheus.Desc) { out <- c.desc }

// Collect implements prometheus.Collector.
func (c *slotCount) Collect(out chan<- prometheus.Metric) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	var busy, total int
	for pool := range c.pools {
		stats := pool.Stats()
		busy, total = busy+stats.Busy, total+stats.Size
	}
	out <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, float64(busy), "busy")
	out <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, float64(total), "total")
}

// ended counts an end that the Worker has written.
func (w *Worker) ended(job tasks.Job, status tasks.Status, result tasks.Result) {
	p := w.plans.use()
	defer w.plans.leave(p)
	w.series.ends.Ended(p.catalog, job, status, result)
	w.series.activity.Ended(p.catalog, job, status, result)
}

// abandoned counts an attempt that the Worker has ended in the place of another one.
func (w *Worker) abandoned(attempt tasks.Attempt) {
	p := w.plans.use()
	defer w.plans.leave(p)
	w.series.ledger.Abandoned(p.catalog, attempt)
}
