package command

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/deploy/simulator"
	"github.com/forebay-queue/forebay/tasks/fleet"
	"github.com/forebay-queue/forebay/tasks/keyspace"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

// ward is a deployment of real servers that is sound until a test breaks it: Redis, a leader, a worker and a provider.
type ward struct {
	t *testing.T
	// redis is the section of the configuration, more what is added to it, env what the built program finds.
	redis, more string
	env         []string
	// client is Redis' own administrator.
	client  redis.UniversalClient
	servers []*redistest.Server
	worker  *fleet.Member
}

// soundArgs are those of a redis-server that nothing is wrong with.
var soundArgs = []string{"--appendonly", "yes", "--maxmemory", "1gb"}

func (w *ward) admit() {
	w.t.Helper()
	lead(w.t, w.client)
	w.worker = fleet.Join(w.client, keyspace.New(""), fleet.Process{ID: "one", Kind: fleet.Worker})
	require.NoError(w.t, w.worker.Beat(w.t.Context()))
	ctx, cancel := context.WithCancel(w.t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.worker.Run(ctx, func(error) {}) // a Redis that cannot be written to is one of the faults
	}()
	w.t.Cleanup(func() {
		cancel()
		<-ended
	})
}

func single(t *testing.T, args ...string) *ward {
	t.Helper()
	client, server := redistest.Real(t, append(soundArgs[:len(soundArgs):len(soundArgs)], args...)...)
	w := &ward{t: t, redis: fmt.Sprintf("{url: %q}", server.URL()), client: client, servers: []*redistest.Server{server}}
	w.admit()
	return w
}

func underSentinels(t *testing.T, args ...string) (w *ward, sentinels []string) {
	t.Helper()
	sentinels, servers := redistest.Sentinel(t, append(soundArgs[:len(soundArgs):len(soundArgs)], args...)...)
	w = &ward{t: t, redis: fmt.Sprintf("{url: %q}", redistest.SentinelURL(sentinels)), client: clientOf(t, servers[0].Addr), servers: servers}
	w.admit()
	return w, sentinels
}

func clustered(t *testing.T, replicated bool, args ...string) *ward {
	t.Helper()
	start := redistest.Cluster
	if replicated {
		start = redistest.ReplicatedCluster
	}
	client, servers := start(t, append(soundArgs[:len(soundArgs):len(soundArgs)], args...)...)
	addrs := make([]string, len(servers))
	for i, server := range servers {
		addrs[i] = server.Addr
	}
	w := &ward{t: t, redis: fmt.Sprintf("{url: %q}", "redis-cluster://"+strings.Join(addrs, ",")), client: client, servers: servers}
	w.admit()
	return w
}

func clientOf(t *testing.T, addr string) *redis.Client {
	t.Helper()
	client := redis.NewClient(redistest.Options(addr))
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// secured is single with TLS that wants certificates of its clients, and a user of its ACL with these rights.
func secured(t *testing.T, rights ...string) (*ward, pki) {
	t.Helper()
	certificates := newPKI(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())
	_, port, _ := net.SplitHostPort(address)
	w := single(t, "--tls-port", port, "--tls-cert-file", certificates.server, "--tls-key-file", certificates.key,
		"--tls-ca-cert-file", certificates.authority, "--tls-auth-clients", "yes")
	require.NoError(t, w.client.Do(t.Context(), setUser(rights)...).Err())
	w.redis = fmt.Sprintf("{url: %q, username: forebay, password_env: REDIS_PASSWORD, tls: {ca_file: %q, cert_file: %q, key_file: %q}}",
		"rediss://"+address, certificates.authority, certificates.client, certificates.key)
	w.env = []string{"REDIS_PASSWORD=hunter2"}
	return w, certificates
}

// setUser is ACL SETUSER of the user forebay.
func setUser(rights []string) []any {
	words := []any{"ACL", "SETUSER", "forebay", "on", ">hunter2"}
	for _, right := range rights {
		words = append(words, right)
	}
	return words
}

// fullRights are those that docs/operations.md gives.
var fullRights = []string{"~forebay:*", "~{forebay:*", "~asynq:*", "&forebay:*", "&asynq:*", "+@all", "-@dangerous", "-@admin", "+info"}

// configure writes the configuration, of a provider that is simulated.
func (w *ward) configure(dir string) (path string) {
	w.t.Helper()
	sim, err := simulator.New(simulator.Config{Keys: []string{secretKey}, Models: []string{"small", "large"}})
	require.NoError(w.t, err)
	provider := httptest.NewServer(sim)
	w.t.Cleanup(func() {
		_ = sim.Close()
		provider.Close()
	})
	path = filepath.Join(dir, "forebay.yaml")
	require.NoError(w.t, os.WriteFile(path, fmt.Appendf(nil, `
redis: %s
accounts: {acme: {key_file: %q}}
endpoints: {near: {account: acme, url: %q, priority: 1}}
models: {small: {output: 1}, large: {output: 2}}
tiers: [{name: low, models: [small]}, {name: high, models: [large]}]
fallback_tier: low
%s
`, w.redis, writeFile(w.t, "key", secretKey), provider.URL+"/simulated/v1", w.more), 0o600))
	return path
}

// examined runs the built program.
func (w *ward) examined() doctorReply {
	w.t.Helper()
	sh := newShell(w.t, w.env...)
	file := w.configure(sh.dir)
	got := sh.run(w.t, "doctor", "--json", "--config", file)
	var reply doctorReply
	require.NoError(w.t, json.Unmarshal([]byte(got.stdout), &reply), got.stderr)
	assert.NotContains(w.t, got.stdout+got.stderr, "hunter2")
	for _, f := range reply.Findings {
		assert.NotEmpty(w.t, f.Subject, f.Code)
		assert.Equal(w.t, f.Level != levelOK, f.Hint != "", "%s: what is not in order has a remedy", f.Code)
	}
	if w.t.Failed() {
		w.t.Log(got.stdout)
	}
	return reply
}

// TestDoctorNamesTheFault breaks a deployment in one way each: nothing else is an error, and the remedy stands beside it.
func TestDoctorNamesTheFault(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		broken             func(t *testing.T) *ward
		code, says, remedy string
	}{
		"it evicts": {func(t *testing.T) *ward {
			return single(t, "--maxmemory-policy", "allkeys-lru")
		}, "redis_policy", "maxmemory-policy is allkeys-lru", "CONFIG SET maxmemory-policy noeviction"},
		"it is full": {func(t *testing.T) *ward {
			w := single(t)
			used, err := w.client.InfoMap(t.Context(), "memory").Result()
			require.NoError(t, err)
			bytes, _ := strconv.ParseInt(used["Memory"]["used_memory"], 10, 64)
			require.NoError(t, w.client.ConfigSet(t.Context(), "maxmemory", strconv.FormatInt(bytes*5/4, 10)).Err())
			return w
		}, "redis_memory", "from 70 % on (redis.memory_limit) no job is accepted", "raise its maxmemory"},
		"its snapshots fail": {func(t *testing.T) *ward {
			w := single(t, "--save", "3600 100000")
			folder, err := w.client.ConfigGet(t.Context(), "dir").Result()
			require.NoError(t, err)
			require.NoError(t, os.RemoveAll(folder["dir"]))
			require.NoError(t, w.client.BgSave(t.Context()).Err())
			eventually(t, "the snapshot has failed", func() bool {
				info, err := w.client.Info(t.Context(), "persistence").Result()
				return err == nil && strings.Contains(info, "rdb_last_bgsave_status:err")
			})
			return w
		}, "redis_snapshot", "refuses all writes (MISCONF)", "free space on its disk"},
		"a replica": {func(t *testing.T) *ward {
			w := single(t)
			_, replica := redistest.Real(t, append(soundArgs[:len(soundArgs):len(soundArgs)], "--replicaof", strings.ReplaceAll(w.servers[0].Addr, ":", " "))...)
			follows(t, replica.Addr)
			w.redis = fmt.Sprintf("{url: %q}", replica.URL())
			return w
		}, "redis_replica", "takes no writes", "name the master's address"},
		"replicas that are waited for and missing": {func(t *testing.T) *ward {
			w := single(t)
			w.redis = strings.Replace(w.redis, "}", ", wait_replicas: 1}", 1)
			return w
		}, "redis_replicas", "redis.wait_replicas waits for 1", "REPLICAOF"},
		"writes want replicas": {func(t *testing.T) *ward {
			w := single(t)
			require.NoError(t, w.client.ConfigSet(t.Context(), "min-replicas-to-write", "1").Err())
			return w
		}, "redis_replicas", "refuses all writes (NOREPLICAS) with fewer than 1", "min-replicas-to-write"},
		"a master that the Sentinels do not know": {func(t *testing.T) *ward {
			w, _ := underSentinels(t)
			w.redis = strings.Replace(w.redis, redistest.MasterName, "mymaster", 1)
			return w
		}, "redis_master", "watches no master of the name mymaster", "?master="},
		"too few Sentinels": {func(t *testing.T) *ward {
			w, sentinels := underSentinels(t)
			shutDown(t, sentinels[1:]...)
			eventually(t, "the last Sentinel misses the others", func() bool {
				last := redis.NewSentinelClient(redistest.Options(sentinels[0]))
				defer func() { _ = last.Close() }()
				return last.CkQuorum(t.Context(), redistest.MasterName).Err() != nil
			})
			return w
		}, "redis_quorum", "nobody takes over: 1 usable Sentinels", "start the other Sentinels"},
		"no Sentinel": {func(t *testing.T) *ward {
			w := single(t)
			w.redis = `{url: "redis-sentinel://127.0.0.1:1/0?master=mymaster"}`
			return w
		}, "redis_sentinel", "does not answer: connect: connection refused", "start it"},
		"slots that nobody has": {func(t *testing.T) *ward {
			w := clustered(t, false)
			require.NoError(t, clientOf(t, w.servers[1].Addr).ClusterDelSlotsRange(t.Context(), 8000, 8009).Err())
			return w
		}, "redis_cluster", "10 of the cluster's 16384 slots belong to no master", "--cluster fix"},
		"the URL of one node": {func(t *testing.T) *ward {
			w := clustered(t, false)
			w.redis = fmt.Sprintf("{url: %q}", w.servers[0].URL())
			return w
		}, "redis_cluster", "it is a node of a cluster", "redis-cluster://"},
		"a URL of a cluster for a single server": {func(t *testing.T) *ward {
			w := single(t)
			w.redis = strings.Replace(w.redis, "redis://", "redis-cluster://", 1)
			w.redis = strings.Replace(w.redis, "/0", "", 1)
			return w
		}, "redis_away", "cluster support disabled", "write redis:// instead"},
		"a certificate of another authority": {func(t *testing.T) *ward {
			w, certificates := secured(t, fullRights...)
			w.redis = strings.Replace(w.redis, certificates.authority, newPKI(t).authority, 1)
			return w
		}, "redis_tls", "certificate signed by unknown authority", "redis.tls.ca_file"},
		"no certificate of ours": {func(t *testing.T) *ward {
			w, certificates := secured(t, fullRights...)
			w.redis = strings.Replace(w.redis, fmt.Sprintf("cert_file: %q, key_file: %q", certificates.client, certificates.key), "", 1)
			return w
		}, "redis_tls", "tls: certificate required", "redis.tls.cert_file"},
		"a wrong password": {func(t *testing.T) *ward {
			w, _ := secured(t, fullRights...)
			w.env = []string{"REDIS_PASSWORD=hunter3"}
			return w
		}, "redis_login", "WRONGPASS", "password_env"},
		"rights that are missing": {
			func(t *testing.T) *ward {
				w, _ := secured(t, append(fullRights[:len(fullRights):len(fullRights)], "-evalsha", "-xgroup|create", "resetchannels", "&asynq:*", "resetkeys", "~forebay:*", "~asynq:*")...)
				return w
			}, "redis_rights", "its user forebay may not run evalsha, xgroup|create, nor touch the keys {forebay:*, nor use the channels forebay:*",
			"ACL SETUSER forebay +evalsha +xgroup|create ~{forebay:* &forebay:*",
		},
		"no scheduler": {func(t *testing.T) *ward {
			w := single(t)
			require.NoError(t, w.client.HSet(t.Context(), "forebay:leader", "until", time.Now().Add(-time.Minute).UnixMilli()).Err())
			return w
		}, "no_leader", "the last one was heard of 1m", "forebay scheduler"},
		"no worker for what waits": {func(t *testing.T) *ward {
			w := single(t)
			newShell(t).ok(t, "enqueue", "--redis", w.servers[0].URL(), "--config", simulatedFile(t), "--type", "fast_summary", "--input", "text")
			require.NoError(t, w.worker.Leave(t.Context()))
			return w
		}, "no_workers", "tasks wait: 1 in default", "forebay worker"},
		"a queue that no worker sees": {func(t *testing.T) *ward {
			w := single(t)
			worker := asynq.NewServer(asynq.RedisClientOpt{Addr: w.servers[0].Addr}, asynq.Config{Queues: map[string]int{"critical": 1}, LogLevel: asynq.FatalLevel})
			require.NoError(t, worker.Start(asynq.HandlerFunc(func(context.Context, *asynq.Task) error { return nil })))
			t.Cleanup(worker.Shutdown)
			file := writeFile(t, "sharded.yaml", strings.Replace(string(readFile(t, simulatedFile(t))), "shards: 1", "shards: 3", 1))
			newShell(t).ok(t, "enqueue", "--redis", w.servers[0].URL(), "--config", file, "--type", "fast_summary", "--input", "text")
			names, err := w.client.SMembers(t.Context(), "asynq:queues").Result()
			require.NoError(t, err)
			for _, name := range names {
				for _, id := range w.client.LRange(t.Context(), "asynq:{"+name+"}:pending", 0, -1).Val() {
					since := time.Now().Add(-2 * time.Minute).UnixNano()
					require.NoError(t, w.client.HSet(t.Context(), "asynq:{"+name+"}:t:"+id, "pending_since", since).Err())
				}
			}
			w.more = "queues: {shards: 3}"
			return w
		}, "queue_unserved", "none takes from it: the oldest of its 1 task waits for 2m", "one version"},
		"no reader of the inbox": {func(t *testing.T) *ward {
			w := single(t)
			old := fmt.Sprintf("%d-0", time.Now().Add(-time.Hour).UnixMilli())
			require.NoError(t, w.client.XAdd(t.Context(), &redis.XAddArgs{Stream: "forebay:inbox", ID: old, Values: []string{"job", "{}"}}).Err())
			return w
		}, "inbox_unread", "1 of its entries wait, the oldest for 1h", "forebay producer"},
		"no key for the world": {func(t *testing.T) *ward {
			w := single(t)
			w.more = "http: {listen: '0.0.0.0:8080'}"
			return w
		}, "no_api_keys", "0.0.0.0:8080 is not on loopback", "forebay keys create"},
		"an expired certificate": {func(t *testing.T) *ward {
			w := single(t)
			certificates := newPKI(t)
			w.more = fmt.Sprintf("http: {tls: {cert_file: %q, key_file: %q}}", certificates.expired, certificates.key)
			return w
		}, "certificate", "expired on ", "renew it"},
		"a folder of files that is none": {func(t *testing.T) *ward {
			w := single(t)
			w.more = fmt.Sprintf("files: {url: %q}", "file://"+writeFile(t, "taken", "x"))
			return w
		}, "files_folder", "not a directory", "make the folder"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reply := test.broken(t).examined()
			var errors []string
			for _, f := range reply.Findings {
				if f.Level == levelError {
					errors = append(errors, f.Code)
				}
			}
			require.Equal(t, []string{test.code}, errors, reply.Findings)
			found := reply.find(t, test.code)
			assert.Contains(t, found.Message, test.says)
			assert.Contains(t, found.Hint, test.remedy)
			assert.False(t, reply.OK)
		})
	}
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return text
}

func follows(t *testing.T, addr string) {
	t.Helper()
	client := clientOf(t, addr)
	eventually(t, "the replica follows its master", func() bool {
		info, err := client.Info(t.Context(), "replication").Result()
		return err == nil && strings.Contains(info, "master_link_status:up")
	})
}

func shutDown(t *testing.T, addrs ...string) {
	t.Helper()
	for _, addr := range addrs {
		client := clientOf(t, addr)
		_ = client.ShutdownNoSave(context.WithoutCancel(t.Context())).Err() // it is gone before it can answer
	}
}

// withUser has the user of docs/operations.md use Redis, on every server.
func (w *ward) withUser() *ward {
	w.t.Helper()
	for _, server := range w.servers {
		require.NoError(w.t, clientOf(w.t, server.Addr).Do(w.t.Context(), setUser(fullRights)...).Err())
	}
	w.redis = strings.Replace(w.redis, "}", ", username: forebay, password_env: REDIS_PASSWORD}", 1)
	w.env = []string{"REDIS_PASSWORD=hunter2"}
	return w
}

// TestDoctorFindsNothingWrong in what is sound, of every kind, with the user that the documentation gives.
func TestDoctorFindsNothingWrong(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/operations.md")
	require.NoError(t, err)
	require.Contains(t, string(page), strings.Join(fullRights, " "))
	for name, sound := range map[string]func(t *testing.T) *ward{
		"single":    func(t *testing.T) *ward { return single(t) },
		"Sentinels": func(t *testing.T) *ward { w, _ := underSentinels(t); return w.withUser() },
		"cluster":   func(t *testing.T) *ward { return clustered(t, true).withUser() },
		"TLS and a user": func(t *testing.T) *ward {
			w, _ := secured(t, fullRights...)
			return w
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reply := sound(t).examined()
			assert.Empty(t, reply.codes(), reply.Findings)
			assert.True(t, reply.OK)
		})
	}
}

// TestDoctorFindsShardsThatNobodyConfigured, which is no error: workers empty them.
func TestDoctorFindsShardsThatNobodyConfigured(t *testing.T) {
	t.Parallel()
	w := single(t)
	require.NoError(t, w.client.SAdd(t.Context(), "asynq:queues", "default", "default:0", "default:3", "another:bulk:1").Err())
	assert.Equal(t, []string{"warning shards_beyond"}, w.examined().codes())
	w.more = "queues: {shards: 2}"
	reply := w.examined()
	assert.Equal(t, "it is 2 here, and there are default:3", reply.find(t, codeShardsBeyond).Message)
	w.more = "queues: {shards: 4}"
	assert.Empty(t, w.examined().codes())
}

// TestRightsAreEnough has a deployment work as a user that may do what doctor asks for and nothing else.
func TestRightsAreEnough(t *testing.T) {
	t.Parallel()
	rights := []string{"~forebay:*", "~{forebay:*", "~asynq:*", "&forebay:*", "&asynq:*", "+watch", "+multi", "+exec", "+discard", "+info"}
	for _, line := range neededCommands {
		name, _, _ := strings.Cut(line, ",")
		rights = append(rights, "+"+name)
	}
	w, _ := secured(t, rights...)
	require.NoError(t, w.worker.Leave(t.Context()))
	require.NoError(t, w.client.FlushAll(t.Context()).Err())
	w.more = "http: {listen: 'off'}\nworker: {drain_timeout: 61s}\ntask_types: {short: {model: small}}"
	sh := newShell(t, w.env...)
	file := w.configure(sh.dir)
	processes := map[string]*process{}
	for _, name := range []string{"worker", "producer", "scheduler"} {
		processes[name] = sh.start(t, name, "--config", file)
	}
	defer func() {
		refused, err := w.client.ACLLog(context.WithoutCancel(t.Context()), 100).Result()
		require.NoError(t, err)
		for _, entry := range refused {
			if entry.Object == "config|get" {
				continue // doctor can do without
			}
			t.Errorf("refused: %s of %s (%s, %s)", entry.Object, entry.Username, entry.Reason, entry.Context)
		}
		for name, process := range processes {
			if t.Failed() {
				t.Log(name, process.stderr.text())
			}
		}
	}()
	sh.ok(t, "enqueue", "--config", file, "--type", "short", "--input", "a text", "--wait", "--timeout", "30s", "--reply-stream", "mine")
	require.NoError(t, w.client.XAdd(t.Context(), &redis.XAddArgs{Stream: "forebay:inbox", Values: []string{"job", `{"id": "by-inbox", "task_type": "short", "input": "text"}`}}).Err())
	eventually(t, "the inbox's job has succeeded", func() bool {
		return strings.Contains(sh.run(t, "get", "by-inbox", "--config", file).stdout, "succeeded")
	})
	in := filepath.Join(sh.dir, "in.jsonl")
	require.NoError(t, os.WriteFile(in, []byte(`{"id": "a", "text": "a text"}`+"\n"), 0o600))
	sh.ok(t, "batch", "run", in, "--out", filepath.Join(sh.dir, "out.jsonl"), "--type", "short", "--config", file)
	sh.ok(t, "schedule", "add", "often", "--cron", "@every 1s", "--config", file, "--type", "short", "--input", "a text")
	for _, args := range []string{"status", "queue list", "jobs list", "cost", "breaker list", "batch list", "schedule list", "webhooks list", "queue pause --all", "queue resume --all"} {
		sh.ok(t, append(strings.Fields(args), "--config", file)...)
	}
	eventually(t, "the scheduler leads", func() bool { return w.client.HExists(t.Context(), "forebay:leader", "until").Val() })
	reply := doctorReply{}
	require.NoError(t, json.Unmarshal([]byte(sh.run(t, "doctor", "--json", "--config", file).stdout), &reply))
	assert.True(t, reply.OK, reply.Findings)
}
