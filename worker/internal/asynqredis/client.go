package asynqredis

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"github.com/forebay-queue/forebay/tasks/servers"
	"github.com/forebay-queue/forebay/worker/internal/slots"
)

// Config configures a Client. Every field but Log is required.
type Config struct {
	// Client is the connection to Redis: a *redis.Client (single or through Sentinel) or a *redis.ClusterClient.
	// Several Clients may share it; it stays open when they close. Its autopipeliner is used for acks.
	Client redis.UniversalClient
	// Queue is the asynq queue that the server works on; one server per queue.
	Queue string
	// Lane is where the queue gets its slots.
	Lane *slots.Lane
	// Log receives what asynq cannot know about. Defaults to none.
	Log zerolog.Logger
}

func (c Config) validate() error {
	var errs []error
	if c.Client == nil {
		errs = append(errs, errors.New("asynqredis: Client is required"))
	}
	if c.Queue == "" {
		errs = append(errs, errors.New("asynqredis: Queue is required"))
	}
	if c.Lane == nil {
		errs = append(errs, errors.New("asynqredis: Lane is required"))
	}
	return errors.Join(errs...)
}

// Client is a redis.UniversalClient for one asynq.Server. Whatever it does not recognise goes to the underlying
// client as it is.
type Client struct {
	redis.UniversalClient

	queue      string
	keys       keys
	lane       *slots.Lane
	log        zerolog.Logger
	pipe       processor
	peeker     redis.UniversalClient // its only connection blocks in the peek
	deliveries *deliveries
	completed  completions
	unsure     unsureAcks
	due        dueAnswer

	// stopping ends with Stop: everything that waits to take more work waits on it.
	stopping context.Context
	stop     context.CancelFunc

	fetch  fetcher
	buffer buffer
}

// processor runs a command: a client or an autopipeliner.
type processor interface {
	Process(ctx context.Context, cmd redis.Cmder) error
}

// New returns a client for the server of one queue. It opens one connection of its own, when the server starts.
func New(cfg Config) (*Client, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	peeker, err := newPeeker(cfg.Client)
	if err != nil {
		return nil, err
	}
	pipe, err := cfg.Client.AutoPipeline()
	if err != nil {
		_ = peeker.Close()
		return nil, fmt.Errorf("asynqredis: autopipeline of the Redis client for queue %q: %w", cfg.Queue, err)
	}
	log := cfg.Log.With().Str("queue", cfg.Queue).Logger()
	c := &Client{
		UniversalClient: cfg.Client,
		queue:           cfg.Queue,
		keys:            newKeys(cfg.Queue, uuid.NewString()),
		lane:            cfg.Lane,
		log:             log,
		pipe:            pipe,
		peeker:          peeker,
		deliveries:      newDeliveries(cfg.Lane, log),
		completed:       completions{client: cfg.Client},
	}
	c.stopping, c.stop = context.WithCancel(context.Background())
	return c, nil
}

// newPeeker returns a client of the same kind with one connection, so that closing it ends the peek at once and
// the peek takes no connection from the pool that the acks use.
func newPeeker(client redis.UniversalClient) (redis.UniversalClient, error) {
	switch client := client.(type) {
	case *redis.Client:
		options := *client.Options()
		options.PoolSize, options.MinIdleConns, options.MaxIdleConns, options.PipelinePoolSize = 1, 0, 0, -1
		options.MaxRetries = -1
		return redis.NewClient(&options), nil
	case *redis.ClusterClient:
		options := *client.Options()
		options.PoolSize, options.MinIdleConns, options.MaxIdleConns, options.PipelinePoolSize = 1, 0, 0, -1
		options.ReadOnly, options.RouteByLatency, options.RouteRandomly = false, false, false
		peeker := redis.NewClusterClient(&options)
		servers.Follow(peeker)
		return peeker, nil
	}
	return nil, fmt.Errorf("asynqredis: a %T cannot serve a queue: give a *redis.Client or a *redis.ClusterClient", client)
}

// Stop takes nothing new: what was claimed and not begun goes back to the queue, in its order, and from now on the
// queue looks empty to asynq. It returns within seconds even while Redis is away; then the claimed tasks come back
// when their leases have expired. Deliveries that run are not touched. Call it before asynq's Stop or Shutdown.
func (c *Client) Stop() {
	c.stop()
	_ = c.peeker.Close() // ends a peek that is blocked
	c.fetch.mu.Lock()    // a claim that is under way reports first
	defer c.fetch.mu.Unlock()
	if c.fetch.unresolved > 0 {
		if _, err := c.claim(c.fetch.unresolved); err != nil {
			c.log.Warn().Err(err).Msg("the last claim stays unresolved: " +
				"what it took is delivered again when its leases have expired")
		}
		c.fetch.giveUp(c.lane)
	}
	c.putBack(c.buffer.takeAll())
}

// Close stops the client if it still runs, and frees what it holds. Close it after the server's Shutdown. The
// underlying client stays open.
func (c *Client) Close() error {
	if c.stopping.Err() == nil {
		c.Stop()
	}
	return nil
}

// EvalSha runs a script by its SHA1, asynq's in this package's way.
func (c *Client) EvalSha(ctx context.Context, sha1 string, keys []string, args ...any) *redis.Cmd {
	if s := recognise(sha1); s.role != 0 {
		return c.serve(ctx, s, evalCmd(ctx, "evalsha", sha1, keys, args), keys, args)
	}
	return c.UniversalClient.EvalSha(ctx, sha1, keys, args...)
}

// Eval runs a script by its text, asynq's in this package's way.
func (c *Client) Eval(ctx context.Context, source string, keys []string, args ...any) *redis.Cmd {
	if s := recogniseSource(source); s.role != 0 {
		return c.serve(ctx, s, evalCmd(ctx, "eval", source, keys, args), keys, args)
	}
	return c.UniversalClient.Eval(ctx, source, keys, args...)
}

// HSet is how asynq stores a task's result: it travels with the acks, and may be repeated.
func (c *Client) HSet(ctx context.Context, key string, values ...any) *redis.IntCmd {
	cmd := redis.NewIntCmd(ctx, append([]any{"hset", key}, values...)...)
	if err := c.pipe.Process(ctx, once{cmd}); err != nil && !answered(err) {
		return c.UniversalClient.HSet(ctx, key, values...)
	}
	return cmd
}

func (c *Client) serve(ctx context.Context, s script, cmd *redis.Cmd, keys []string, args []any) *redis.Cmd {
	switch s.role {
	case dequeue:
		if keys[0] != c.keys.pending {
			cmd.SetErr(fmt.Errorf("asynqredis: the client of queue %q was asked for %s: "+
				"give each queue a server and a client of its own", c.queue, keys[0]))
			return cmd
		}
		msg, err := c.dequeue()
		cmd.SetVal(msg)
		cmd.SetErr(err)
	case ack, complete:
		cmd.SetErr(c.ack(ctx, s, cmd, keys, args))
	case forward:
		c.forward(ctx, cmd, keys, args)
	}
	return cmd
}

// ServerConfig returns the asynq configuration for the server of one queue, to be completed with what is the
// worker's own (Logger, RetryDelayFunc, ShutdownTimeout, ...). With it an idle queue costs less than 3 commands a
// second. Size is the number of slots of the whole process.
func ServerConfig(queue string, size int) asynq.Config {
	return asynq.Config{
		// asynq counts a delivery until its ack has been answered, its slot is free when the handler returns: deliveries
		// that wait for their acks keep no slot empty.
		Concurrency: 2 * size,
		Queues:      map[string]int{queue: 1},
		// What asynq sleeps after an empty dequeue; the waiting is done by the peek.
		TaskCheckInterval: time.Millisecond,
		// How late a scheduled or retried task may be.
		DelayedTaskCheckInterval: time.Second,
		// How often completed tasks whose retention is over are deleted.
		JanitorInterval: time.Minute,
	}
}

// once is a command that go-redis must not repeat after a broken connection: it may have been executed.
type once struct{ redis.Cmder }

func (once) NoRetry() bool { return true }

// scripter runs scripts without repeating them.
type scripter struct{ redis.UniversalClient }

func (s scripter) EvalSha(ctx context.Context, sha1 string, keys []string, args ...any) *redis.Cmd {
	cmd := evalCmd(ctx, "evalsha", sha1, keys, args)
	_ = s.Process(ctx, once{cmd})
	return cmd
}

func (s scripter) Eval(ctx context.Context, source string, keys []string, args ...any) *redis.Cmd {
	cmd := evalCmd(ctx, "eval", source, keys, args)
	_ = s.Process(ctx, once{cmd})
	return cmd
}

// evalCmd builds the command that go-redis builds for a script.
func evalCmd(ctx context.Context, name, payload string, keys []string, args []any) *redis.Cmd {
	list := make([]any, 0, 3+len(keys)+len(args))
	list = append(list, name, payload, len(keys))
	for _, key := range keys {
		list = append(list, key)
	}
	cmd := redis.NewCmd(ctx, append(list, args...)...)
	if len(keys) > 0 {
		cmd.SetFirstKeyPos(3)
	}
	return cmd
}

// pause waits for d or until Stop.
func (c *Client) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.stopping.Done():
	}
}

var _ redis.UniversalClient = (*Client)(nil)
