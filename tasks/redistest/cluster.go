package redistest

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks/servers"
)

// clusterMasters is how many there are: the fewest that Redis's own tools make a cluster of.
const clusterMasters = 3

// Cluster starts a Redis Cluster that ends with the test, and a client for it: three masters, each a redis-server process
// on loopback with a third of the slots. The arguments are added to their command lines.
func Cluster(t testing.TB, args ...string) (*redis.ClusterClient, []*Server) {
	t.Helper()
	return startCluster(t, 0, args)
}

// ReplicatedCluster is Cluster with a replica for each master: of the servers, the fourth is the first one's, and so on.
// A replica takes over within seconds.
func ReplicatedCluster(t testing.TB, args ...string) (*redis.ClusterClient, []*Server) {
	t.Helper()
	return startCluster(t, clusterMasters, append([]string{"--cluster-node-timeout", "2000"}, args...))
}

func startCluster(t testing.TB, replicas int, args []string) (*redis.ClusterClient, []*Server) {
	t.Helper()
	ctx, count := context.Background(), clusterMasters+replicas
	nodes, processes, addrs := make([]*redis.Client, count), make([]*Server, count), make([]string, count)
	must := func(err error, what string, node int) {
		if err != nil {
			t.Fatalf("%s node %d of the cluster: %v", what, node, err)
		}
	}
	var firstPort, firstBus string
	for i := range nodes {
		// By itself the bus listens on the port of Redis plus 10,000, and there may be no such port.
		_, bus, _ := net.SplitHostPort(freeAddr(t))
		nodes[i], processes[i] = Real(t, append([]string{"--cluster-enabled", "yes", "--cluster-port", bus}, args...)...)
		addrs[i] = processes[i].Addr
		if i < clusterMasters {
			must(nodes[i].ClusterAddSlotsRange(ctx, i*16384/clusterMasters, (i+1)*16384/clusterMasters-1).Err(), "give slots to", i)
		}
		must(nodes[i].Do(ctx, "CLUSTER", "SET-CONFIG-EPOCH", i+1).Err(), "give an epoch to", i)
		if i == 0 {
			_, firstPort, _ = net.SplitHostPort(addrs[0])
			firstBus = bus
			continue
		}
		must(nodes[i].Do(ctx, "CLUSTER", "MEET", "127.0.0.1", firstPort, firstBus).Err(), "introduce", i)
	}
	for i, node := range nodes {
		await(t, node, "cluster_state:ok", fmt.Sprintf("cluster_known_nodes:%d", count))
		if i >= clusterMasters {
			id, err := nodes[i-clusterMasters].Do(ctx, "CLUSTER", "MYID").Text()
			must(err, "name the master of", i)
			must(node.Do(ctx, "CLUSTER", "REPLICATE", id).Err(), "make a replica of", i)
			awaitReplica(t, node)
		}
	}
	cluster := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs: addrs, MaintNotificationsConfig: Options(addrs[0]).MaintNotificationsConfig,
	})
	servers.Follow(cluster)
	t.Cleanup(func() { _ = cluster.Close() })
	return cluster, processes
}

// await waits until what a node knows of its cluster has all these words.
func await(t testing.TB, node *redis.Client, words ...string) {
	t.Helper()
	var state string
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		state, _ = node.ClusterInfo(context.Background()).Result()
		if !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(state, word) }) {
			return
		}
	}
	t.Fatalf("%s does not see its cluster whole within 30s: %s", node.Options().Addr, state)
}

// awaitReplica waits until a replica has what its master has.
func awaitReplica(t testing.TB, node *redis.Client) {
	t.Helper()
	var state string
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if state, _ = node.Info(context.Background(), "replication").Result(); strings.Contains(state, "master_link_status:up") {
			return
		}
	}
	t.Fatalf("%s does not follow its master within 30s: %s", node.Options().Addr, state)
}
