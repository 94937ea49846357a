// Package fleet knows the processes of a deployment: each says every few seconds that it lives, what it is, and by which
// version of the configuration it works. A process that is not heard of any more is forgotten by itself.
//
// A process has a key that expires, and its id stands in one hash, so that nobody searches the whole of Redis for them.
// The key of a process that does jobs is also how others find out whether it lives: see jobstore.WorkerAlive.
package fleet

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks/keyspace"
)

const (
	// TTL is how long a process counts as alive after it was last heard of.
	TTL = 15 * time.Second
	// Every is how often it says so.
	Every = 5 * time.Second
	// farewellWithin bounds the end of a membership: the key expires by itself.
	farewellWithin = time.Second
)

// Kind is what a process does.
type Kind string

// The kinds of processes. Dev is a whole deployment in one.
const (
	Worker    Kind = "worker"
	Producer  Kind = "producer"
	Scheduler Kind = "scheduler"
	Dev       Kind = "dev"
)

// Works tells whether a process of the kind does jobs.
func (k Kind) Works() bool { return k == Worker || k == Dev }

// Process is what a process says of itself.
type Process struct {
	ID   string `json:"id"`
	Kind Kind   `json:"kind"`
	Host string `json:"host,omitempty"`
	PID  int    `json:"pid,omitempty"`
	// Version is that of the program.
	Version   string    `json:"version,omitempty"`
	StartedAt time.Time `json:"started_at,omitzero"`
	SeenAt    time.Time `json:"seen_at,omitzero"`
	// Config is absent where the process works without a configuration.
	Config *Config `json:"config,omitempty"`
}

// Config is the configuration that a process works by.
type Config struct {
	// Version is a digest: two processes that have the same work by the same configuration.
	Version  string    `json:"version"`
	LoadedAt time.Time `json:"loaded_at"`
	// Keys are checks of the keys of encryption by their ids; see package seal.
	Keys map[string]string `json:"keys,omitempty"`
	// Restart are the fields that have changed in the file since the process was started, and need a restart.
	Restart []string `json:"restart,omitempty"`
	// Refused is why the file as it stands is not what the process works by; absent where it is.
	Refused *Refusal `json:"refused,omitempty"`
}

// Refusal is a configuration that was not taken up.
type Refusal struct {
	At time.Time `json:"at"`
	// Problems are what is wrong with it: file, line and column, and what would be right.
	Problems []string `json:"problems"`
}

// Member is this process in the fleet. It may be used by any number of goroutines.
type Member struct {
	client redis.UniversalClient
	keys   keyspace.Keyspace

	mutex   sync.Mutex
	process Process
	// writing has what is written overtake nothing, least of all the farewell.
	writing sync.Mutex
	left    bool
}

// Join returns the Member for this process, which nobody sees before its first Beat. Where ID, Host, PID and StartedAt
// are not given they are filled in.
func Join(client redis.UniversalClient, keys keyspace.Keyspace, p Process) *Member {
	p.ID = cmp.Or(p.ID, uuid.NewString())
	p.PID = cmp.Or(p.PID, os.Getpid())
	if p.Host == "" {
		p.Host, _ = os.Hostname() // without a name it has none
	}
	if p.StartedAt.IsZero() {
		p.StartedAt = time.Now().UTC()
	}
	return &Member{client: client, keys: keys, process: p}
}

// ID is the process's.
func (m *Member) ID() string { return m.process.ID }

// Update changes what the process says of its configuration, from the next Beat on.
func (m *Member) Update(config Config) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.process.Config = &config
}

// Beat says that the process lives.
func (m *Member) Beat(ctx context.Context) error {
	m.writing.Lock()
	defer m.writing.Unlock()
	if m.left {
		return nil
	}
	m.mutex.Lock()
	m.process.SeenAt = time.Now().UTC()
	text, err := json.Marshal(m.process)
	m.mutex.Unlock()
	if err != nil {
		return fmt.Errorf("heartbeat of process %s: %w", m.process.ID, err)
	}
	pipe := m.client.Pipeline()
	pipe.Set(ctx, key(m.keys, m.process.Kind, m.process.ID), text, TTL)
	pipe.HSet(ctx, m.keys.Fleet(), m.process.ID, string(m.process.Kind))
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("heartbeat of process %s: %w", m.process.ID, err)
	}
	return nil
}

// Run beats until the context ends, and leaves. Told hears of every Beat, with its error.
func (m *Member) Run(ctx context.Context, told func(error)) {
	ticker := time.NewTicker(Every)
	defer ticker.Stop()
	for ctx.Err() == nil {
		beat, cancel := context.WithTimeout(ctx, Every)
		err := m.Beat(beat)
		cancel()
		if ctx.Err() == nil {
			told(err)
		}
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
	_ = m.Leave(context.WithoutCancel(ctx)) // it expires by itself
}

// Leave says that the process has ended. A Beat after it says nothing.
func (m *Member) Leave(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, farewellWithin)
	defer cancel()
	m.writing.Lock()
	defer m.writing.Unlock()
	m.left = true
	pipe := m.client.Pipeline()
	pipe.Del(ctx, key(m.keys, m.process.Kind, m.process.ID))
	pipe.HDel(ctx, m.keys.Fleet(), m.process.ID)
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("farewell of process %s: %w", m.process.ID, err)
	}
	return nil
}

func key(keys keyspace.Keyspace, kind Kind, id string) string {
	if kind.Works() {
		return keys.Worker(id)
	}
	return keys.Process(id)
}

// Read lists the processes that live, by kind, host and age. It takes those out of the fleet that do not.
func Read(ctx context.Context, client redis.UniversalClient, keys keyspace.Keyspace) ([]Process, error) {
	ids, err := client.HGetAll(ctx, keys.Fleet()).Result()
	if err != nil {
		return nil, fmt.Errorf("list the processes: %w", err)
	}
	pipe := client.Pipeline()
	found := make(map[string]*redis.StringCmd, len(ids))
	for id, kind := range ids {
		found[id] = pipe.Get(ctx, key(keys, Kind(kind), id))
	}
	if len(found) > 0 {
		_, err = pipe.Exec(ctx) // each has its own error
	}
	var gone []string
	processes := make([]Process, 0, len(ids))
	for id, reply := range found {
		text, missing := reply.Bytes()
		switch {
		case errors.Is(missing, redis.Nil):
			gone = append(gone, id)
			continue
		case missing != nil:
			return nil, fmt.Errorf("list the processes: %w", errors.Join(err, missing))
		}
		process := Process{}
		if json.Unmarshal(text, &process) != nil {
			process = Process{} // of another version: it lives
		}
		process.ID, process.Kind = id, Kind(ids[id])
		processes = append(processes, process)
	}
	if len(gone) > 0 {
		// One that comes back says so itself, and nothing is lost where this fails.
		_ = client.HDel(ctx, keys.Fleet(), gone...).Err()
	}
	slices.SortFunc(processes, func(a, b Process) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Host, b.Host), a.StartedAt.Compare(b.StartedAt), cmp.Compare(a.ID, b.ID))
	})
	return processes, nil
}
