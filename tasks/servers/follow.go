package servers

import (
	"context"
	"net"

	"github.com/redis/go-redis/v9"
)

// Follow has a client of Redis Cluster ask anew who serves which slots as soon as a node cannot be reached. go-redis by
// itself asks once a minute, or when a node says that it is not the one, which a dead one does not: a failover that
// Redis is through with in seconds would last a minute. Other clients are left as they are: Sentinels tell them.
// It is called once for a client, before that is used.
func Follow(client redis.UniversalClient) {
	cluster, many := client.(*redis.ClusterClient)
	if !many {
		return
	}
	cluster.OnNewNode(func(node *redis.Client) { node.AddHook(follower{cluster}) })
}

// follower looks at how connections to a node are made.
type follower struct{ cluster *redis.ClusterClient }

// DialHook implements redis.Hook.
func (f follower) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := next(ctx, network, addr)
		if err != nil {
			f.cluster.ReloadState(ctx) // in the background, and at most some times a second
		}
		return conn, err
	}
}

// ProcessHook implements redis.Hook.
func (f follower) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

// ProcessPipelineHook implements redis.Hook.
func (f follower) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
