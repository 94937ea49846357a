package sandbox

import (
	"context"
	"fmt"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// startRedis starts the embedded Redis, or a durable one, unless one was given.
func (s *Sandbox) startRedis(ctx context.Context) error {
	switch {
	case s.config.Redis != nil:
		s.Redis = s.config.Redis
		return nil
	case s.config.Data != "":
		return s.startDurable(ctx)
	}
	server := miniredis.NewMiniRedis()
	if err := server.StartAddr("127.0.0.1:0"); err != nil {
		return fmt.Errorf("start the embedded Redis: %w", err)
	}
	s.onClose(func(context.Context) error {
		server.Close()
		return nil
	})
	s.letTimePass(server)
	client := redis.NewClient(&redis.Options{
		Addr:     server.Addr(),
		PoolSize: Connections(s.config.Workers, s.config.Slots, s.config.Shards),
		// The embedded Redis does not know them.
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	s.onClose(func(context.Context) error { return client.Close() })
	s.Redis, s.RedisURL = client, "redis://"+server.Addr()+"/0"
	return nil
}

// letTimePass lets keys expire: in the embedded Redis, expiries do not advance by themselves.
func (s *Sandbox) letTimePass(server *miniredis.Miniredis) {
	done, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		last := time.Now()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
				now := time.Now()
				server.FastForward(now.Sub(last))
				last = now
			}
		}
	}()
	s.onClose(func(context.Context) error {
		close(done)
		<-stopped
		return nil
	})
}
