package command

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// maxSkew is where a worker refuses to start, warnSkew where the clocks are no longer kept by NTP.
	maxSkew  = 15 * time.Second
	warnSkew = 2 * time.Second
	// oldestRedis is the major version that the scripts are written for.
	oldestRedis = 7
	// The shares of the memory from which a Redis that evicts nothing is about to refuse writes.
	warnMemory, fullMemory = 0.7, 0.9
)

// examineRedis looks at the server: version, role, clock, policy, persistence, memory.
func examineRedis(ctx context.Context, client redis.UniversalClient, address string) []finding {
	findings := []finding{{Code: codeRedis, Level: levelOK, Subject: "redis", Message: "answers at " + address}}
	findings = append(findings, examineClock(ctx, client)...)
	text, err := client.Info(ctx).Result()
	if err != nil {
		return append(findings, finding{
			Code: codeRedisHidden, Level: levelWarning, Subject: "redis",
			Message: "INFO is refused, so version, policy, persistence and memory are not known: " + redisText(err),
			Hint:    "allow this user INFO, or see yourself that the version is 7.0 or later, maxmemory-policy noeviction and the append-only file on",
		})
	}
	info := parseInfo(text)
	if info["redis_version"] == "" {
		return append(findings, finding{
			Code: codeRedisEmbedded, Level: levelWarning, Subject: "redis",
			Message: "it is an embedded Redis: all jobs are lost with its process",
			Hint:    "use a redis-server with an append-only file for work that matters",
		})
	}
	findings[0].Message += ", version " + info["redis_version"]
	for _, look := range []func(map[string]string) *finding{redisVersion, redisRole, redisPolicy, redisPersistence, redisMemory} {
		if found := look(info); found != nil {
			found.Subject = "redis"
			findings = append(findings, *found)
		}
	}
	return findings
}

// parseInfo reads the lines "name:value" of INFO.
func parseInfo(text string) map[string]string {
	info := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, found := strings.Cut(strings.TrimSpace(line), ":"); found {
			info[name] = value
		}
	}
	return info
}

func examineClock(ctx context.Context, client redis.UniversalClient) []finding {
	asked := time.Now()
	server, err := client.Time(ctx).Result()
	if err != nil {
		return []finding{{
			Code: codeRedisAway, Level: levelError, Subject: "redis", Message: "TIME is refused: " + redisText(err),
			Hint: "allow this user TIME; every script needs it",
		}}
	}
	skew := server.Sub(asked.Add(time.Since(asked) / 2))
	found := finding{
		Code: codeClock, Level: levelWarning, Subject: "redis",
		Message: fmt.Sprintf("this machine's clock is %s off Redis's", brief(skew.Abs())),
		Hint:    "set both machines' clocks by NTP",
	}
	switch {
	case skew.Abs() > maxSkew:
		found.Level = levelError
		found.Hint += fmt.Sprintf("; a worker refuses to start with more than %s", maxSkew)
	case skew.Abs() < warnSkew:
		return nil
	}
	return []finding{found}
}

func redisVersion(info map[string]string) *finding {
	major, _, _ := strings.Cut(info["redis_version"], ".")
	if number, err := strconv.Atoi(major); err == nil && number >= oldestRedis {
		return nil
	}
	return &finding{
		Code: codeRedisVersion, Level: levelError,
		Message: fmt.Sprintf("its version, %s, is older than 7.0", info["redis_version"]), Hint: "upgrade it to 7.0 or later",
	}
}

func redisRole(info map[string]string) *finding {
	if info["role"] != "slave" {
		return nil
	}
	return &finding{
		Code: codeRedisReplica, Level: levelError, Message: "it is a replica, which takes no writes", Hint: "name the master's address",
	}
}

func redisPolicy(info map[string]string) *finding {
	policy := info["maxmemory_policy"]
	if policy == "noeviction" || policy == "" {
		return nil
	}
	return &finding{
		Code: codeRedisPolicy, Level: levelError,
		Message: fmt.Sprintf("its maxmemory-policy is %s: when memory runs out it deletes jobs and leases without a word", policy),
		Hint:    "CONFIG SET maxmemory-policy noeviction, and the same in redis.conf",
	}
}

func redisPersistence(info map[string]string) *finding {
	switch {
	case info["aof_enabled"] == "0":
		return &finding{
			Code: codeRedisAOF, Level: levelWarning,
			Message: "it keeps no append-only file: accepted jobs and paid answers are lost when it restarts",
			Hint:    "CONFIG SET appendonly yes, and the same in redis.conf",
		}
	case info["aof_enabled"] == "1" && info["aof_last_write_status"] == "err":
		return &finding{
			Code: codeRedisAOF, Level: levelError, Message: "it cannot write its append-only file",
			Hint: "look into its log; is the disk full?",
		}
	}
	return nil
}

func redisMemory(info map[string]string) *finding {
	used, _ := strconv.ParseFloat(info["used_memory"], 64)
	limit, _ := strconv.ParseFloat(info["maxmemory"], 64)
	what := "maxmemory"
	if limit <= 0 {
		limit, _ = strconv.ParseFloat(info["total_system_memory"], 64)
		what = "its machine's memory"
	}
	if limit <= 0 || used < warnMemory*limit {
		return nil
	}
	found := &finding{
		Code: codeRedisMemory, Level: levelWarning,
		Message: fmt.Sprintf("it uses %.0f %% of %s (%.0f MiB)", 100*used/limit, what, limit/(1<<20)),
		Hint:    "give it more memory, or shorten the jobs' retention; when it is full, nothing is accepted and running jobs lose their leases",
	}
	if used >= fullMemory*limit {
		found.Level = levelError
	}
	return found
}
