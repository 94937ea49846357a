package metrics

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
)

// redisHook counts what a client asks of Redis.
type redisHook struct {
	ok, failed prometheus.Counter
	duration   prometheus.Histogram
}

// RedisHook counts the commands of a client of go-redis, and times its round trips: a pipeline is one. Give it to the
// client's AddHook. Commands that wait for something are counted and not timed.
func RedisHook(registerer prometheus.Registerer) redis.Hook {
	commands := Counter(registerer, "forebay_redis_commands_total", "Commands that this process has sent to Redis.", "status")
	duration := Register(registerer, prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "forebay_redis_command_duration_seconds",
		Help: "Round trips to Redis; a pipeline is one, and commands that wait for something are left out.",
		Buckets: []float64{
			0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5,
		},
	}))
	return &redisHook{ok: commands.WithLabelValues(OK), failed: commands.WithLabelValues("error"), duration: duration}
}

// DialHook implements redis.Hook.
func (h *redisHook) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		return next(ctx, network, address)
	}
}

// ProcessHook implements redis.Hook.
func (h *redisHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		begun := time.Now()
		err := next(ctx, cmd)
		name := cmd.Name()
		if opens(name) {
			return err
		}
		h.count(err)
		if !blocks(name) {
			h.duration.Observe(time.Since(begun).Seconds())
		}
		return err
	}
}

// ProcessPipelineHook implements redis.Hook.
func (h *redisHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		begun := time.Now()
		err := next(ctx, cmds)
		if len(cmds) > 0 && opens(cmds[0].Name()) {
			return err
		}
		for _, cmd := range cmds {
			h.count(cmd.Err())
		}
		h.duration.Observe(time.Since(begun).Seconds())
		return err
	}
}

// count counts a command. That nothing was found is an answer, and so is that a script is to be sent in full.
func (h *redisHook) count(err error) {
	if err == nil || errors.Is(err, redis.Nil) || redis.HasErrorPrefix(err, "NOSCRIPT") {
		h.ok.Inc()
		return
	}
	h.failed.Inc()
}

// opens tells of commands that a connection begins with. Nobody asks for them, and a Redis that lacks one is no worse.
func opens(name string) bool {
	switch name {
	case "hello", "auth", "client", "select", "readonly":
		return true
	}
	return false
}

// blocks tells of commands that wait for something to happen. A stream that is read without waiting is among them, too:
// the name is all that is looked at.
func blocks(name string) bool {
	switch name {
	case "blmove", "blpop", "brpop", "bzpopmin", "xread", "xreadgroup", "wait", "subscribe":
		return true
	}
	return false
}
