package alerts

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/forebay-queue/forebay/tasks/alerts"
	"github.com/forebay-queue/forebay/tasks/failpoint"
)

const (
	// lease is how long a message that is being sent is nobody else's: longer than it takes.
	lease = sendWithin + 4*time.Second
	// backoffBase is the wait after a first failure; it doubles up to backoffMost.
	backoffBase, backoffMost = 5 * time.Second, 5 * time.Minute
	// mostWaiting is how many messages wait for one channel; the oldest are given up.
	mostWaiting = 100
	// restAtMost is after how long a channel's outbox is looked at anew.
	restAtMost = lookEvery
)

// The outcomes of messages.
const (
	outcomeSent    = "sent"
	outcomeFailed  = "failed"
	outcomeGivenUp = "given_up"
)

// serve sends the messages of one channel, one after the other, as they become due. What one channel does holds no other.
func (w *Watch) serve(ctx context.Context, channel alerts.Channel) {
	var rest, told time.Time
	for ctx.Err() == nil {
		next := time.Now().Add(restAtMost)
		if !time.Now().Before(rest) {
			after, err := w.deliver(ctx, channel)
			if err != nil && ctx.Err() == nil && w.config.Term.Err() == nil && time.Since(told) >= tellEvery {
				told = time.Now()
				w.config.Log.Warn().Err(err).Str("channel", channel.Name).Msg("cannot look at the messages of alerts at the moment; trying on")
			}
			rest = time.Now().Add(after)
			if after > 0 {
				next = rest
			}
		} else {
			next = rest
		}
		select {
		case <-ctx.Done():
		case <-w.wake[channel.Name]:
		case <-time.After(time.Until(next)):
		}
	}
}

// deliver sends the first message that is due. What the channel has not taken holds up what came after it: it must not hear
// that something is over before it has heard of it. It returns for how long the channel is to be left alone; 0 where there is
// nothing to send.
func (w *Watch) deliver(ctx context.Context, channel alerts.Channel) (time.Duration, error) {
	if err := w.config.Term.Err(); err != nil {
		return 0, err
	}
	step, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	all, err := w.alerts.Outbox(step)
	if err != nil {
		return 0, err
	}
	var waiting []alerts.Message
	for _, message := range all {
		if message.Channel == channel.Name {
			waiting = append(waiting, message)
		}
	}
	for i, message := range waiting {
		if time.Since(message.At) > w.config.Settings.GiveUpAfter || i < len(waiting)-mostWaiting {
			if err := w.abandon(step, channel, message); err != nil {
				return 0, err
			}
			continue
		}
		try, err := w.alerts.Begin(step, w.config.Term.Number(), message.ID, lease)
		var wait *alerts.WaitError
		var stale *alerts.StaleError
		switch {
		case errors.Is(err, alerts.ErrGone):
			continue
		case errors.As(err, &wait):
			return min(wait.For, restAtMost), nil
		case errors.As(err, &stale):
			return 0, w.config.Term.Above(step, stale.Term)
		case err != nil:
			return 0, err
		}
		message.Tries = try
		return w.send(ctx, channel, message)
	}
	return 0, nil
}

// send makes one try, and notes what has come of it, to its end whoever leads meanwhile.
func (w *Watch) send(ctx context.Context, channel alerts.Channel, message alerts.Message) (time.Duration, error) {
	ctx = context.WithoutCancel(ctx)
	failpoint.At("alert.begun")
	problem := w.config.Sender.Send(ctx, channel, message)
	ctx, cancel := context.WithTimeout(ctx, lease-sendWithin)
	defer cancel()
	gap := max(formats[channel.Type].gap, time.Millisecond)
	if problem == nil {
		failpoint.At("alert.sent")
		w.count(channel, outcomeSent)
		w.config.Log.Info().Str("channel", channel.Name).Str("message", message.ID).Int("alerts", len(message.Alerts)).Int("try", message.Tries).Msg("alerts told")
		return gap, w.alerts.Done(ctx, message.ID, message.Tries)
	}
	w.count(channel, outcomeFailed)
	wait, after := backoff(message.Tries), time.Duration(0)
	var asked *RefusedError
	if errors.As(problem, &asked) {
		after = asked.After
	}
	wait = max(wait, after)
	w.config.Log.Warn().Err(problem).Str("channel", channel.Name).Str("message", message.ID).Int("try", message.Tries).
		Dur("again_in", wait).Msg("a message of alerts was not taken")
	return max(gap, after), w.alerts.Rest(ctx, message.ID, message.Tries, wait)
}

func (w *Watch) abandon(ctx context.Context, channel alerts.Channel, message alerts.Message) error {
	if time.Now().Before(message.RestsUntil) && time.Since(message.At) <= w.config.Settings.GiveUpAfter+lease {
		return nil // it may be on its way
	}
	w.count(channel, outcomeGivenUp)
	w.config.Log.Error().Str("channel", channel.Name).Str("message", message.ID).Int("tries", message.Tries).
		Msg("a message of alerts is given up; `forebay alerts test` tries its channel")
	return w.giveUp(ctx, message, "it was not taken in time")
}

func (w *Watch) count(channel alerts.Channel, outcome string) {
	w.config.Sent.WithLabelValues(string(channel.Type), outcome).Inc()
}

// backoff is the wait after so many tries, with jitter.
func backoff(tries int) time.Duration {
	wait := backoffBase << min(tries-1, 10)
	wait = min(wait, backoffMost)
	return wait - rand.N(wait/5+1)
}
