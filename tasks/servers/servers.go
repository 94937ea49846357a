// Package servers looks at the Redis servers themselves: what they do when memory runs out, and how much of it is left.
//
// Redis with another maxmemory-policy than noeviction deletes jobs, leases and breakers without a word, so that whatever
// serves a deployment refuses to start on it. And a Redis that is full refuses writes, those of results as well: nothing
// is accepted any more while some is still left for what runs; see Meter.
package servers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// Server is what one server tells of itself, by INFO. What a field needs may be hidden, as by an ACL or by a provider:
// then it is zero.
type Server struct {
	// Addr is host:port. It is empty where there is only the one.
	Addr string
	// Version is empty for an embedded Redis.
	Version string
	// Role is "master" or "slave".
	Role string
	// Sentinel tells that it is a Sentinel.
	Sentinel bool
	// Cluster tells that it is a node of Redis Cluster.
	Cluster bool
	// Policy is its maxmemory-policy.
	Policy string
	// UsedBytes and MaxBytes are its memory, and its maxmemory, 0 for none. SystemBytes is that of its machine.
	UsedBytes, MaxBytes, SystemBytes int64
	// AOF tells that it keeps an append-only file; HidesAOF, that it does not say; RewriteError, that it could not
	// make it shorter the last time.
	AOF, HidesAOF, RewriteError bool
	// SaveError tells that its last snapshot (RDB) failed.
	SaveError bool
	// Evicted is how many keys it has deleted for want of memory since it was started.
	Evicted int64
	// Clients are those connected to it, MaxClients how many may be.
	Clients, MaxClients int
	// Replicas are those connected to it.
	Replicas int
}

// Name is how a message calls it.
func (s Server) Name() string {
	if s.Addr == "" {
		return "Redis"
	}
	return "Redis at " + s.Addr
}

// Look asks every master. Its error is that of a server that cannot be asked.
func Look(ctx context.Context, client redis.UniversalClient) ([]Server, error) {
	return look(ctx, client, "everything")
}

func look(ctx context.Context, client redis.UniversalClient, section string) ([]Server, error) {
	var all []Server
	var mu sync.Mutex
	err := Each(ctx, client, func(ctx context.Context, addr string, node redis.UniversalClient) error {
		one, err := ask(ctx, node, section)
		if err != nil && addr != "" {
			err = fmt.Errorf("node %s: %w", addr, err)
		}
		one.Addr = addr
		mu.Lock()
		defer mu.Unlock()
		all = append(all, one)
		return err
	})
	slices.SortFunc(all, func(a, b Server) int { return strings.Compare(a.Addr, b.Addr) })
	return all, err
}

// Each calls do for every master, at the same time for those of a cluster, and returns one of its errors. The address is
// empty where there is only the one.
func Each(ctx context.Context, client redis.UniversalClient, do func(ctx context.Context, addr string, node redis.UniversalClient) error) error {
	cluster, many := client.(*redis.ClusterClient)
	if !many {
		return do(ctx, "", client)
	}
	return cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
		return do(ctx, node.Options().Addr, node)
	})
}

// Ask asks one server. An embedded Redis answers nothing.
func Ask(ctx context.Context, node redis.Cmdable) (Server, error) {
	return ask(ctx, node, "everything")
}

func ask(ctx context.Context, client redis.Cmdable, section string) (Server, error) {
	text, err := client.Info(ctx, section).Result()
	if redis.HasErrorPrefix(err, "section (") { // the embedded Redis
		return Server{}, nil
	}
	if err != nil {
		return Server{}, err
	}
	return parse(text), nil
}

// parse reads the lines "name:value" of INFO.
func parse(text string) Server {
	info := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, found := strings.Cut(strings.TrimSpace(line), ":"); found {
			info[name] = value
		}
	}
	number := func(name string) int64 {
		value, _ := strconv.ParseInt(info[name], 10, 64)
		return value
	}
	_, saysAOF := info["aof_enabled"]
	return Server{
		Version: info["redis_version"], Role: info["role"], Cluster: info["cluster_enabled"] == "1", Sentinel: info["redis_mode"] == "sentinel", Policy: info["maxmemory_policy"],
		UsedBytes: number("used_memory"), MaxBytes: number("maxmemory"), SystemBytes: number("total_system_memory"),
		AOF: info["aof_enabled"] == "1", HidesAOF: !saysAOF,
		RewriteError: info["aof_last_bgrewrite_status"] == "err", SaveError: info["rdb_last_bgsave_status"] == "err", Evicted: number("evicted_keys"),
		Clients: int(number("connected_clients")), MaxClients: int(number("maxclients")), Replicas: int(number("connected_slaves")),
	}
}

// noEviction is the one maxmemory-policy that deletes nothing.
const noEviction = "noeviction"

// Evicts tells that the server deletes keys when its memory runs out.
func (s Server) Evicts() bool { return s.Policy != "" && s.Policy != noEviction }

// EvictsRemedy is what to do about a server that Evicts.
const EvictsRemedy = "CONFIG SET maxmemory-policy noeviction, and the same in redis.conf"

// Check is what every process asks that serves a deployment. Its error is a reason not to start; the warnings are not.
// A server that does not tell of itself is taken as it is.
func Check(ctx context.Context, client redis.UniversalClient) (warnings []string, err error) {
	all, err := Look(ctx, client)
	if err != nil {
		return []string{fmt.Sprintf("INFO is refused (%s): see yourself that maxmemory-policy is noeviction and the append-only file on", err)}, nil
	}
	for _, s := range all {
		switch {
		case s.Evicts():
			return nil, fmt.Errorf("%s has the maxmemory-policy %s: when its memory runs out it deletes jobs and leases without a word; %s",
				s.Name(), s.Policy, EvictsRemedy)
		case s.Sentinel:
			return nil, errors.New("what answers there is a Sentinel, which keeps no jobs; write redis-sentinel://host:port,host:port/database?master=name")
		case s.Role == "slave":
			return nil, fmt.Errorf("%s is a replica, which takes no writes; name its master", s.Name())
		case s.Version == "" || s.HidesAOF:
		case !s.AOF:
			warnings = append(warnings, s.Name()+" keeps no append-only file: accepted jobs and paid answers are lost when it restarts; "+
				"CONFIG SET appendonly yes, and the same in redis.conf")
		}
	}
	return warnings, nil
}
