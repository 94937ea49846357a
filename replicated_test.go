package main_test

import (
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/deploy/config"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

// replicated are the ways in which Redis has replicas.
var replicated = map[string]func(t testing.TB) redisSite{
	"cluster": func(t testing.TB) redisSite {
		t.Helper()
		client, servers := redistest.ReplicatedCluster(t)
		var addrs []string
		for _, server := range servers[1:] { // not the one that is killed
			addrs = append(addrs, server.Addr)
		}
		return redisSite{"redis-cluster://" + strings.Join(addrs, ","), client, servers}
	},
	"Sentinel": func(t testing.TB) redisSite {
		t.Helper()
		addrs, servers := redistest.Sentinel(t)
		options, err := config.ParseRedisURL(redistest.SentinelURL(addrs))
		if err != nil {
			t.Fatal(err)
		}
		options.MaintNotificationsConfig = redistest.Options("").MaintNotificationsConfig
		client := redis.NewUniversalClient(options)
		t.Cleanup(func() { _ = client.Close() })
		return redisSite{redistest.SentinelURL(addrs), client, servers}
	},
}
