package command

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks/servers"
)

const (
	// maxSkew is where a worker refuses to start, warnSkew where the clocks are no longer kept by NTP.
	maxSkew  = 15 * time.Second
	warnSkew = 2 * time.Second
	// oldestRedis is the major version that the scripts are written for.
	oldestRedis = 7
	// nearLimit is the share of redis.memory_limit from which somebody should do something.
	nearLimit = 0.8
	// The shares of a machine's memory at which a Redis without a maxmemory is about to be killed.
	warnMemory, fullMemory = 0.7, 0.9
	// pings are made to a server, and half of them should not take slowPing. A job takes some ten such round trips.
	pings    = 10
	slowPing = 10 * time.Millisecond
	// shortTimeout is the shortest setting `timeout` that leaves connections alone.
	shortTimeout = 5 * time.Minute
	// warnClients is the share of maxclients that leaves no room for a further worker.
	warnClients = 0.8
)

// redisNode is one master under examination.
type redisNode struct {
	client  redis.UniversalClient
	options *redis.UniversalOptions
	subject string
	// prefix stands before the deployment's keys.
	prefix string
	// memoryLimit and waitReplicas are those of the configuration.
	memoryLimit  float64
	waitReplicas int
	// connections are those that one worker and one producer of the configuration may open; 0 where there is none.
	connections int

	server servers.Server
	// settings are some of redis.conf; empty where CONFIG is refused.
	settings map[string]string
	// usable tells that commands can be sent to it.
	usable bool
}

func (n *redisNode) examine(ctx context.Context) []finding {
	findings, err := n.examineTime(ctx)
	if err != nil {
		if found := writesStopped(err); found != nil {
			return n.about(*found)
		}
		message, hint := redisText(err), "see whether its process runs, and look into its log"
		if remedy := remedyOf(message); remedy != "" {
			hint = remedy
		}
		return n.about(finding{Code: codeRedisAway, Level: levelError, Message: "it does not answer: " + message, Hint: hint})
	}
	rights := n.examineRights(ctx)
	findings = append(findings, rights...)
	n.usable = len(rights) == 0
	if n.server, err = servers.Ask(ctx, n.client); err != nil {
		return n.about(append(findings, finding{
			Code: codeRedisHidden, Level: levelWarning,
			Message: "INFO is refused, so version, policy, persistence and memory are not known: " + redisText(err),
			Hint:    "allow this user INFO, or see yourself that the version is 7.0 or later, maxmemory-policy noeviction and the append-only file on",
		})...)
	}
	if n.server.Version == "" {
		return n.about(append(findings, finding{
			Code: codeRedisEmbedded, Level: levelWarning,
			Message: "it is an embedded Redis: all jobs are lost with its process",
			Hint:    "use a redis-server with an append-only file for work that matters",
		})...)
	}
	n.readSettings(ctx)
	for _, look := range []func() *finding{
		n.version, n.role, n.policy, n.appendOnly, n.snapshot, n.noLimit, n.memory, n.clients, n.timeout, n.replicas,
	} {
		if found := look(); found != nil {
			findings = append(findings, *found)
		}
	}
	return n.about(findings...)
}

// readSettings reads what INFO does not say. Where CONFIG is refused, as by many providers, it stays unknown.
func (n *redisNode) readSettings(ctx context.Context) {
	cmd := redis.NewMapStringStringCmd(ctx, "CONFIG", "GET", "timeout", "min-replicas-to-write", "appendfsync")
	if n.client.Process(ctx, cmd) == nil {
		n.settings = cmd.Val()
	}
}

func (n *redisNode) about(findings ...finding) []finding {
	for i := range findings {
		findings[i].Subject = n.subject
	}
	return findings
}

// examineTime looks at how long answers take, and at the clock. Its error is that of a server that does not answer.
func (n *redisNode) examineTime(ctx context.Context) ([]finding, error) {
	took := make([]time.Duration, pings)
	for i := range took {
		asked := time.Now()
		if err := n.client.Ping(ctx).Err(); err != nil {
			return nil, err
		}
		took[i] = time.Since(asked)
	}
	slices.Sort(took)
	var findings []finding
	if half := took[pings/2]; half > slowPing {
		findings = append(findings, finding{
			Code: codeRedisSlow, Level: levelWarning, Message: fmt.Sprintf("half of %d PINGs took %s or longer, and a job takes some ten such round trips", pings, brief(half)),
			Hint: "run it near the workers; on the same network it is below 1ms. SLOWLOG GET and LATENCY DOCTOR tell what else keeps it busy",
		})
	}
	asked := time.Now()
	server, err := n.client.Time(ctx).Result()
	if redis.IsPermissionError(err) {
		return findings, nil // it is among the rights
	}
	if err != nil {
		return nil, err
	}
	skew := server.Sub(asked.Add(time.Since(asked) / 2)).Abs()
	if skew < warnSkew {
		return findings, nil
	}
	found := finding{
		Code: codeClock, Level: levelWarning, Message: fmt.Sprintf("this machine's clock is %s off Redis's", brief(skew)),
		Hint: "set both machines' clocks by NTP",
	}
	if skew > maxSkew {
		found.Level = levelError
		found.Hint += fmt.Sprintf("; a worker refuses to start with more than %s", maxSkew)
	}
	return append(findings, found), nil
}

func (n *redisNode) version() *finding {
	major, _, _ := strings.Cut(n.server.Version, ".")
	if number, err := strconv.Atoi(major); err == nil && number >= oldestRedis {
		return nil
	}
	return &finding{
		Code: codeRedisVersion, Level: levelError,
		Message: fmt.Sprintf("its version, %s, is older than 7.0", n.server.Version), Hint: "upgrade it to 7.0 or later",
	}
}

func (n *redisNode) role() *finding {
	switch {
	case n.server.Cluster && !n.options.IsClusterMode:
		n.usable = false
		return &finding{
			Code: codeRedisCluster, Level: levelError,
			Message: "it is a node of a cluster, and the URL is that of a single server: whatever lies on other nodes is out of reach (MOVED)",
			Hint:    "write redis-cluster:// in the place of redis://, with the addresses of several nodes",
		}
	case n.server.Role == "slave":
		return &finding{
			Code: codeRedisReplica, Level: levelError, Message: "it is a replica, which takes no writes",
			Hint: "name the master's address, or redis-sentinel:// for whichever is the master",
		}
	}
	return nil
}

func (n *redisNode) policy() *finding {
	if !n.server.Evicts() {
		return nil
	}
	found := &finding{
		Code: codeRedisPolicy, Level: levelError,
		Message: fmt.Sprintf("its maxmemory-policy is %s: when memory runs out it deletes jobs and leases without a word", n.server.Policy),
		Hint:    servers.EvictsRemedy,
	}
	if n.server.Evicted > 0 {
		found.Message += fmt.Sprintf(", and has deleted %s since it was started", plural(int(n.server.Evicted), "key"))
	}
	return found
}

func (n *redisNode) appendOnly() *finding {
	switch {
	case n.server.HidesAOF:
		return nil
	case !n.server.AOF:
		return &finding{
			Code: codeRedisAOF, Level: levelWarning,
			Message: "it keeps no append-only file: accepted jobs and paid answers are lost when it restarts",
			Hint:    "CONFIG SET appendonly yes, and the same in redis.conf",
		}
	case n.server.RewriteError:
		return &finding{
			Code: codeRedisAOF, Level: levelWarning, Message: "it could not rewrite its append-only file the last time: the file grows without end",
			Hint: "free space on its disk and memory for a fork (vm.overcommit_memory=1), then BGREWRITEAOF; its log says what went wrong",
		}
	case n.settings["appendfsync"] == "no":
		return &finding{
			Code: codeRedisAOF, Level: levelWarning,
			Message: "it leaves to the system when its append-only file reaches the disk (appendfsync no): what was accepted within the last half minute is lost with its machine",
			Hint:    "CONFIG SET appendfsync everysec, or always for what may never be lost, and the same in redis.conf",
		}
	}
	return nil
}

func (n *redisNode) snapshot() *finding {
	if !n.server.SaveError {
		return nil
	}
	return &finding{
		Code: codeRedisSnapshot, Level: levelWarning, Message: "its last snapshot (RDB) failed: after a restart without the append-only file it would begin with an old one",
		Hint: snapshotRemedy,
	}
}

const snapshotRemedy = "free space on its disk and memory for a fork (vm.overcommit_memory=1), then BGSAVE; or turn snapshots off where an append-only file " +
	"is kept: CONFIG SET save \"\", and the same in redis.conf"

// writesStopped is what stops a server that cannot write to its disk: it refuses writes, and PING with them. Nil for
// every other error.
func writesStopped(err error) *finding {
	switch text := err.Error(); {
	case !strings.Contains(text, "MISCONF"):
		return nil
	case strings.Contains(text, "RDB"):
		return &finding{
			Code: codeRedisSnapshot, Level: levelError, Subject: subjectRedis,
			Message: "its last snapshot (RDB) failed, and it refuses all writes (MISCONF) until one succeeds", Hint: snapshotRemedy,
		}
	}
	return &finding{
		Code: codeRedisAOF, Level: levelError, Subject: subjectRedis,
		Message: "it cannot write its append-only file, and refuses all writes (MISCONF) until it can",
		Hint:    "free space on its disk, whose folder CONFIG GET dir names; its log says what went wrong",
	}
}

func (n *redisNode) noLimit() *finding {
	if n.server.MaxBytes > 0 || n.server.UsedBytes == 0 {
		return nil
	}
	return &finding{
		Code: codeRedisNoLimit, Level: levelWarning,
		Message: "it has no maxmemory: it grows until the system kills it, and redis.memory_limit has nothing to go by",
		Hint:    "CONFIG SET maxmemory to some 60 % of its machine's or container's memory, and the same in redis.conf",
	}
}

func (n *redisNode) memory() *finding {
	what, most := "maxmemory", n.server.MaxBytes
	warn, limit := nearLimit*n.memoryLimit, n.memoryLimit
	consequence := fmt.Sprintf("from %.0f %% on (redis.memory_limit) no job is accepted", 100*limit)
	switch {
	case most == 0:
		what, most, warn, limit = "its machine's memory", n.server.SystemBytes, warnMemory, fullMemory
		consequence = "when there is no more, the system kills it"
	case limit >= 1:
		warn, limit = warnMemory, fullMemory
		consequence = "when it is full, running jobs lose their leases and results"
	}
	used := float64(n.server.UsedBytes) / max(1, float64(most))
	if most == 0 || used < warn {
		return nil
	}
	found := &finding{
		Code: codeRedisMemory, Level: levelWarning,
		Message: fmt.Sprintf("it uses %.0f %% of %s (%d MiB), and %s", 100*used, what, most>>20, consequence),
		Hint:    "raise its maxmemory (CONFIG SET maxmemory) or give it more memory; or shorten retentions and discard dead letters, which frees it by and by",
	}
	if used >= limit {
		found.Level = levelError
	}
	return found
}

func (n *redisNode) clients() *finding {
	most := n.server.MaxClients
	if most > 0 && n.connections > most {
		return &finding{
			Code: codeRedisClients, Level: levelWarning,
			Message: fmt.Sprintf("it takes %d connections (maxclients), and one worker and one producer of this configuration may open %d", most, n.connections),
			Hint:    "CONFIG SET maxclients to more, and the same in redis.conf (its default is 10000); or lower worker.slots and webhooks.slots",
		}
	}
	if most == 0 || float64(n.server.Clients) < warnClients*float64(most) {
		return nil
	}
	return &finding{
		Code: codeRedisClients, Level: levelWarning, Message: fmt.Sprintf("%d of its %d connections (maxclients) are taken", n.server.Clients, n.server.MaxClients),
		Hint: "CONFIG SET maxclients to more, and the same in redis.conf; CLIENT LIST tells whose they are",
	}
}

func (n *redisNode) timeout() *finding {
	seconds, err := strconv.Atoi(n.settings["timeout"])
	timeout := time.Duration(seconds) * time.Second
	if err != nil || timeout == 0 || timeout >= shortTimeout {
		return nil
	}
	return &finding{
		Code: codeRedisTimeout, Level: levelWarning,
		Message: fmt.Sprintf("its setting `timeout` cuts connections that were idle for %s: a command that is sent at that moment fails", brief(timeout)),
		Hint:    "CONFIG SET timeout 0, and the same in redis.conf; dead peers are found by tcp-keepalive",
	}
}

// replicas looks whether there are those that are waited for, and one that could take over.
func (n *redisNode) replicas() *finding {
	if n.server.Role == "slave" {
		return nil
	}
	have := plural(n.server.Replicas, "replica")
	if required, _ := strconv.Atoi(n.settings["min-replicas-to-write"]); required > n.server.Replicas {
		return &finding{
			Code: codeRedisReplicas, Level: levelError,
			Message: fmt.Sprintf("it has %s, and refuses all writes (NOREPLICAS) with fewer than %d (min-replicas-to-write)", have, required),
			Hint:    "start its replicas, or CONFIG SET min-replicas-to-write to fewer",
		}
	}
	switch replicated := n.options.IsClusterMode || n.options.MasterName != ""; {
	case n.waitReplicas > n.server.Replicas:
		return &finding{
			Code: codeRedisReplicas, Level: levelError,
			Message: fmt.Sprintf("it has %s, and redis.wait_replicas waits for %d: whoever hands a job over is told that it may be lost", have, n.waitReplicas),
			Hint:    "start its replicas (REPLICAOF), or lower redis.wait_replicas",
		}
	case replicated && n.server.Replicas == 0:
		return &finding{
			Code: codeRedisReplicas, Level: levelWarning, Message: "it has no replica: when it dies nobody takes over, and its part of the jobs is gone until it is back",
			Hint: "start a replica for it (REPLICAOF; in a cluster CLUSTER REPLICATE)",
		}
	}
	return nil
}
