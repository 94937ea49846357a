// Package keyspace builds every Redis key of Forebay. No other package writes a key by hand, and no script builds
// one: what a script touches comes in through KEYS.
//
// Keys that one script needs together share a hash tag, the part in braces, and so a slot of Redis Cluster: all of
// an account's state, all of a job's record.
package keyspace

import "strconv"

// DefaultPrefix stands before every key of a deployment that does not choose its own.
const DefaultPrefix = "forebay:"

// Keyspace builds the keys of one deployment.
type Keyspace struct{ prefix string }

// New returns the keyspace with the given prefix. An empty prefix means DefaultPrefix.
func New(prefix string) Keyspace {
	if prefix == "" {
		prefix = DefaultPrefix
	}
	return Keyspace{prefix: prefix}
}

// Prefix is what stands before every key.
func (k Keyspace) Prefix() string { return k.prefix }

// Job is the record of a job: a hash.
func (k Keyspace) Job(id string) string { return k.prefix + "{job:" + id + "}" }

// JobDone is the channel on which the commit of a job's result is published.
func (k Keyspace) JobDone(id string) string { return k.prefix + "{job:" + id + "}:done" }

// Silence is a channel on which nothing is published: to subscribe to it makes a connection answer.
func (k Keyspace) Silence() string { return k.prefix + "silence" }

// Endpoint is the breaker of an endpoint, with its latency and counters: a hash.
func (k Keyspace) Endpoint(account, endpoint string) string {
	return k.account(account) + ":ep:" + endpoint
}

// EndpointSettled is the tokens that an endpoint settled last: a sorted set.
func (k Keyspace) EndpointSettled(account, endpoint string) string {
	return k.Endpoint(account, endpoint) + ":settled"
}

// EndpointHealth is what the health probes of an endpoint have found: a hash.
func (k Keyspace) EndpointHealth(account, endpoint string) string {
	return k.Endpoint(account, endpoint) + ":health"
}

// Active is the endpoint that each tier asks first, as the leader last saw it: a hash.
func (k Keyspace) Active() string { return k.prefix + "active" }

// ModelLimits is what holds for one model on an account, such as its cooldown: a hash.
func (k Keyspace) ModelLimits(account, model string) string {
	return k.account(account) + ":limits:" + model
}

// EndpointModelLimits is what holds for one model at one endpoint, such as that it is not served there: a hash.
func (k Keyspace) EndpointModelLimits(account, endpoint, model string) string {
	return k.account(account) + ":ep:" + endpoint + ":limits:" + model
}

// Limits is the clocks of what an account allows, over all endpoints and models or, where they are not empty, at one of
// them or for one of them: a hash. It is ModelLimits or EndpointModelLimits of the same scope.
func (k Keyspace) Limits(account, endpoint, model string) string {
	return k.scope(account, endpoint, ":limits", model)
}

// Permits is the calls that are out of such a scope, by when their permits expire: a sorted set.
func (k Keyspace) Permits(account, endpoint, model string) string {
	return k.scope(account, endpoint, ":permits", model)
}

// scope is the key of something that an account has, at one of its endpoints and for a model, if they are not empty.
func (k Keyspace) scope(account, endpoint, what, model string) string {
	key := k.account(account)
	if endpoint != "" {
		key = k.Endpoint(account, endpoint)
	}
	key += what
	if model != "" {
		key += ":" + model
	}
	return key
}

// BudgetDay is what is held and what was spent on a day of the budget, YYYY-MM-DD, in all that limits it: a hash.
func (k Keyspace) BudgetDay(day string) string { return k.budget() + day }

// BudgetCost is what a day's calls cost, by task type, model, endpoint and tenant: a hash.
func (k Keyspace) BudgetCost(day string) string { return k.budget() + day + ":cost" }

// BudgetSwept is the holds of a day that were settled at a guess, and where, for a day: a hash.
func (k Keyspace) BudgetSwept(day string) string { return k.budget() + day + ":swept" }

// BudgetHolds is the holds of all calls that are out, by their expiry: a sorted set.
func (k Keyspace) BudgetHolds() string { return k.budget() + "holds" }

// Events is what operators are to know: a capped stream.
func (k Keyspace) Events() string { return k.prefix + "events" }

// JobEvents is the stream of what became of jobs.
func (k Keyspace) JobEvents() string { return k.prefix + "events:jobs" }

// Activity is the hash of what was counted in a span of time that begins at the given second.
func (k Keyspace) Activity(span string, begin int64) string {
	return k.prefix + "{activity}:" + span + ":" + strconv.FormatInt(begin, 10)
}

// EventLevels is where stands what operators are told of in steps, in the slot of Events: a hash.
func (k Keyspace) EventLevels() string { return "{" + k.Events() + "}:levels" }

// Batch is what is known of a batch: a hash.
func (k Keyspace) Batch(id string) string { return k.prefix + "{batch:" + id + "}" }

// BatchMembers is how each member of a batch stands: a string, two bytes for each.
func (k Keyspace) BatchMembers(id string) string { return k.Batch(id) + ":members" }

// BatchDone is the channel on which every change of a batch's status is published.
func (k Keyspace) BatchDone(id string) string { return k.Batch(id) + ":done" }

// Batches is the ids of all batches of a tenant, or, with an empty one, of everybody's, by their creation: a sorted set.
func (k Keyspace) Batches(tenant string) string {
	if tenant == "" {
		return k.prefix + "batches"
	}
	return k.prefix + "batches:of:" + tenant
}

// OpenBatches is the ids of the batches that have not ended, by their creation: a sorted set.
func (k Keyspace) OpenBatches() string { return k.prefix + "batches:open" }

// Webhook is the record of a webhook: a hash.
func (k Keyspace) Webhook(id string) string { return k.prefix + "{webhook:" + id + "}" }

// Webhooks is the ids of the webhooks of a tenant in a state, "pending", "dead" or "ended", by when what they tell of
// happened: a sorted set. An empty state is any, an empty tenant everybody's.
func (k Keyspace) Webhooks(state, tenant string) string {
	if state == "" {
		state = "all"
	}
	key := k.prefix + "webhooks:" + state
	if tenant != "" {
		key += ":of:" + tenant
	}
	return key
}

// WebhooksExpiring is the ids of the webhooks that have ended, with their tenants, by when their records expire: a
// sorted set.
func (k Keyspace) WebhooksExpiring() string { return k.prefix + "webhooks:expiring" }

// WebhookTargets is the digests of the targets of a tenant's webhooks, by their last use: a sorted set.
func (k Keyspace) WebhookTargets(tenant string) string { return k.webhooks(tenant) + ":targets" }

// WebhookTarget is the breaker of a target, with its latency, its counters, and which of its URLs are off: a hash.
func (k Keyspace) WebhookTarget(tenant, digest string) string {
	return k.webhooks(tenant) + ":t:" + digest
}

// WebhookTargetPermits is the attempts that are out to a target, by when their permits expire: a sorted set.
func (k Keyspace) WebhookTargetPermits(tenant, digest string) string {
	return k.WebhookTarget(tenant, digest) + ":permits"
}

// WebhookTargetRecent is the last attempts to a target, the newest first: a capped list of JSON.
func (k Keyspace) WebhookTargetRecent(tenant, digest string) string {
	return k.WebhookTarget(tenant, digest) + ":recent"
}

// WebhookPermits is the attempts that are out to all targets of a tenant, by when their permits expire: a sorted set.
func (k Keyspace) WebhookPermits(tenant string) string { return k.webhooks(tenant) + ":permits" }

// Inbox is where any language puts jobs: a stream.
func (k Keyspace) Inbox() string { return k.prefix + "inbox" }

// InboxRejected is what the inbox refused, with the reason: a capped stream.
func (k Keyspace) InboxRejected() string { return k.prefix + "inbox:rejected" }

// InboxRejections is the ids of the entries that were refused lately, in InboxRejected's slot: a sorted set. It is needed
// where the two streams lie in different slots.
func (k Keyspace) InboxRejections() string { return "{" + k.InboxRejected() + "}:entries" }

// Index is one shard of an index of job ids: a sorted set. The name is "open" (scored by deadline),
// "ended" (by end) or "dead" (by death); scores are milliseconds since the epoch.
func (k Keyspace) Index(shard int, name string) string {
	const digits = "0123456789abcdef"
	return k.prefix + "{idx:" + digits[shard:shard+1] + "}:" + name
}

// IndexShards is the number of shards of every index.
const IndexShards = 16

// IndexShard is the shard that a job's id belongs to (FNV-1a of the id).
func IndexShard(id string) int {
	hash := uint32(2166136261)
	for i := range len(id) {
		hash = (hash ^ uint32(id[i])) * 16777619
	}
	return int(hash % IndexShards)
}

// CursorSecret is the string, 32 random bytes, that the cursors of tenants' lists are sealed with.
func (k Keyspace) CursorSecret() string { return k.prefix + "cursor:secret" }

// Worker is the liveness key of a process that does jobs: a string of JSON, which exists while the process lives.
func (k Keyspace) Worker(id string) string { return k.prefix + "workers:" + id }

// Process is the same of every other process.
func (k Keyspace) Process(id string) string { return k.prefix + "processes:" + id }

// Fleet is the kinds of all processes by their ids, and of some that have died: a hash.
func (k Keyspace) Fleet() string { return k.prefix + "fleet" }

// Leader is the lease of the leader, with its term: a hash.
func (k Keyspace) Leader() string { return k.prefix + "leader" }

// LeaderLeft is the channel on which a leader says that it has left.
func (k Keyspace) LeaderLeft() string { return k.prefix + "leader:left" }

// Keys is the API keys: a hash of JSON by their ids.
func (k Keyspace) Keys() string { return k.prefix + "keys" }

// KeysChanged is the channel on which every creation and revocation of an API key is published.
func (k Keyspace) KeysChanged() string { return k.prefix + "keys:changed" }

// Session is the API key with which a browser has logged in, by the digest of what the browser holds: a string that
// expires.
func (k Keyspace) Session(digest string) string { return k.prefix + "session:" + digest }

// TenantTaken is what a tenant has taken in the last minute, of requests or jobs: a hash.
func (k Keyspace) TenantTaken(tenant, what string) string {
	return k.prefix + "{tenant:" + tenant + "}:" + what
}

// Schedules is all schedules: a hash of JSON by "<tenant>/<name>". ScheduleStates is what has become of them.
func (k Keyspace) Schedules() string { return k.prefix + "{schedules}:entries" }

// ScheduleStates is what has become of each schedule: a hash of JSON, in the slot of Schedules.
func (k Keyspace) ScheduleStates() string { return k.prefix + "{schedules}:states" }

// Reply is a reply stream of a tenant: results, the newest.
func (k Keyspace) Reply(tenant, name string) string { return k.prefix + "reply:" + tenant + ":" + name }

// Calls is the jobs that equal calls over HTTP wait for, by when they are forgotten: a sorted set.
func (k Keyspace) Calls(digest string) string { return k.prefix + "{calls:" + digest + "}" }

// File is what is known of a file: a string of JSON.
func (k Keyspace) File(id string) string { return k.prefix + "{file:" + id + "}" }

// Files is the ids of all files, which sort by their age: a sorted set of members without scores.
func (k Keyspace) Files() string { return k.prefix + "files" }

// TenantFiles is the ids of a tenant's files: a sorted set of members without scores.
func (k Keyspace) TenantFiles(tenant string) string {
	return k.prefix + "{tenant:" + tenant + "}:files"
}

// FilesExpiring is the ids of all files, also of those that are being written, by when they are to be looked at: a
// sorted set.
func (k Keyspace) FilesExpiring() string { return k.prefix + "files:expiring" }

// Cancel is the channel on which the ids of cancelled jobs are published.
func (k Keyspace) Cancel() string { return k.prefix + "cancel" }

// PausedTaskTypes is the task types of which no call is begun: a set.
func (k Keyspace) PausedTaskTypes() string { return k.prefix + "paused" }

// Pauses is the channel on which every pause and resumption is published.
func (k Keyspace) Pauses() string { return k.prefix + "pauses" }

// Alerts is the alerts that are judged: a hash of JSON by "<name>/<subject>".
func (k Keyspace) Alerts() string { return k.alerts() + "state" }

// AlertsTerm is who has judged last, in the slot of Alerts: a hash of a term and a revision.
func (k Keyspace) AlertsTerm() string { return k.alerts() + "term" }

// AlertsOutbox is the messages of alerts that were not delivered yet, in the slot of Alerts: a hash of JSON by their ids.
func (k Keyspace) AlertsOutbox() string { return k.alerts() + "outbox" }

// AlertsTries is how often each of those messages was tried, and until when it rests, in the slot of Alerts: a hash.
func (k Keyspace) AlertsTries() string { return k.alerts() + "tries" }

func (k Keyspace) alerts() string { return k.prefix + "{alerts}:" }

func (k Keyspace) webhooks(tenant string) string { return k.prefix + "{webhooks:" + tenant + "}" }

func (k Keyspace) budget() string { return k.prefix + "{budget}:" }

func (k Keyspace) account(name string) string { return k.prefix + "{acct:" + name + "}" }
