package alerts

import (
	"context"
	_ "embed" // for the scripts
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks/keyspace"
)

var (
	//go:embed record.lua
	recordSource string
	//go:embed begin.lua
	beginSource string
	//go:embed settle.lua
	settleSource string

	recordScript = redis.NewScript(recordSource)
	beginScript  = redis.NewScript(beginSource)
	settleScript = redis.NewScript(settleSource)
)

var (
	// ErrChanged says that somebody has written since what was judged upon was read: it is to be read again.
	ErrChanged = errors.New("the alerts have changed since they were read")
	// ErrGone says that the message is no longer there: it was delivered, or given up.
	ErrGone = errors.New("the message is no longer there")
)

// StaleError says that a later leader has written.
type StaleError struct{ Term int64 }

// Error implements error.
func (e *StaleError) Error() string {
	return fmt.Sprintf("the leader of term %d looks after the alerts", e.Term)
}

// WaitError says that a message rests, or is being sent.
type WaitError struct{ For time.Duration }

// Error implements error.
func (e *WaitError) Error() string { return fmt.Sprintf("the message rests for %s", e.For) }

// Store keeps the alerts of one deployment.
type Store struct {
	redis redis.UniversalClient
	keys  keyspace.Keyspace
}

// New returns a Store. It sends nothing yet.
func New(client redis.UniversalClient, keys keyspace.Keyspace) *Store { return &Store{client, keys} }

// Snapshot is how the judging stands.
type Snapshot struct {
	// Revision counts what was recorded.
	Revision int64
	// States are by the keys of their alerts.
	States map[string]State
	// Samples are what was counted in the last hour, by what it is of, the oldest first.
	Samples map[string][]Sample
}

// Sample is what was counted at a time.
type Sample struct {
	At    time.Time `json:"at"`
	Count int       `json:"count"`
}

// Read reads how the judging stands.
func (s *Store) Read(ctx context.Context) (Snapshot, error) {
	pipe := s.redis.TxPipeline()
	standing, states := pipe.HGetAll(ctx, s.keys.AlertsTerm()), pipe.HGetAll(ctx, s.keys.Alerts())
	if _, err := pipe.Exec(ctx); err != nil {
		return Snapshot{}, fmt.Errorf("read the alerts from Redis: %w", err)
	}
	read := Snapshot{States: map[string]State{}, Samples: map[string][]Sample{}}
	if text := standing.Val()["samples"]; text != "" {
		if err := json.Unmarshal([]byte(text), &read.Samples); err != nil {
			return Snapshot{}, fmt.Errorf("the samples of the alerts in Redis cannot be read; versions of Forebay may be mixed: %w", err)
		}
	}
	if text := standing.Val()["revision"]; text != "" {
		number, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return Snapshot{}, fmt.Errorf("the revision of the alerts in Redis is %.40q, which is no number", text)
		}
		read.Revision = number
	}
	for key, text := range states.Val() {
		var state State
		if err := json.Unmarshal([]byte(text), &state); err != nil {
			return Snapshot{}, fmt.Errorf("the alert %.80q in Redis cannot be read; versions of Forebay may be mixed: %w", key, err)
		}
		read.States[key] = state
	}
	return read, nil
}

// Change is what Record writes.
type Change struct {
	// Write and Forget are alerts, Messages are new ones.
	Write    []State
	Forget   []string
	Messages []Message
	// Samples are written where they are not nil.
	Samples map[string][]Sample
}

// Empty tells that there is nothing to write.
func (c Change) Empty() bool {
	return len(c.Write) == 0 && len(c.Forget) == 0 && len(c.Messages) == 0 && c.Samples == nil
}

// Record writes a change of what was read, and returns the revision that it made. ErrChanged and StaleError say that
// nothing was written.
func (s *Store) Record(ctx context.Context, term, revision int64, change Change) (int64, error) {
	samples := ""
	if change.Samples != nil {
		text, err := json.Marshal(change.Samples)
		if err != nil {
			return 0, fmt.Errorf("write the samples of the alerts as JSON: %w", err)
		}
		samples = string(text)
	}
	args := []any{term, revision, len(change.Write), len(change.Forget), samples}
	for _, state := range change.Write {
		text, err := json.Marshal(state)
		if err != nil {
			return 0, fmt.Errorf("write the alert %s as JSON: %w", state.Key(), err)
		}
		args = append(args, state.Key(), string(text))
	}
	for _, key := range change.Forget {
		args = append(args, key)
	}
	for _, message := range change.Messages {
		text, err := json.Marshal(message)
		if err != nil {
			return 0, fmt.Errorf("write a message for the channel %s as JSON: %w", message.Channel, err)
		}
		args = append(args, message.ID, string(text))
	}
	word, number, err := s.run(ctx, recordScript, []string{s.keys.AlertsTerm(), s.keys.Alerts(), s.keys.AlertsOutbox()}, args...)
	switch {
	case err != nil:
		return 0, fmt.Errorf("record the alerts in Redis: %w", err)
	case word == "ok":
		return number, nil
	case word == "stale":
		return 0, &StaleError{number}
	case word == "changed":
		return 0, ErrChanged
	}
	return 0, unknown(word)
}

// Outbox reads the messages that are not delivered, the oldest first.
func (s *Store) Outbox(ctx context.Context) ([]Message, error) {
	pipe := s.redis.TxPipeline()
	messages, tries := pipe.HGetAll(ctx, s.keys.AlertsOutbox()), pipe.HGetAll(ctx, s.keys.AlertsTries())
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, fmt.Errorf("read the messages of alerts from Redis: %w", err)
	}
	var found []Message
	for id, text := range messages.Val() {
		var message Message
		if err := json.Unmarshal([]byte(text), &message); err != nil {
			return nil, fmt.Errorf("the message %.80q of alerts in Redis cannot be read; versions of Forebay may be mixed: %w", id, err)
		}
		done, rests, _ := strings.Cut(tries.Val()[id], " ")
		message.Tries, _ = strconv.Atoi(done)
		if ms, err := strconv.ParseInt(rests, 10, 64); err == nil {
			message.RestsUntil = time.UnixMilli(ms).UTC()
		}
		found = append(found, message)
	}
	slices.SortFunc(found, func(a, b Message) int {
		if !a.At.Equal(b.At) {
			return a.At.Compare(b.At)
		}
		return strings.Compare(a.ID, b.ID)
	})
	return found, nil
}

// Begin takes a message to send it, and returns which try it is. Nobody else gets it until the lease ends. WaitError,
// ErrGone and StaleError say that it is not to be sent.
func (s *Store) Begin(ctx context.Context, term int64, id string, lease time.Duration) (try int, err error) {
	word, number, err := s.run(ctx, beginScript, []string{s.keys.AlertsTerm(), s.keys.AlertsOutbox(), s.keys.AlertsTries()},
		term, id, lease.Milliseconds())
	switch {
	case err != nil:
		return 0, fmt.Errorf("take a message of alerts from Redis: %w", err)
	case word == "begun":
		return int(number), nil
	case word == "wait":
		return 0, &WaitError{time.Duration(number) * time.Millisecond}
	case word == "gone":
		return 0, ErrGone
	case word == "stale":
		return 0, &StaleError{number}
	}
	return 0, unknown(word)
}

// Done says that a message was delivered, or is given up, after so many tries. What was tried anew since stays.
func (s *Store) Done(ctx context.Context, id string, try int) error {
	return s.settle(ctx, id, try, -1)
}

// Rest says that a message is not to be tried for a while.
func (s *Store) Rest(ctx context.Context, id string, try int, wait time.Duration) error {
	return s.settle(ctx, id, try, max(0, wait.Milliseconds()))
}

func (s *Store) settle(ctx context.Context, id string, try int, ms int64) error {
	word, _, err := s.run(ctx, settleScript, []string{s.keys.AlertsOutbox(), s.keys.AlertsTries()}, id, try, ms)
	switch {
	case err != nil:
		return fmt.Errorf("note in Redis what has become of a message of alerts: %w", err)
	case word == "ok", word == "late", word == "gone":
		return nil
	}
	return unknown(word)
}

// run checks the shape of what all scripts answer: a word and a number.
func (s *Store) run(ctx context.Context, script *redis.Script, keys []string, args ...any) (word string, number int64, err error) {
	reply, err := script.Run(ctx, s.redis, keys, args...).StringSlice()
	if err != nil {
		return "", 0, err
	}
	if len(reply) != 2 {
		return "", 0, unknown(strings.Join(reply, " "))
	}
	if number, err = strconv.ParseInt(reply[1], 10, 64); err != nil {
		return "", 0, unknown(strings.Join(reply, " "))
	}
	return reply[0], number, nil
}

func unknown(answer string) error {
	return fmt.Errorf("the script answered %q; versions of Forebay may be mixed", answer)
}
