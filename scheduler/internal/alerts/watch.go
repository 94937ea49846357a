// Package alerts judges how a deployment stands, every few seconds, and tells people of what is wrong and of its end. The
// leader does it; what it knows and what it has to say stand in Redis, so that the next leader goes on where it was.
package alerts

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/forebay-queue/forebay/tasks/alerts"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/events"
	"github.com/forebay-queue/forebay/tasks/failpoint"
	"github.com/forebay-queue/forebay/tasks/gate"
	"github.com/forebay-queue/forebay/tasks/jobstore"
)

const (
	// lookEvery is how often the deployment is judged.
	lookEvery = 3 * time.Second
	// stepTimeout bounds one step.
	stepTimeout = 10 * time.Second
	// tellEvery is how often the log hears of the same trouble.
	tellEvery = time.Minute
)

// Term is the leader's.
type Term interface {
	// Err is not nil once this process leads no more.
	Err() error
	Number() int64
	// Above raises the term above one that a script has seen.
	Above(ctx context.Context, seen int64) error
}

// Config configures a Watch. All of it is required but Registerer and Log.
type Config struct {
	Redis    redis.UniversalClient
	Store    *jobstore.Store
	Catalog  *catalog.Catalog
	Settings alerts.Settings
	// Workers counts the workers that are alive.
	Workers func(ctx context.Context) (int, error)
	Term    Term
	Sender  *Sender
	// Sent counts the messages, by type of channel and outcome: see NewSent.
	Sent *prometheus.CounterVec
	Log  zerolog.Logger
}

// Watch judges one deployment, and sends its messages.
type Watch struct {
	config Config
	look   *conditions
	alerts *alerts.Store
	told   time.Time
	// wake has a channel's loop look at once.
	wake map[string]chan struct{}
}

// NewSent is the counter of messages.
func NewSent(registerer prometheus.Registerer) *prometheus.CounterVec {
	sent := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "forebay_alert_notifications_total",
		Help: "Messages of alerts by the type of their channel: sent, failed (and tried again) or given_up.",
	}, []string{"channel_type", "outcome"})
	for _, kind := range alerts.Types {
		for _, outcome := range []string{outcomeSent, outcomeFailed, outcomeGivenUp} {
			sent.WithLabelValues(string(kind), outcome)
		}
	}
	if registerer != nil {
		registerer.MustRegister(sent)
	}
	return sent
}

// New returns a Watch that has not looked yet.
func New(config Config) *Watch {
	keys := config.Store.Keys()
	w := &Watch{config: config, alerts: alerts.New(config.Redis, keys), wake: map[string]chan struct{}{}, look: &conditions{
		redis: config.Redis, store: config.Store, catalog: config.Catalog, settings: config.Settings, workers: config.Workers,
		gate: gate.New(config.Redis, keys, config.Catalog), budget: gate.NewBudget(config.Redis, keys, config.Catalog.Budget),
	}}
	for _, channel := range config.Settings.Channels {
		w.wake[channel.Name] = make(chan struct{}, 1)
	}
	return w
}

// Run judges and sends until the context ends. A message that is being sent then is sent to its end, and noted.
func (w *Watch) Run(ctx context.Context) {
	var channels sync.WaitGroup
	defer channels.Wait()
	for _, channel := range w.config.Settings.Channels {
		channels.Go(func() { w.serve(ctx, channel) })
	}
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for ctx.Err() == nil {
		w.trouble(ctx, w.round(ctx), "cannot judge the alerts at the moment; trying on")
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}

// trouble tells the log, not too often. It is called by one goroutine.
func (w *Watch) trouble(ctx context.Context, err error, text string) {
	if err == nil || ctx.Err() != nil || w.config.Term.Err() != nil || time.Since(w.told) < tellEvery {
		return
	}
	w.told = time.Now()
	w.config.Log.Warn().Err(err).Msg(text)
}

// round judges once. What could not be read does not keep the rest from being judged.
func (w *Watch) round(ctx context.Context) error {
	if err := w.config.Term.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	stands, err := w.alerts.Read(ctx)
	if err != nil {
		return err
	}
	seen, samples, unread := w.look.look(ctx, stands.Samples)
	change := Judge(stands.States, seen, w.config.Settings)
	change.Samples = samples
	if err := w.record(ctx, &stands, change); err != nil {
		return errors.Join(unread, err)
	}
	if len(change.Messages) > 0 {
		failpoint.At("alert.recorded")
	}
	for _, message := range change.Messages {
		select {
		case w.wake[message.Channel] <- struct{}{}:
		default:
		}
	}
	return errors.Join(unread, w.publish(ctx, stands), w.sweep(ctx))
}

// record writes a change, and has what stands follow it.
func (w *Watch) record(ctx context.Context, stands *alerts.Snapshot, change alerts.Change) error {
	if change.Empty() {
		return nil
	}
	if err := w.config.Term.Err(); err != nil {
		return err
	}
	revision, err := w.alerts.Record(ctx, w.config.Term.Number(), stands.Revision, change)
	var stale *alerts.StaleError
	switch {
	case errors.Is(err, alerts.ErrChanged):
		return nil // by this leader's own try before, whose answer was lost, or by a later one
	case errors.As(err, &stale):
		return w.config.Term.Above(ctx, stale.Term)
	case err != nil:
		return err
	}
	stands.Revision = revision
	for _, key := range change.Forget {
		delete(stands.States, key)
	}
	for _, state := range change.Write {
		stands.States[state.Key()] = state
	}
	return nil
}

// publish writes the events of what has changed, each once: a level of its own says which was written last. It is asked
// anew for those of a leader that died in between.
func (w *Watch) publish(ctx context.Context, stands alerts.Snapshot) error {
	var change alerts.Change
	var problems []error
	for _, key := range slices.Sorted(maps.Keys(stands.States)) {
		state := stands.States[key]
		says, at := alerts.SaysFiring, state.FiredAt
		if state.Over() {
			says = alerts.SaysResolved
		}
		if state.FiredAt.IsZero() || state.Event == says {
			continue
		}
		level := 2 * int(at.UnixMilli())
		pairs := []any{
			"alert", state.Name, "subject", state.Subject, "severity", string(state.Severity),
			"since", state.Since.UTC().Format(time.RFC3339), "summary", state.Summary,
		}
		if state.Over() {
			level++
			pairs = append(pairs, "until", state.Until.UTC().Format(time.RFC3339))
		}
		told, err := events.Cross(ctx, w.config.Redis, w.config.Store.Keys(), "alert/"+key, level, "alert."+says, pairs...)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		if told {
			w.config.Log.Warn().Str("alert", state.Name).Str("subject", state.Subject).Str("summary", state.Summary).Msg("alert " + says)
		}
		state.Event = says
		change.Write = append(change.Write, state)
	}
	return errors.Join(append(problems, w.record(ctx, &stands, change))...)
}

// sweep gives up the messages of channels that are no more.
func (w *Watch) sweep(ctx context.Context) error {
	waiting, err := w.alerts.Outbox(ctx)
	if err != nil {
		return err
	}
	var problems []error
	for _, message := range waiting {
		if _, known := w.wake[message.Channel]; known || time.Now().Before(message.RestsUntil) {
			continue
		}
		w.config.Log.Warn().Str("channel", message.Channel).Str("message", message.ID).Msg("a message of alerts is for a channel that is no more; given up")
		problems = append(problems, w.giveUp(ctx, message, "its channel is no more"))
	}
	return errors.Join(problems...)
}

// giveUp takes a message out of the outbox, and writes an event.
func (w *Watch) giveUp(ctx context.Context, message alerts.Message, reason string) error {
	if err := w.alerts.Done(ctx, message.ID, message.Tries); err != nil {
		return err
	}
	names := make([]string, len(message.Alerts))
	for i, alert := range message.Alerts {
		names[i] = alert.Key()
	}
	return events.Publish(ctx, w.config.Redis, w.config.Store.Keys(), "alert.undelivered", "channel", message.Channel, "message", message.ID,
		"tries", message.Tries, "alerts", fmt.Sprint(names), "reason", reason)
}
