package command

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks/keyspace"
)

// sample stands in for a key in neededCommands, as CHANNEL does for a channel.
const sample = "KEY"

// neededCommands are all that Forebay and asynq send, in scripts and outside of them, each with as many arguments as it
// wants. WATCH and MULTI stand beside them.
var neededCommands = strings.Fields(`
	ping time eval,return,0 evalsha,sha,0 publish,CHANNEL,x subscribe,CHANNEL unsubscribe,CHANNEL scan,0
	del,KEY exists,KEY expire,KEY,1 expireat,KEY,1 expiretime,KEY pexpire,KEY,1 pexpireat,KEY,1 persist,KEY pttl,KEY
	get,KEY getrange,KEY,0,0 set,KEY,x setex,KEY,1,x setrange,KEY,0,x incr,KEY incrby,KEY,1
	hdel,KEY,x hexists,KEY,x hget,KEY,x hgetall,KEY hincrby,KEY,x,1 hlen,KEY hmget,KEY,x hset,KEY,x,x hsetnx,KEY,x,x
	blmove,KEY,KEY,RIGHT,LEFT,1 llen,KEY lpos,KEY,x lpush,KEY,x lrange,KEY,0,0 lrem,KEY,0,x lset,KEY,0,x ltrim,KEY,0,0 rpop,KEY rpoplpush,KEY,KEY rpush,KEY,x
	sadd,KEY,x sismember,KEY,x smembers,KEY srem,KEY,x
	zadd,KEY,1,x zcard,KEY zcount,KEY,0,1 zincrby,KEY,1,x zmscore,KEY,x zrange,KEY,0,0 zrangebylex,KEY,-,+ zrangebyscore,KEY,0,1
	zrem,KEY,x zremrangebyrank,KEY,0,0 zremrangebyscore,KEY,0,1 zrevrange,KEY,0,0 zrevrangebylex,KEY,+,- zrevrangebyscore,KEY,1,0
	zrevrank,KEY,x zscore,KEY,x
	xack,KEY,g,1-1 xadd,KEY,*,x,x xautoclaim,KEY,g,c,0,0-0 xdel,KEY,1-1 xgroup|create,KEY,g,0 xgroup|delconsumer,KEY,g,c
	xinfo|consumers,KEY,g xlen,KEY xpending,KEY,g xrange,KEY,-,+ xreadgroup,GROUP,g,c,STREAMS,KEY,> xrevrange,KEY,+,- xtrim,KEY,MAXLEN,1
	memory|usage,KEY`)

// neededKeys are one of each kind of keys, by what stands before the prefix of the deployment.
func neededKeys(prefix string) []string {
	keys := keyspace.New(prefix)
	return []string{
		keys.Job("x"), keys.Inbox(), keys.EventLevels(), keys.InboxRejections(),
		"asynq:queues", keys.QueuePending("default", keyspace.Unsharded), "asynq:servers", "asynq:servers:{x}", "asynq:workers", "asynq:workers:{x}",
	}
}

func neededChannels(prefix string) []string {
	keys := keyspace.New(prefix)
	return []string{keys.Cancel(), keys.JobDone("x"), "asynq:cancel"}
}

// denial is what a user of Redis' ACL was refused.
type denial int

const (
	allowed denial = iota
	deniedCommand
	deniedKey // or channel
)

// missing is what a user of Redis' ACL may not.
type missing struct{ commands, keys, channels []string }

// examineRights finds what the user may not, and changes nothing: Redis decides about rights when a command is queued in
// a transaction, and the transaction is discarded.
func (n *redisNode) examineRights(ctx context.Context) []finding {
	client, single := n.client.(*redis.Client)
	if !single {
		return nil
	}
	conn := client.Conn()
	defer func() { _ = conn.Close() }() // nothing is left in it
	try := func(line, key, channel string) denial { return tryRight(ctx, conn, line, key, channel) }
	var lacks missing
	key := keyspace.New(n.prefix).Job(sample)
	if try("watch,KEY", key, "") == deniedCommand {
		lacks.commands = append(lacks.commands, "watch")
	}
	if try("multi", "", "") == deniedCommand {
		lacks.commands = append(lacks.commands, "multi", "exec", "discard")
		return n.lacking(lacks) // nothing further can be tried without harm
	}
	defer conn.Do(ctx, "DISCARD")
	channel := neededChannels(n.prefix)[0]
	for _, line := range n.needed() {
		if try(line, key, channel) == deniedCommand {
			name, _, _ := strings.Cut(line, ",")
			lacks.commands = append(lacks.commands, name)
		}
	}
	for _, key := range neededKeys(n.prefix) {
		if try("get,KEY", key, "") == deniedKey || try("del,KEY", key, "") == deniedKey {
			lacks.keys = append(lacks.keys, key)
		}
	}
	for _, channel := range neededChannels(n.prefix) {
		if try("publish,CHANNEL,x", "", channel) == deniedKey {
			lacks.channels = append(lacks.channels, channel)
		}
	}
	return n.lacking(lacks)
}

// needed are the commands that this deployment sends.
func (n *redisNode) needed() []string {
	lines := slices.Clone(neededCommands)
	if n.waitReplicas > 0 {
		lines = append(lines, "wait,0,0")
	}
	if n.options.IsClusterMode {
		lines = append(lines, "cluster|slots", "command")
	}
	return lines
}

// tryRight sends a line of neededCommands.
func tryRight(ctx context.Context, conn *redis.Conn, line, key, channel string) denial {
	var words []any
	for i, word := range strings.Split(line, ",") {
		switch {
		case i == 0:
			for part := range strings.SplitSeq(word, "|") {
				words = append(words, part)
			}
			continue
		case word == sample:
			word = key
		case word == "CHANNEL":
			word = channel
		}
		words = append(words, word)
	}
	err := conn.Do(ctx, words...).Err()
	switch {
	case !redis.IsPermissionError(err):
		return allowed
	case strings.Contains(err.Error(), "to run the"):
		return deniedCommand
	}
	return deniedKey
}

func (n *redisNode) lacking(lacks missing) []finding {
	var may, rules []string
	add := func(what string, names []string, rule string) {
		if len(names) == 0 {
			return
		}
		may = append(may, what+" "+strings.Join(names, ", "))
		for _, name := range names {
			rules = append(rules, rule+name)
		}
	}
	add("run", lacks.commands, "+")
	add("touch the keys", patterns(n.prefix, lacks.keys), "~")
	add("use the channels", patterns(n.prefix, lacks.channels), "&")
	if len(may) == 0 {
		return nil
	}
	return []finding{{
		Code: codeRedisRights, Level: levelError,
		Message: fmt.Sprintf("its user %s may not %s", userOf(n.options), strings.Join(may, ", nor ")),
		Hint:    fmt.Sprintf("ACL SETUSER %s %s, and the same in redis.conf or the ACL file", userOf(n.options), strings.Join(rules, " ")),
	}}
}

// patterns are those of keys and channels of a deployment.
func patterns(prefix string, names []string) []string {
	var all []string
	for _, name := range names {
		for _, begins := range []string{prefix, "{" + prefix, "asynq:"} {
			if strings.HasPrefix(name, begins) && !slices.Contains(all, begins+"*") {
				all = append(all, begins+"*")
			}
		}
	}
	return all
}
