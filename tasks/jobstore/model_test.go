package jobstore

import (
	"cmp"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/forebay-queue/forebay/tasks"
)

// model is what a record must be, in plain Go.
type model struct {
	status                       tasks.Status
	fingerprint                  string
	run                          int
	delivery                     string
	cancel                       bool
	failures, deaths, deliveries int
	ledger                       []modelAttempt
	// ends are the statuses that the runs ended with, by run.
	ends map[int]tasks.Status
	// text is the answer of the success.
	text string
	// waiting is what the job waits for.
	waiting string
}

type modelAttempt struct {
	run      int
	delivery string
	ended    bool
	orphaned bool
}

// actor is one of two workers: what it believes, right or wrong.
type actor struct {
	name, delivery string
	run            int
	open           int // seq of its open attempt, or 0
}

// machine plays random verbs against a record and its model.
type machine struct {
	b          bundle
	outer      *testing.T
	id         string
	model      model
	actors     []*actor
	deliveries int
}

func TestRecordFollowsItsModel(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t := b.t
		rapid.Check(t, func(rt *rapid.T) {
			m := &machine{b: b, outer: t, id: b.job().Job.ID, actors: []*actor{{name: "w1"}, {name: "w2"}}}
			m.model.ends = map[int]tasks.Status{}
			rt.Repeat(map[string]func(*rapid.T){
				"create": m.create, "start": m.start, "sitout": m.sitOut, "begin": m.begin, "end": m.end, "commit": m.commit,
				"giveback": m.giveBack, "cancel": m.cancel, "reopen": m.reopen, "orphan": m.orphan, "": m.check,
			})
		})
	})
}

// twice plays a verb once or twice: the answer must be the same, and so must the record afterwards.
func (m *machine) twice(rt *rapid.T, want any, play func() any) {
	for i := range rapid.IntRange(1, 2).Draw(rt, "times") {
		require.Equal(rt, want, play(), "time %d", i+1)
	}
}

func (m *machine) exists() bool { return m.model.status != "" }

// refusal is the sentinel that a worker's verb must be answered with, or nil.
func (m *machine) refusal(a *actor) error {
	switch {
	case !m.exists():
		return ErrNotFound
	case a.run != m.model.run:
		return ErrStaleRun
	case m.model.status.Ended():
		return ErrEnded
	}
	return nil
}

// sentinel reduces an error to the one it wraps.
func sentinel(err error) error {
	for _, known := range refusals {
		if errors.Is(err, known) {
			return known
		}
	}
	return err
}

func (m *machine) actor(rt *rapid.T) *actor { return rapid.SampledFrom(m.actors).Draw(rt, "worker") }

func (m *machine) create(rt *rapid.T) {
	job := m.b.job()
	job.Job.ID, job.Fingerprint = m.id, rapid.SampledFrom([]string{"f1", "f1", "f2"}).Draw(rt, "fingerprint")
	var want error
	if !m.exists() {
		m.model.status, m.model.run, m.model.fingerprint = tasks.StatusQueued, 1, job.Fingerprint
	} else if job.Fingerprint != m.model.fingerprint {
		want = ErrIDConflict
	}
	m.twice(rt, want, func() any {
		created, err := m.b.Create(m.outer.Context(), job)
		if err == nil {
			require.Equal(rt, m.model.status, created.Status)
			require.Equal(rt, m.model.run, created.Run)
		}
		return sentinel(err)
	})
}

func (m *machine) start(rt *rapid.T) {
	a := m.actor(rt)
	run := max(m.model.run-rapid.IntRange(0, 1).Draw(rt, "behind"), 1)
	m.deliveries++
	delivery := Delivery{ID: fmt.Sprintf("d%d", m.deliveries), Worker: a.name, Run: run}
	var want error
	switch {
	case !m.exists():
		want = ErrNotFound
	case run != m.model.run:
		want = ErrStaleRun
	case !m.model.status.Ended():
		if m.model.status == tasks.StatusRunning {
			m.model.deaths++
		}
		m.model.status, m.model.delivery = tasks.StatusRunning, delivery.ID
		m.model.deliveries++
		m.model.waiting = ""
	}
	if want == nil {
		a.delivery, a.run, a.open = delivery.ID, run, 0
	}
	m.twice(rt, want, func() any {
		_, err := m.b.Start(m.outer.Context(), m.id, delivery)
		return sentinel(err)
	})
}

func (m *machine) sitOut(rt *rapid.T) {
	a := m.actor(rt)
	want := m.refusal(a)
	switch {
	case want != nil:
	case m.model.status != tasks.StatusRunning || m.model.delivery != a.delivery:
		want = ErrSuperseded
	case m.model.cancel:
		want = ErrCancelled
	default:
		m.model.waiting = "requests"
	}
	waiting := tasks.Waiting{Reason: "requests", Since: time.Now(), Until: time.Now().Add(5 * time.Second)}
	m.twice(rt, want, func() any { return sentinel(m.b.SitOut(m.outer.Context(), m.id, a.run, a.delivery, waiting)) })
}

func (m *machine) begin(rt *rapid.T) {
	a := m.actor(rt)
	if a.open > 0 {
		rt.Skip("it is calling")
	}
	want := m.refusal(a)
	switch {
	case want != nil:
	case m.model.status != tasks.StatusRunning || m.model.delivery != a.delivery:
		want = ErrSuperseded
	case m.model.cancel:
		want = ErrCancelled
	default:
		m.model.ledger = append(m.model.ledger, modelAttempt{run: a.run, delivery: a.delivery})
		a.open = len(m.model.ledger)
		m.model.waiting = ""
	}
	attempt := attemptOf(a.delivery, a.name)
	m.twice(rt, want, func() any {
		seq, err := m.b.Begin(m.outer.Context(), m.id, a.run, attempt)
		if err == nil {
			require.Equal(rt, a.open, seq)
		}
		return sentinel(err)
	})
}

// ending closes the actor's open attempt in the model, and returns its end for Redis.
func (m *machine) ending(a *actor) *tasks.Attempt {
	if a.open == 0 {
		return nil
	}
	attempt := attemptOf(a.delivery, a.name)
	attempt.Seq, attempt.Run = a.open, a.run
	m.model.ledger[a.open-1].ended, m.model.ledger[a.open-1].orphaned = true, false
	a.open = 0
	end := answered(attempt)
	return &end
}

func (m *machine) end(rt *rapid.T) {
	a := m.actor(rt)
	end := m.ending(a)
	if end == nil {
		rt.Skip("it is not calling")
	}
	m.twice(rt, nil, func() any { return m.b.End(m.outer.Context(), m.id, *end) })
}

func (m *machine) orphan(rt *rapid.T) {
	if len(m.model.ledger) == 0 {
		rt.Skip("no attempts")
	}
	seq := rapid.IntRange(1, len(m.model.ledger)).Draw(rt, "seq")
	record := m.b.get(m.outer, m.id)
	if !m.model.ledger[seq-1].ended {
		m.model.ledger[seq-1].ended, m.model.ledger[seq-1].orphaned = true, true
	}
	m.twice(rt, nil, func() any { return m.b.Orphan(m.outer.Context(), record, seq) })
}

func (m *machine) commit(rt *rapid.T) {
	a := m.actor(rt)
	if a.delivery == "" {
		rt.Skip("it has no delivery")
	}
	status := rapid.SampledFrom([]tasks.Status{
		tasks.StatusSucceeded, tasks.StatusFailed, tasks.StatusCancelled, tasks.StatusExpired,
	}).Draw(rt, "status")
	commit := success(m.id, a.run, m.ending(a))
	commit.Status, commit.Delivery = status, a.delivery
	commit.Result.Text = fmt.Sprintf("answer of %s", a.delivery)
	repeated := a.run == m.model.run && m.model.status == status && m.model.delivery == a.delivery
	want := Committed{Committed: repeated}
	if m.refusal(a) == nil {
		want.Committed = true
		m.model.status, m.model.delivery, m.model.cancel = status, a.delivery, false
		m.model.ends[a.run], m.model.text, m.model.waiting = status, commit.Result.Text, ""
	}
	want.Status = m.model.status
	m.twice(rt, want, func() any {
		committed, err := m.b.Commit(m.outer.Context(), commit)
		require.NoError(rt, err)
		return committed
	})
}

func (m *machine) giveBack(rt *rapid.T) {
	a := m.actor(rt)
	if a.delivery == "" {
		rt.Skip("it has no delivery")
	}
	back := GiveBack{
		Status:     rapid.SampledFrom([]tasks.Status{tasks.StatusQueued, tasks.StatusRetrying}).Draw(rt, "status"),
		SpendRetry: rapid.Bool().Draw(rt, "spend"), Attempt: m.ending(a),
	}
	reason := rapid.SampledFrom([]string{"", "permits"}).Draw(rt, "waiting")
	if reason != "" {
		back.Waiting = &tasks.Waiting{Reason: reason}
	}
	want := m.refusal(a)
	switch {
	case want != nil:
	case m.model.delivery != a.delivery:
		want = ErrSuperseded
	case m.model.status != tasks.StatusRunning: // given back before
	case m.model.cancel:
		want = ErrCancelled
	default:
		m.model.status, m.model.waiting = back.Status, reason
		if back.SpendRetry {
			m.model.failures++
		}
	}
	m.twice(rt, want, func() any {
		failures, err := m.b.GiveBack(m.outer.Context(), m.id, a.run, a.delivery, back)
		if err == nil {
			require.Equal(rt, m.model.failures, failures)
		}
		return sentinel(err)
	})
}

func (m *machine) cancel(rt *rapid.T) {
	var want error
	switch {
	case !m.exists():
		want = ErrNotFound
	case m.model.status == tasks.StatusRunning:
		m.model.cancel = true
	case !m.model.status.Ended():
		m.model.status, m.model.cancel = tasks.StatusCancelled, false
		m.model.ends[m.model.run], m.model.text, m.model.waiting = tasks.StatusCancelled, "", ""
	}
	m.twice(rt, want, func() any {
		reply, err := m.b.Cancel(m.outer.Context(), m.id, "default")
		if err == nil {
			require.Equal(rt, m.model.status, reply.Status)
		}
		return sentinel(err)
	})
}

func (m *machine) reopen(rt *rapid.T) {
	var want error
	switch {
	case !m.exists():
		want = ErrNotFound
	case m.model.status == tasks.StatusSucceeded:
		want = ErrSucceeded
	case !m.model.status.Ended():
		want = ErrNotEnded
	default:
		m.model.status, m.model.delivery, m.model.cancel = tasks.StatusQueued, "", false
		m.model.run++
		m.model.failures, m.model.deaths, m.model.deliveries = 0, 0, 0
	}
	_, err := m.b.Reopen(m.outer.Context(), m.id)
	require.Equal(rt, want, sentinel(err))
}

// check compares the record with the model.
func (m *machine) check(rt *rapid.T) {
	record, err := m.b.Get(m.outer.Context(), m.id)
	if !m.exists() {
		require.ErrorIs(rt, err, ErrNotFound)
		return
	}
	require.NoError(rt, err)
	model, result := m.model, record.Result()
	require.Equal(rt, model.status, record.Status)
	require.Equal(rt, model.run, record.Run)
	require.Equal(rt, model.delivery, record.Delivery)
	require.Equal(rt, model.cancel, record.Cancel)
	require.Equal(rt, model.waiting, cmp.Or(record.Waiting, &tasks.Waiting{}).Reason)
	require.Equal(rt, []int{model.failures, model.deaths, model.deliveries}, []int{record.Failures, record.Deaths, record.Deliveries})

	require.Len(rt, record.Attempts, len(model.ledger), "no attempt is lost")
	var cost float64
	for i, want := range model.ledger {
		got := record.Attempts[i]
		require.Equal(rt, i+1, got.Seq)
		require.Equal(rt, want, modelAttempt{
			run: got.Run, delivery: got.Delivery, ended: got.Ended, orphaned: got.Code == CodeWorkerGone,
		})
		if want.ended && !want.orphaned {
			cost += 0.02
		}
	}
	require.InDelta(rt, cost, result.CostUSD, 1e-9)

	require.Len(rt, record.Previous, model.run-1, "one result for every earlier run")
	for i, previous := range record.Previous {
		require.Equal(rt, i+1, previous.Run)
		require.Equal(rt, model.ends[i+1], previous.Status)
	}
	index, ttl := m.b.placed(m.outer, m.id)
	if model.status.Ended() {
		require.Equal(rt, model.ends[model.run], record.Status)
		require.Equal(rt, model.text, result.Text, "the result of a run is written once")
		require.Equal(rt, record.Status != tasks.StatusFailed, ttl > 0)
		require.Equal(rt, []string{indexOf(record.Status)}, index)
	} else {
		require.Nil(rt, record.result)
		require.Equal(rt, time.Duration(-1), ttl)
		require.Equal(rt, []string{indexOpen}, index)
	}
}
