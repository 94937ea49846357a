package alerts

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/forebay-queue/forebay/tasks/alerts"
)

// Finding is a condition that holds.
type Finding struct {
	Name, Subject, Summary string
}

// Seen is what was found at a time.
type Seen struct {
	At time.Time
	// Holding are the conditions that hold.
	Holding []Finding
	// Unknown are the names of alerts whose conditions could not be read: nothing changes of them.
	Unknown map[string]bool
}

// Judge says what becomes of the alerts by what was found, and what the channels are to be told. It is a function of what
// it is given but for the ids of messages.
func Judge(states map[string]alerts.State, seen Seen, settings alerts.Settings) alerts.Change {
	j := judging{now: seen.At.UTC().Truncate(time.Millisecond), settings: settings, states: maps.Clone(states), written: map[string]bool{}}
	if j.states == nil {
		j.states = map[string]alerts.State{}
	}
	j.hold(seen)
	j.release(seen)
	return j.change()
}

type judging struct {
	now      time.Time
	settings alerts.Settings
	states   map[string]alerts.State
	written  map[string]bool
	out      alerts.Change
}

func (j *judging) write(state alerts.State) {
	j.states[state.Key()] = state
	j.written[state.Key()] = true
}

// hold takes up the conditions that hold.
func (j *judging) hold(seen Seen) {
	for _, found := range seen.Holding {
		if seen.Unknown[found.Name] || slices.Contains(j.settings.Off, found.Name) {
			continue
		}
		alert := alerts.Alert{
			Name: found.Name, Subject: found.Subject, Severity: alerts.Kinds[found.Name].Severity, Since: j.now, Summary: found.Summary,
		}
		state, known := j.states[alert.Key()]
		switch {
		case !known:
			state = alerts.State{Alert: alert}
			j.write(state)
		case state.Over() && state.Told == alerts.SaysFiring:
			// It fires again before anybody was told that it is over: it was never over for them.
			state.Until, state.GoodSince, state.Event = time.Time{}, time.Time{}, ""
			state.FiredAt = j.now
			j.write(state)
		case state.Over():
			continue // what is over is told first; it begins anew then
		case !state.GoodSince.IsZero():
			state.GoodSince = time.Time{}
			j.write(state)
		}
		if state.FiredAt.IsZero() && j.now.Sub(state.Since) >= j.settings.For[state.Name] {
			state.FiredAt, state.Summary = j.now, found.Summary
			j.write(state)
		}
	}
}

// release follows the conditions that hold no more.
func (j *judging) release(seen Seen) {
	holding := map[string]bool{}
	for _, found := range seen.Holding {
		if !slices.Contains(j.settings.Off, found.Name) {
			holding[alerts.Alert{Name: found.Name, Subject: found.Subject}.Key()] = true
		}
	}
	for key, state := range j.states {
		off := slices.Contains(j.settings.Off, state.Name)
		if holding[key] || state.Over() || seen.Unknown[state.Name] && !off {
			continue
		}
		switch {
		case state.FiredAt.IsZero():
			delete(j.states, key)
			j.out.Forget = append(j.out.Forget, key)
			delete(j.written, key)
		case state.GoodSince.IsZero():
			state.GoodSince = j.now
			j.write(state)
			fallthrough
		default:
			if j.now.Sub(state.GoodSince) >= j.settings.ResolveAfter {
				state.Until = state.GoodSince
				j.write(state)
			}
		}
	}
}

// untold tells whether something is to be said of an alert, and since when.
func (j *judging) untold(state alerts.State) (since time.Time, is bool) {
	switch {
	case state.Over() && state.Told != alerts.SaysResolved:
		return state.Until.Add(j.settings.ResolveAfter), true
	case state.Fires() && state.Told == "":
		return state.FiredAt, true
	}
	return time.Time{}, false
}

// change gathers what is to be told, and all that has changed.
func (j *judging) change() alerts.Change {
	due := false
	for _, state := range j.states {
		since, is := j.untold(state)
		due = due || is && j.now.Sub(since) >= j.settings.Group
	}
	told := map[string][]alerts.Alert{}
	again := map[string][]alerts.Alert{}
	for _, key := range slices.Sorted(maps.Keys(j.states)) {
		state := j.states[key]
		if _, is := j.untold(state); due && is {
			j.tell(state, told)
		} else if j.settings.Repeat > 0 && state.Fires() && state.Told == alerts.SaysFiring && j.now.Sub(state.ToldAt) >= j.settings.Repeat {
			j.tell(state, again)
		}
	}
	j.messages(told, false)
	j.messages(again, true)
	for _, key := range slices.Sorted(maps.Keys(j.states)) {
		state := j.states[key]
		switch {
		case state.Over() && state.Told == alerts.SaysResolved && state.Event == alerts.SaysResolved:
			j.out.Forget = append(j.out.Forget, key)
		case j.written[key]:
			j.out.Write = append(j.out.Write, state)
		}
	}
	slices.Sort(j.out.Forget)
	return j.out
}

// tell says how an alert stands to whom it concerns: that it is over to those who know that it fired.
func (j *judging) tell(state alerts.State, told map[string][]alerts.Alert) {
	knew := state.Channels
	for _, channel := range j.settings.Channels {
		wants := channel.Wants(state.Alert)
		if state.Over() && state.Told == alerts.SaysFiring {
			wants = slices.Contains(knew, channel.Name)
		}
		if !wants {
			continue
		}
		told[channel.Name] = append(told[channel.Name], state.Alert)
		if !slices.Contains(state.Channels, channel.Name) {
			state.Channels = append(slices.Clone(state.Channels), channel.Name)
		}
	}
	state.Told, state.ToldAt = alerts.SaysFiring, j.now
	if state.Over() {
		state.Told = alerts.SaysResolved
	}
	j.write(state)
}

func (j *judging) messages(told map[string][]alerts.Alert, reminder bool) {
	for _, channel := range slices.Sorted(maps.Keys(told)) {
		alerts.Sort(told[channel])
		j.out.Messages = append(j.out.Messages, alerts.Message{
			ID: "alert_" + strings.ReplaceAll(uuid.NewString(), "-", ""), Channel: channel, At: j.now, Reminder: reminder, Alerts: told[channel],
		})
	}
}
