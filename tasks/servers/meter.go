package servers

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// DefaultLimit is the share of a server's maxmemory from which nothing is accepted any more.
const DefaultLimit = 0.7

// every is how old an answer of the servers may be.
const every = time.Second

// FullError is that a server has no room for new jobs.
type FullError struct {
	// Server is the one with the least room, Limit the share of its memory that is not to be passed.
	Server Server
	Limit  float64
}

func (e *FullError) Error() string {
	share := float64(e.Server.UsedBytes) / float64(e.Server.MaxBytes)
	return fmt.Sprintf("%s uses %.0f %% of its maxmemory of %d MiB, and from %.0f %% on no job is accepted, so that running ones have room for their results",
		e.Server.Name(), 100*share, e.Server.MaxBytes>>20, 100*e.Limit)
}

// Meter watches how much memory the servers have left. It may be used by any number of goroutines.
type Meter struct {
	client redis.UniversalClient
	limit  float64

	mu      sync.Mutex
	asked   time.Time
	looking bool
	full    error
}

// NewMeter returns a Meter for a share of the servers' maxmemory. 1 and more leaves it to Redis to refuse.
func NewMeter(client redis.UniversalClient, limit float64) *Meter {
	return &Meter{client: client, limit: limit}
}

// Check returns a *FullError where one of the servers has no room for new jobs. It asks them about once a second,
// whoever calls it. Servers that have no maxmemory, or do not tell, have room.
func (m *Meter) Check(ctx context.Context) error {
	if m.limit >= 1 {
		return nil
	}
	m.mu.Lock()
	if m.looking || !m.asked.IsZero() && time.Since(m.asked) < every {
		defer m.mu.Unlock()
		return m.full
	}
	m.looking = true
	m.mu.Unlock()

	all, err := look(ctx, m.client, "memory")
	m.mu.Lock()
	defer m.mu.Unlock()
	m.looking = false
	if err != nil {
		// Whoever wants to write is told by Redis itself; the last answer counts no longer.
		m.full = nil
		return nil
	}
	m.asked, m.full = time.Now(), m.fullest(all)
	return m.full
}

func (m *Meter) fullest(all []Server) error {
	var found *FullError
	for _, s := range all {
		if s.MaxBytes == 0 || float64(s.UsedBytes) < m.limit*float64(s.MaxBytes) {
			continue
		}
		if found == nil || s.UsedBytes*found.Server.MaxBytes > found.Server.UsedBytes*s.MaxBytes {
			found = &FullError{Server: s, Limit: m.limit}
		}
	}
	if found == nil {
		return nil
	}
	return found
}
