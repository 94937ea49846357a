package redistest

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// clusterNodes is how many there are: the fewest that Redis's own tools make a cluster of.
const clusterNodes = 3

// Cluster starts a Redis Cluster that ends with the test, and a client for it: three masters, each a redis-server process
// on loopback with a third of the slots. The arguments are added to their command lines.
func Cluster(t testing.TB, args ...string) (*redis.ClusterClient, []*Server) {
	t.Helper()
	ctx := context.Background()
	nodes, servers, addrs := make([]*redis.Client, clusterNodes), make([]*Server, clusterNodes), make([]string, clusterNodes)
	must := func(err error, what string, node int) {
		if err != nil {
			t.Fatalf("%s node %d of the cluster: %v", what, node, err)
		}
	}
	var firstPort, firstBus string
	for i := range nodes {
		// By itself the bus listens on the port of Redis plus 10,000, and there may be no such port.
		_, bus, _ := net.SplitHostPort(freeAddr(t))
		nodes[i], servers[i] = Real(t, append([]string{"--cluster-enabled", "yes", "--cluster-port", bus}, args...)...)
		addrs[i] = servers[i].Addr
		must(nodes[i].ClusterAddSlotsRange(ctx, i*16384/clusterNodes, (i+1)*16384/clusterNodes-1).Err(), "give slots to", i)
		must(nodes[i].Do(ctx, "CLUSTER", "SET-CONFIG-EPOCH", i+1).Err(), "give an epoch to", i)
		if i == 0 {
			_, firstPort, _ = net.SplitHostPort(addrs[0])
			firstBus = bus
			continue
		}
		must(nodes[i].Do(ctx, "CLUSTER", "MEET", "127.0.0.1", firstPort, firstBus).Err(), "introduce", i)
	}
	for i, node := range nodes {
		awaitWhole(t, node, i)
	}
	cluster := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs: addrs, MaintNotificationsConfig: Options(addrs[0]).MaintNotificationsConfig,
	})
	t.Cleanup(func() { _ = cluster.Close() })
	return cluster, servers
}

// awaitWhole waits until a node knows all others and all slots are served.
func awaitWhole(t testing.TB, node *redis.Client, number int) {
	t.Helper()
	var state string
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		state, _ = node.ClusterInfo(context.Background()).Result()
		if strings.Contains(state, "cluster_state:ok") && strings.Contains(state, "cluster_known_nodes:3") {
			return
		}
	}
	t.Fatalf("node %d of the cluster does not see it whole within 30s: %s", number, state)
}
