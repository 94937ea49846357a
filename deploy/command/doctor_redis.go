package command

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks/servers"
	"github.com/forebay-queue/forebay/worker"
)

// subjectRedis is the subject of what is found of Redis; where it is several servers, an address follows.
const subjectRedis = "redis"

// connectionProblem is why there is no connection: the error of connect, which ends with what to do.
func connectionProblem(options *redis.UniversalOptions, err error) finding {
	if found := writesStopped(err); found != nil {
		return *found
	}
	message, hint := err.Error(), "start Redis, or name another"
	if cut := strings.LastIndex(message, "; "); cut >= 0 {
		message, hint = message[:cut], message[cut+2:]
	}
	code := codeRedisAway
	switch {
	case redis.IsAuthError(err):
		code = codeRedisLogin
	case redis.IsPermissionError(err):
		code = codeRedisRights
		hint = fmt.Sprintf("allow the user %s in Redis' ACL what Forebay needs: PING, and in a cluster CLUSTER SLOTS, to begin with", userOf(options))
	case isTLS(err):
		code = codeRedisTLS
	case options.MasterName != "":
		code = codeRedisMaster // they have named it
		hint = "SENTINEL GET-MASTER-ADDR-BY-NAME " + options.MasterName + " says where it is: start it there, or have it announce an address that " +
			"can be reached from here (replica-announce-ip, sentinel announce-ip)"
	}
	return finding{Code: code, Level: levelError, Subject: subjectRedis, Message: message, Hint: hint}
}

// isTLS tells an error of TLS from one of the network, or of Redis.
func isTLS(err error) bool {
	return errors.As(err, new(tls.RecordHeaderError)) || errors.As(err, new(*tls.CertificateVerificationError)) || strings.Contains(err.Error(), "tls: ")
}

// userOf is the name by which Redis' ACL knows us.
func userOf(options *redis.UniversalOptions) string { return cmp.Or(options.Username, "default") }

// examineRedis looks at every master. It tells whether what is in Redis can be read at all.
func examineRedis(ctx context.Context, client redis.UniversalClient, s *settings) (findings []finding, usable bool) {
	var mu sync.Mutex
	versions := map[string]bool{}
	usable = true
	err := servers.Each(ctx, client, func(ctx context.Context, addr string, client redis.UniversalClient) error {
		node := redisNode{client: client, options: s.redis, memoryLimit: servers.DefaultLimit, subject: subjectRedis, prefix: s.prefix}
		if addr != "" {
			node.subject += " " + addr
		}
		if s.file != nil {
			node.memoryLimit, node.waitReplicas = s.file.Redis.MemoryLimit, s.file.Redis.WaitReplicas
			node.connections = worker.Connections(s.file.Worker.Slots, s.file.Catalog.Webhooks.Slots, s.shards()) + producerConnections
		}
		found := node.examine(ctx)
		mu.Lock()
		defer mu.Unlock()
		if node.server.Version != "" {
			versions[node.server.Version] = true
		}
		findings, usable = append(findings, found...), usable && node.usable
		return nil
	})
	slices.SortStableFunc(findings, func(a, b finding) int { return cmp.Compare(a.Subject, b.Subject) })
	if err != nil {
		return append(findings, finding{
			Code: codeRedisCluster, Level: levelError, Subject: subjectRedis, Message: "it does not say which masters it has: " + redisText(err),
			Hint: "look at CLUSTER NODES on each node",
		}), false
	}
	answers := finding{Code: codeRedis, Level: levelOK, Subject: subjectRedis, Message: "answers at " + redisAddress(s.redis)}
	if len(versions) > 0 {
		answers.Message += ", version " + strings.Join(sortedNames(versions), " and ")
	}
	findings = append([]finding{answers}, findings...)
	if cluster, many := client.(*redis.ClusterClient); many {
		found, whole := examineCluster(ctx, cluster)
		findings, usable = append(findings, found...), usable && whole
	}
	return findings, usable
}

func sortedNames(set map[string]bool) []string {
	names := make([]string, 0, len(set))
	for name := range set {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
