package command

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// clusterSlots is how many slots the keys of a cluster are spread over.
const clusterSlots = 16384

// examineCluster looks whether every slot has a master that serves it, and tells whether keys can be read.
func examineCluster(ctx context.Context, client *redis.ClusterClient) (findings []finding, whole bool) {
	text, err := client.ClusterInfo(ctx).Result()
	if redis.IsPermissionError(err) {
		return nil, true // what is not whole is found by using it
	}
	if err != nil {
		return []finding{{
			Code: codeRedisCluster, Level: levelError, Subject: subjectRedis, Message: "CLUSTER INFO fails: " + redisText(err), Hint: "look into the log of each node",
		}}, false
	}
	info := map[string]string{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		info[name] = value
	}
	assigned, _ := strconv.Atoi(info["cluster_slots_assigned"])
	failed, _ := strconv.Atoi(info["cluster_slots_fail"])
	found := finding{Code: codeRedisCluster, Level: levelError, Subject: subjectRedis}
	switch {
	case assigned < clusterSlots:
		found.Message = fmt.Sprintf("%d of the cluster's %d slots belong to no master: keys there cannot be used (CLUSTERDOWN)", clusterSlots-assigned, clusterSlots)
		found.Hint = "`redis-cli --cluster fix HOST:PORT`, or CLUSTER ADDSLOTSRANGE on the master that is to have them"
	case failed > 0:
		found.Message = fmt.Sprintf("the master of %d of the cluster's slots is down, and no replica has taken over", failed)
		found.Hint = "start it again; CLUSTER NODES names it. With a replica for each master (CLUSTER REPLICATE) the next one is taken over for within seconds"
	case info["cluster_state"] != "ok":
		found.Message = "the cluster's state is " + info["cluster_state"] + ": this node does not reach most of the masters"
		found.Hint = "look at CLUSTER NODES on each node, and whether their bus ports reach each other"
	default:
		return nil, true
	}
	return []finding{found}, false
}

// examineSentinels asks each Sentinel of the URL for the master, and tells whether Redis can be looked for by them.
func examineSentinels(ctx context.Context, options *redis.UniversalOptions) (findings []finding, usable bool) {
	if options.MasterName == "" {
		return nil, true
	}
	var unknown []string
	var answer *sentinelAnswer
	for _, addr := range options.Addrs {
		found, err := askSentinel(ctx, options, addr)
		switch {
		case err == nil:
			answer = &found
		case errors.Is(err, errNoSuchMaster):
			unknown = append(unknown, addr)
		default:
			findings = append(findings, finding{
				Code: codeRedisSentinel, Level: levelWarning, Subject: "sentinel " + addr, Message: "does not answer: " + redisText(err),
				Hint: sentinelRemedy(err),
			})
		}
	}
	switch {
	case answer == nil && len(unknown) > 0:
		return append(findings, finding{
			Code: codeRedisMaster, Level: levelError, Subject: "sentinel " + strings.Join(unknown, ", "),
			Message: fmt.Sprintf("watches no master of the name %s", options.MasterName),
			Hint:    "correct ?master= in Redis' URL, by what stands behind `sentinel monitor` in the Sentinels' configuration (SENTINEL MASTERS lists it)",
		}), false
	case answer == nil:
		for i := range findings {
			findings[i].Level = levelError
		}
		return findings, false
	case len(unknown) > 0:
		findings = append(findings, finding{
			Code: codeRedisSentinel, Level: levelWarning, Subject: "sentinel " + strings.Join(unknown, ", "),
			Message: fmt.Sprintf("watches no master of the name %s, and others do", options.MasterName), Hint: "SENTINEL MONITOR it there as well",
		})
	}
	if answer.noQuorum != "" {
		findings = append(findings, finding{
			Code: codeRedisQuorum, Level: levelError, Subject: "sentinel", Message: "when the master dies nobody takes over: " + answer.noQuorum,
			Hint: "start the other Sentinels, or SENTINEL RESET " + options.MasterName + " on those that are left to have them forget what is gone for good",
		})
	}
	return findings, true
}

// sentinelAnswer is what a Sentinel says of a master that it watches.
type sentinelAnswer struct {
	// noQuorum is why no failover could be agreed on; empty where it could.
	noQuorum string
}

var errNoSuchMaster = errors.New("it watches no such master")

func askSentinel(ctx context.Context, options *redis.UniversalOptions, addr string) (sentinelAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	sentinel := redis.NewSentinelClient(&redis.Options{
		Addr: addr, Username: options.SentinelUsername, Password: options.SentinelPassword, TLSConfig: options.TLSConfig,
		DialTimeout: redisTimeout, ReadTimeout: redisTimeout, ContextTimeoutEnabled: true, MaxRetries: -1,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	defer func() { _ = sentinel.Close() }() // nothing was written
	_, err := sentinel.GetMasterAddrByName(ctx, options.MasterName).Result()
	switch {
	case errors.Is(err, redis.Nil):
		return sentinelAnswer{}, errNoSuchMaster
	case err != nil:
		return sentinelAnswer{}, err
	}
	err = sentinel.CkQuorum(ctx, options.MasterName).Err()
	if redis.HasErrorPrefix(err, "NOQUORUM") {
		return sentinelAnswer{noQuorum: strings.TrimPrefix(err.Error(), "NOQUORUM ")}, nil
	}
	return sentinelAnswer{}, nil // where it may not be asked, the master is known all the same
}

func sentinelRemedy(err error) string {
	switch {
	case redis.IsAuthError(err), redis.IsPermissionError(err):
		return "correct redis.sentinel in the configuration: the Sentinels have users and passwords of their own"
	case isTLS(err):
		return "Sentinels and servers are reached over TLS alike: give both certificates of one authority, redis.tls.ca_file"
	}
	return "start it, or take its address out of Redis' URL"
}
