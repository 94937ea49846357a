package jobstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/internal/gather"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

// Replication is how many replicas must have a job before it counts as accepted.
type Replication struct {
	// Replicas is how many must have it. 0 is none: the master alone decides.
	Replicas int
	// Timeout is how long they are waited for.
	Timeout time.Duration
}

// ErrUnreplicated tells that fewer replicas than asked for are known to have the job. It may be lost when its master is.
var ErrUnreplicated = errors.New("too few replicas have it")

const (
	// mostReplicated is how many jobs wait for the replicas of a master together: everybody else waits for them.
	mostReplicated = 256
	// barrierTTL is how long what is written before a WAIT stays.
	barrierTTL = time.Second
)

// barrier asks a master whether it has what a job is accepted by, and how many of its replicas have all that it has.
//
// WAIT counts for the connection that has written, and this is another one than the job's. So something is written
// here, after it has been seen that the master has the job: its replicas follow in the master's order. That look is
// also what tells of a failover in between, in which the job may have been lost though WAIT is content.
type barrier struct {
	wait   Replication
	groups *gather.Group[*redis.Client, look, looked]
	master func(ctx context.Context, key string) (*redis.Client, error)
}

// look is a question for a job: has the master its record, or its place in the index?
type look struct {
	barrier string // a key in the slot of the others
	record  string // of a record, or empty
	index   string // a set of the index, with the id that is to be in it
	id      string
}

// looked is the answer. The status is that of a record, empty where there is none.
type looked struct {
	status   tasks.Status
	indexed  bool
	replicas int64
}

func newBarrier(client redis.UniversalClient, wait Replication) *barrier {
	b := &barrier{wait: wait, master: func(context.Context, string) (*redis.Client, error) {
		return nil, fmt.Errorf("a %T does not tell its masters apart; give a *redis.Client or a *redis.ClusterClient", client)
	}}
	switch client := client.(type) {
	case *redis.Client:
		b.master = func(context.Context, string) (*redis.Client, error) { return client, nil }
	case *redis.ClusterClient:
		b.master = client.MasterForKey
	}
	b.groups = gather.New(mostReplicated, b.ask)
	return b
}

// ask asks one master for many jobs.
func (b *barrier) ask(master *redis.Client, looks []look) ([]looked, error) {
	ctx := context.Background() // the client's timeouts bound it
	conn := master.Conn()
	defer func() { _ = conn.Close() }()
	statuses, places := make([]*redis.StringCmd, len(looks)), make([]*redis.FloatCmd, len(looks))
	_, err := conn.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i, l := range looks {
			if l.record != "" {
				statuses[i] = pipe.HGet(ctx, l.record, "status")
			} else {
				places[i] = pipe.ZScore(ctx, l.index, l.id)
			}
		}
		pipe.Set(ctx, looks[0].barrier, "", barrierTTL)
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, err
	}
	replicas, err := conn.Wait(ctx, b.wait.Replicas, b.wait.Timeout).Result()
	if err != nil {
		return nil, fmt.Errorf("WAIT for its replicas: %w", err)
	}
	answers := make([]looked, len(looks))
	for i := range looks {
		answers[i].replicas = replicas
		if statuses[i] != nil {
			answers[i].status = tasks.Status(statuses[i].Val())
		} else {
			answers[i].indexed = places[i].Err() == nil
		}
	}
	return answers, nil
}

func (b *barrier) send(ctx context.Context, key string, l look) (*gather.Ticket[look, looked], error) {
	master, err := b.master(ctx, key)
	if err != nil {
		return nil, err
	}
	return b.groups.Send(master, l), nil
}

// AwaitReplicas returns when as many replicas as Config.Replication says have the records of jobs and their places in the
// index, by which everything else is made again; at once where it says none. What is wrong with one job is that
// job's error, ErrUnreplicated among them; to create it again repeats nothing, and waits again.
func (s *Store) AwaitReplicas(ctx context.Context, ids []string) []error {
	errs := make([]error, len(ids))
	if s.barrier.wait.Replicas == 0 {
		return errs
	}
	var group sync.WaitGroup
	for i, id := range ids {
		record := look{barrier: s.keys.Job(id) + ":replicated", record: s.keys.Job(id)}
		set := s.keys.Index(keyspace.IndexShard(id), indexOpen)
		index := look{barrier: s.keys.Index(keyspace.IndexShard(id), "replicated"), index: set, id: id}
		one, err1 := s.barrier.send(ctx, record.record, record)
		two, err2 := s.barrier.send(ctx, set, index)
		if errs[i] = errors.Join(err1, err2); errs[i] != nil {
			continue
		}
		group.Go(func() {
			first, err1 := one.Wait()
			second, err2 := two.Wait()
			if errs[i] = errors.Join(err1, err2); errs[i] == nil {
				errs[i] = s.judge(ctx, id, first, second)
			}
		})
	}
	group.Wait()
	return errs
}

func (s *Store) judge(ctx context.Context, id string, record, index looked) error {
	if record.status == "" {
		return fmt.Errorf("%w: the master that has taken it over does not have it", ErrUnreplicated)
	}
	if !index.indexed {
		// It has ended since, or the index was lost with its master.
		now, err := s.redis.HGet(ctx, s.keys.Job(id), "status").Result()
		if err != nil && !errors.Is(err, redis.Nil) {
			return err
		}
		if !tasks.Status(now).Ended() {
			return fmt.Errorf("%w: its place in the index is gone", ErrUnreplicated)
		}
		return nil
	}
	if have := min(record.replicas, index.replicas); have < int64(s.barrier.wait.Replicas) {
		return fmt.Errorf("%w: %d of %d after %s; see in INFO replication whether they follow, or set redis.wait_replicas lower",
			ErrUnreplicated, have, s.barrier.wait.Replicas, s.barrier.wait.Timeout)
	}
	return nil
}
