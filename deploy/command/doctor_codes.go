package command

// The codes of findings. Alerts and scripts go by them: a code keeps its meaning, which meanings gives.
const (
	codeConfig          = "config"
	codeConfigMissing   = "config_missing"
	codeConfigInvalid   = "config_invalid"
	codeKeyUnusable     = "key_unusable"
	codeCertificate     = "certificate"
	codeModelFree       = "model_free"
	codeTierOrder       = "tier_order"
	codeFilesFolder     = "files_folder"
	codeFilesSpace      = "files_space"
	codeRedisSecret     = "redis_secret"
	codeRedis           = "redis"
	codeRedisAway       = "redis_away"
	codeRedisTLS        = "redis_tls"
	codeRedisLogin      = "redis_login"
	codeRedisRights     = "redis_rights"
	codeRedisSentinel   = "redis_sentinel"
	codeRedisMaster     = "redis_master"
	codeRedisQuorum     = "redis_quorum"
	codeRedisCluster    = "redis_cluster"
	codeRedisEmbedded   = "redis_embedded"
	codeRedisHidden     = "redis_hidden"
	codeRedisVersion    = "redis_version"
	codeRedisReplica    = "redis_replica"
	codeRedisReplicas   = "redis_replicas"
	codeRedisPolicy     = "redis_policy"
	codeRedisAOF        = "redis_aof"
	codeRedisSnapshot   = "redis_snapshot"
	codeRedisNoLimit    = "redis_no_limit"
	codeRedisMemory     = "redis_memory"
	codeRedisClients    = "redis_clients"
	codeRedisTimeout    = "redis_timeout"
	codeRedisSlow       = "redis_slow"
	codeClock           = "clock"
	codeEndpoint        = "endpoint"
	codeEndpointAway    = "endpoint_away"
	codeKeyRefused      = "key_refused"
	codeQuota           = "quota"
	codeMisconfigured   = "misconfigured"
	codeThrottled       = "throttled"
	codeEndpointSlow    = "endpoint_slow"
	codeNoModelList     = "no_model_list"
	codeModelsMissing   = "models_missing"
	codeNotTested       = "not_tested"
	codeWorkers         = "workers"
	codeNoWorkers       = "no_workers"
	codeVersionsDiffer  = "versions_differ"
	codeKeysDiffer      = "keys_differ"
	codeConfigRefused   = "config_refused"
	codeRestartNeeded   = "restart_needed"
	codeNoLeader        = "no_leader"
	codeQueueOld        = "queue_old"
	codeQueueUnserved   = "queue_unserved"
	codeShardsBeyond    = "shards_beyond"
	codeQueuePaused     = "queue_paused"
	codeTaskTypePaused  = "task_type_paused"
	codeInboxUnread     = "inbox_unread"
	codeInboxRejected   = "inbox_rejected"
	codeBatchesStuck    = "batches_stuck"
	codeNoAPIKeys       = "no_api_keys"
	codeBreakerOpen     = "breaker_open"
	codeBudgetExhausted = "budget_exhausted"
	codeDeadJobs        = "dead_jobs"
	codeDeadWebhooks    = "dead_webhooks"
)

// meaning is what a code stands for, at whatever level.
type meaning struct {
	code   string
	levels []level
	what   string
}

// meanings are those of all codes. The table in docs/operations.md is made of them: see TestFindingsAreDocumented.
var meanings = []meaning{
	{codeConfig, okOnly, "the configuration is in order, with every key that it names"},
	{codeConfigInvalid, errorOnly, "the configuration cannot be used, by line and column"},
	{codeConfigMissing, warningOnly, "there is no configuration here, so that only Redis is examined"},
	{codeKeyUnusable, errorOnly, "a key is missing, a placeholder, or of another shape"},
	{codeCertificate, warningOrError, "a certificate of `http.tls` or `redis.tls` expires within 21 days; it has expired, is not valid yet, or cannot be read"},
	{codeModelFree, warningOnly, "a model costs nothing by its price, and an endpoint that serves it wants a key: no budget counts its calls"},
	{codeTierOrder, warningOnly, "a tier is dearer than one that stands behind it: a job that asks for cheap work pays more"},
	{codeFilesFolder, warningOrError, "`files.url` cannot be written from here: the default folder; the one that is configured"},
	{codeFilesSpace, warningOrError, "the disk of `files.url` has less than 1 GiB left; less than one file of `files.max_bytes`"},
	{codeRedis, okOnly, "Redis answers: where, and its version"},
	{codeRedisSecret, errorOnly, "Redis' password, URL or certificate is missing or cannot be read"},
	{codeRedisAway, errorOnly, "Redis, or a master of the cluster, cannot be reached or used"},
	{codeRedisTLS, errorOnly, "TLS with Redis fails: its certificate is not trusted, it wants one of ours, or one side speaks no TLS"},
	{codeRedisLogin, errorOnly, "Redis refuses the user or the password"},
	{codeRedisRights, errorOnly, "the user of Redis' ACL may not run a command, or touch a key or channel, that Forebay needs: each is named"},
	{codeRedisSentinel, warningOrError, "a Sentinel does not answer; none does"},
	{codeRedisMaster, errorOnly, "the Sentinels watch no master of this name, or name one that cannot be reached from here"},
	{codeRedisQuorum, errorOnly, "too few Sentinels are left to agree on a failover"},
	{codeRedisCluster, errorOnly, "slots of the cluster have no master, it is not whole, or the URL is not that of a cluster and its server is"},
	{codeRedisReplica, errorOnly, "it is a replica"},
	{codeRedisReplicas, warningOrError, "a master of a cluster or of Sentinels has no replica; fewer replicas than are waited for (`redis.wait_replicas`, or Redis' own `min-replicas-to-write`)"},
	{codeRedisVersion, errorOnly, "it is older than 7.0"},
	{codeRedisPolicy, errorOnly, "its maxmemory-policy is not noeviction"},
	{codeRedisAOF, warningOrError, "no append-only file, one that the system writes when it likes (`appendfsync no`), or that could not be rewritten; it cannot be written"},
	{codeRedisSnapshot, warningOrError, "its last snapshot failed; and it refuses all writes because of that"},
	{codeRedisNoLimit, warningOnly, "it has no maxmemory: nothing is refused in time"},
	{codeRedisMemory, warningOrError, "near `redis.memory_limit`; beyond it, so that no job is accepted (without a maxmemory: 70 % and 90 % of its machine's memory)"},
	{codeRedisClients, warningOnly, "80 % of its maxclients are connected, or they are fewer than one worker and one producer may need"},
	{codeRedisTimeout, warningOnly, "its setting `timeout` cuts connections that were idle for less than 5 minutes"},
	{codeRedisSlow, warningOnly, "half of ten PINGs took more than 10 ms"},
	{codeClock, warningOrError, "this machine's clock is 2 s off Redis'; 15 s"},
	{codeRedisEmbedded, warningOnly, "it is an embedded Redis, which keeps nothing"},
	{codeRedisHidden, warningOnly, "it does not tell of itself: INFO is refused"},
	{codeEndpoint, okOnly, "an endpoint answers, and which further models of the catalog it lists"},
	{codeEndpointAway, errorOnly, "no answer to `GET /models` within 5 s (priority 1) or 10 s, or HTTP 5xx"},
	{codeKeyRefused, errorOnly, "HTTP 401 or 403"},
	{codeQuota, errorOnly, "the account is empty"},
	{codeMisconfigured, errorOnly, "a redirect, a page, or no such API"},
	{codeNoModelList, warningOnly, "404 in the API's own words: it has no list of models"},
	{codeThrottled, warningOnly, "HTTP 429"},
	{codeEndpointSlow, warningOnly, "slower than its `latency_threshold`, twice"},
	{codeModelsMissing, warningOnly, "the endpoint does not list models that the configuration expects there"},
	{codeNotTested, warningOnly, "not tested, as its account has no usable key"},
	{codeWorkers, okOnly, "how many workers are alive"},
	{codeNoWorkers, warningOrError, "no worker is alive; and jobs or webhooks wait"},
	{codeVersionsDiffer, warningOnly, "processes work by different configurations, or are of different builds"},
	{codeKeysDiffer, errorOnly, "processes have different keys of `encryption` under one id, so that some cannot read what others seal"},
	{codeConfigRefused, warningOnly, "a process has refused the configuration as it stands, and works by the one before"},
	{codeRestartNeeded, warningOnly, "the configuration was changed in what a process takes up only at its next start"},
	{codeNoLeader, errorOnly, "no scheduler is alive: nothing mends, expires, probes or ticks"},
	{codeQueueOld, warningOnly, "the oldest of a queue that is not paused waits for more than 1 minute (critical), 15 minutes (default), 24 hours (bulk) or 10 minutes (webhooks)"},
	{codeQueueUnserved, errorOnly, "workers are alive and none of them takes from a queue, or from a shard of one, whose tasks wait for more than a minute"},
	{codeShardsBeyond, warningOnly, "there are shards beyond `queues.shards`: another process has another number, or it was lowered a short while ago"},
	{codeQueuePaused, warningOnly, "a queue, or a shard of one, is paused"},
	{codeTaskTypePaused, warningOnly, "a task type is paused"},
	{codeInboxUnread, warningOrError, "entries of the inbox wait for more than a minute; and no producer reads them"},
	{codeInboxRejected, warningOnly, "entries of the inbox were refused within the last hour"},
	{codeBatchesStuck, errorOnly, "batches are to be read or written, and no producer works on them"},
	{codeNoAPIKeys, errorOnly, "`http.listen` is beyond loopback and there is no API key, so that `forebay producer` refuses to start"},
	{codeBreakerOpen, warningOnly, "a breaker is not closed: why, and what closes it"},
	{codeBudgetExhausted, warningOnly, "a day's budget is spent, or what is left of it is less than any call may cost at worst"},
	{codeDeadJobs, warningOnly, "jobs failed for good and were not decided about, and how many of them within the last hour"},
	{codeDeadWebhooks, warningOnly, "webhooks were given up"},
}

var (
	okOnly         = []level{levelOK}
	warningOnly    = []level{levelWarning}
	errorOnly      = []level{levelError}
	warningOrError = []level{levelWarning, levelError}
)
