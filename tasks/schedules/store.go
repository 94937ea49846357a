package schedules

import (
	"cmp"
	"context"
	"crypto/rand"
	_ "embed" // for the script
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/seal"
)

var (
	//go:embed advance.lua
	advanceSource string

	advanceScript = redis.NewScript(advanceSource)
)

var (
	// ErrNotFound says that there is no such schedule, or none of this tenant.
	ErrNotFound = errors.New("there is no such schedule")
	// ErrConfigured says that a schedule stands in the configuration, and is changed there.
	ErrConfigured = errors.New("the schedule stands in the configuration; change it there")
)

// Most is how many schedules a deployment has at most: all are read every second.
const Most = 10_000

// maxRereads bounds how often a state is read again because it changed in between.
const maxRereads = 10

// Store reads and writes schedules. It may be used by any number of goroutines.
type Store struct {
	redis  redis.UniversalClient
	keys   keyspace.Keyspace
	sealer *seal.Sealer
}

// New returns a Store, which seals the jobs of schedules where there is a Sealer. It sends nothing yet.
func New(client redis.UniversalClient, keys keyspace.Keyspace, sealer *seal.Sealer) *Store {
	return &Store{client, keys, sealer}
}

// kept is a schedule as Redis has it: its job may be sealed.
type kept struct {
	Schedule

	Job json.RawMessage `json:"job"`
}

func (s *Schedule) field() string { return s.Tenant + "/" + s.Name }

// Put adds a schedule, or replaces one of the same name and tenant, whose state stays. It must have passed Complete. One
// that stands in the configuration is replaced only by another one of it: ErrConfigured.
func (s *Store) Put(ctx context.Context, schedule Schedule) error {
	before, err := s.Get(ctx, schedule.Tenant, schedule.Name)
	if errors.Is(err, seal.ErrUnreadable) {
		err = nil // it is replaced
	}
	if schedule.Salt = before.Salt; schedule.Salt == "" {
		random := make([]byte, 16)
		_, _ = rand.Read(random) // never fails: see its documentation
		schedule.Salt = hex.EncodeToString(random)
	}
	switch {
	case err == nil && before.Source == SourceConfig && schedule.Source != SourceConfig:
		return fmt.Errorf("schedule %s: %w", schedule.Name, ErrConfigured)
	case err == nil:
		schedule.CreatedAt = before.CreatedAt
		if before.Cron != schedule.Cron { // the ticks of the old one are not the new one's
			schedule.CreatedAt = time.Now().UTC().Truncate(time.Second)
		}
	case !errors.Is(err, ErrNotFound):
		return err
	}
	if count, err := s.redis.HLen(ctx, s.keys.Schedules()).Result(); err == nil && count >= Most && before.Name == "" {
		return fmt.Errorf("schedule %s: there are %d schedules, which is the most", schedule.Name, count)
	}
	encoded, err := s.encode(schedule)
	if err != nil {
		return fmt.Errorf("write schedule %s: %w", schedule.Name, err)
	}
	state, err := json.Marshal(State{LastTick: time.Now().UTC()})
	if err != nil {
		return fmt.Errorf("write schedule %s as JSON: %w", schedule.Name, err)
	}
	pipe := s.redis.TxPipeline()
	pipe.HSet(ctx, s.keys.Schedules(), schedule.field(), encoded)
	if before.Name == "" || before.Cron != schedule.Cron || before.TimeZone != schedule.TimeZone {
		if before.Name != "" {
			before.State.LastTick = time.Now().UTC()
			if state, err = json.Marshal(before.State); err != nil {
				return fmt.Errorf("write schedule %s as JSON: %w", schedule.Name, err)
			}
		}
		pipe.HSet(ctx, s.keys.ScheduleStates(), schedule.field(), state)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("write schedule %s: %w", schedule.Name, err)
	}
	return nil
}

// Get reads a schedule. Of one whose job is sealed under a key that is not here it returns the rest, beside an error that
// wraps seal.ErrUnreadable.
func (s *Store) Get(ctx context.Context, tenant, name string) (Entry, error) {
	field := tenant + "/" + name
	pipe := s.redis.Pipeline()
	entry, state := pipe.HGet(ctx, s.keys.Schedules(), field), pipe.HGet(ctx, s.keys.ScheduleStates(), field)
	_, _ = pipe.Exec(ctx) // each command has its own error
	if errors.Is(entry.Err(), redis.Nil) {
		return Entry{}, fmt.Errorf("schedule %.64s of tenant %.64s: %w", name, tenant, ErrNotFound)
	}
	if err := entry.Err(); err != nil {
		return Entry{}, fmt.Errorf("read schedule %.64s: %w", name, err)
	}
	read, err := s.parse(entry.Val(), state.Val())
	if err != nil {
		return read, fmt.Errorf("read schedule %.64s: %w", name, err)
	}
	return read, nil
}

// List reads the schedules of a tenant, or with an empty one of everybody, by tenant and name. What cannot be read is left
// out, and told in the error beside the others.
func (s *Store) List(ctx context.Context, tenant string) ([]Entry, error) {
	pipe := s.redis.Pipeline()
	entries, states := pipe.HGetAll(ctx, s.keys.Schedules()), pipe.HGetAll(ctx, s.keys.ScheduleStates())
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, fmt.Errorf("read the schedules: %w", err)
	}
	list, problems := []Entry{}, []error(nil)
	for field, text := range entries.Val() {
		read, err := s.parse(text, states.Val()[field])
		switch {
		case err != nil:
			problems = append(problems, fmt.Errorf("read schedule %.130s: %w", field, err))
		case tenant == "" || tenant == read.Tenant:
			list = append(list, read)
		}
	}
	slices.SortFunc(list, func(a, b Entry) int { return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Name, b.Name)) })
	return list, errors.Join(problems...)
}

func (s *Store) encode(schedule Schedule) ([]byte, error) {
	job, err := tasks.Encode(schedule.Job)
	if err != nil {
		return nil, err
	}
	sealed, err := s.sealer.Seal(s.keys.Schedules(), schedule.field(), string(job))
	if err != nil {
		return nil, err
	}
	return tasks.Encode(kept{schedule, json.RawMessage(sealed)})
}

func (s *Store) parse(entry, state string) (Entry, error) {
	var written kept
	if err := json.Unmarshal([]byte(entry), &written); err != nil {
		return Entry{}, err
	}
	read := Entry{Schedule: written.Schedule}
	job, unread := s.sealer.Open(s.keys.Schedules(), read.field(), string(written.Job))
	if unread != nil {
		unread = fmt.Errorf("its job: %w", unread)
	} else if err := json.Unmarshal([]byte(job), &read.Job); err != nil {
		return Entry{}, err
	}
	if state != "" {
		if err := json.Unmarshal([]byte(state), &read.State); err != nil {
			return Entry{}, err
		}
	}
	if !read.State.Paused {
		if next := read.Schedule.Next(latest(read.State.LastTick, read.CreatedAt)); !next.IsZero() {
			read.Next = &next
		}
	}
	return read, unread
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// Remove takes a schedule away. The jobs that it has made stay.
func (s *Store) Remove(ctx context.Context, tenant, name, source string) error {
	entry, err := s.Get(ctx, tenant, name)
	if err != nil && !errors.Is(err, seal.ErrUnreadable) {
		return err
	}
	if entry.Source == SourceConfig && source != SourceConfig {
		return fmt.Errorf("schedule %s: %w", name, ErrConfigured)
	}
	pipe := s.redis.TxPipeline()
	pipe.HDel(ctx, s.keys.Schedules(), entry.field())
	pipe.HDel(ctx, s.keys.ScheduleStates(), entry.field())
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("remove schedule %s: %w", name, err)
	}
	return nil
}

// Pause has a schedule make no jobs, or has it go on from now. It returns the schedule as it stands then.
func (s *Store) Pause(ctx context.Context, tenant, name string, paused bool) (Entry, error) {
	err := s.change(ctx, tenant, name, func(state *State) bool {
		if state.Paused == paused {
			return false
		}
		if state.Paused = paused; !paused {
			state.LastTick = time.Now().UTC()
		}
		return true
	})
	if err != nil {
		return Entry{}, err
	}
	entry, err := s.Get(ctx, tenant, name)
	if errors.Is(err, seal.ErrUnreadable) {
		return entry, nil // it need not be read for it
	}
	return entry, err
}

// Advance writes down that the ticks of a schedule up to one have been dealt with.
func (s *Store) Advance(ctx context.Context, schedule Schedule, tick time.Time, made []string, missed int64, problem error) error {
	return s.change(ctx, schedule.Tenant, schedule.Name, func(state *State) bool {
		if !state.LastTick.Before(tick) {
			return false
		}
		state.LastTick, state.LastError = tick, ""
		state.Missed += missed
		state.Jobs += int64(len(made))
		if len(made) > 0 {
			state.LastJob = made[len(made)-1]
		}
		if problem != nil {
			state.LastError = problem.Error()
		}
		return true
	})
}

// change rewrites a state, unless there is nothing to change.
func (s *Store) change(ctx context.Context, tenant, name string, with func(state *State) bool) error {
	field := tenant + "/" + name
	for range maxRereads {
		read, err := s.redis.HGet(ctx, s.keys.ScheduleStates(), field).Result()
		if err != nil && !errors.Is(err, redis.Nil) {
			return fmt.Errorf("read the state of schedule %.64s: %w", name, err)
		}
		var state State
		if read != "" {
			if err := json.Unmarshal([]byte(read), &state); err != nil {
				return fmt.Errorf("read the state of schedule %.64s: %w", name, err)
			}
		}
		if !with(&state) {
			return nil
		}
		encoded, err := json.Marshal(state)
		if err != nil {
			return fmt.Errorf("write the state of schedule %.64s: %w", name, err)
		}
		words, err := advanceScript.Run(ctx, s.redis, []string{s.keys.Schedules(), s.keys.ScheduleStates()}, field, read, encoded).StringSlice()
		switch {
		case err != nil:
			return fmt.Errorf("write the state of schedule %.64s: %w", name, err)
		case len(words) == 1 && words[0] == "ok":
			return nil
		case len(words) == 1 && words[0] == "not_found":
			return fmt.Errorf("schedule %.64s of tenant %.64s: %w", name, tenant, ErrNotFound)
		}
	}
	return fmt.Errorf("the state of schedule %.64s changed %d times meanwhile; try again", name, maxRereads)
}
