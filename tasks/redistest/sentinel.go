package redistest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// MasterName is what the Sentinels call the master that they watch.
const MasterName = "forebay-test"

// sentinels is how many there are, of which two have to agree; each master has so many replicas.
const (
	sentinels = 3
	replicas  = 2
)

// Sentinel starts a master with two replicas and three Sentinels that watch them, all ended with the test. It returns the
// Sentinels' addresses, and the servers, the first of which is the master to begin with. A replica takes over within
// seconds. The arguments are added to the servers' command lines.
func Sentinel(t testing.TB, args ...string) (addrs []string, servers []*Server) {
	t.Helper()
	_, master := Real(t, args...)
	host, port, _ := net.SplitHostPort(master.Addr)
	servers = []*Server{master}
	for range replicas {
		node, server := Real(t, append([]string{"--replicaof", host + " " + port}, args...)...)
		awaitReplica(t, node)
		servers = append(servers, server)
	}
	for range sentinels {
		addrs = append(addrs, startSentinel(t, host, port))
	}
	for _, addr := range addrs {
		awaitSentinel(t, addr)
	}
	return addrs, servers
}

// SentinelURL is the URL of the master by its Sentinels.
func SentinelURL(addrs []string) string {
	return fmt.Sprintf("redis-sentinel://%s/0?master=%s", strings.Join(addrs, ","), MasterName)
}

func startSentinel(t testing.TB, host, port string) string {
	t.Helper()
	addr, dir := freeAddr(t), t.TempDir()
	_, own, _ := net.SplitHostPort(addr)
	path := filepath.Join(dir, "sentinel.conf")
	text := fmt.Sprintf("port %[1]s\nbind 127.0.0.1\ndir %[2]s\nlogfile %[2]s/sentinel.log\nsentinel monitor %[3]s %[4]s %[5]s 2\n"+
		"sentinel down-after-milliseconds %[3]s 1000\nsentinel failover-timeout %[3]s 5000\nsentinel parallel-syncs %[3]s 1\n",
		own, dir, MasterName, host, port)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("redis-server", path, "--sentinel")
	if err := cmd.Start(); err != nil {
		t.Fatalf("start a Sentinel: %v; run `make test`, which installs redis-server", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return addr
}

// awaitSentinel waits until a Sentinel knows the others and the replicas.
func awaitSentinel(t testing.TB, addr string) {
	t.Helper()
	client := redis.NewSentinelClient(Options(addr))
	defer func() { _ = client.Close() }()
	var known map[string]string
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		known, _ = client.Master(context.Background(), MasterName).Result()
		if known["num-other-sentinels"] == fmt.Sprint(sentinels-1) && known["num-slaves"] == fmt.Sprint(replicas) {
			return
		}
	}
	t.Fatalf("the Sentinel at %s does not know its master's servers within 30s: %v", addr, known)
}
