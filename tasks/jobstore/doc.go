// Package jobstore keeps the record of every job: what was asked, where it stands, every call that was made for
// it, and what came of it. It decides; asynq's tasks only carry ids.
//
// A record is the hash {job:<id>}. Any language may read it; only the scripts of this package write it, each one
// verb, so that a record is never half-way between two states:
//
//	create    queued              the way in
//	refuse    failed              the way in, of a job that its sender learns of only here
//	start     -> running          a delivery takes the job; the delivery before it, if any, has lost it
//	sitout                        a delivery waits for its next call, and says for what
//	begin                         the intent of a call, before it is sent
//	end                           the end of a call
//	orphan                        the end of a call whose worker is gone
//	giveback  -> queued, retrying the delivery leaves the job to a later one
//	commit    -> an end           the result, once per run
//	cancel    -> cancelled        at once, or a flag for the worker that holds the job
//	reopen    -> queued           the next run of a job that ended without success
//	discard                       the end of the record of a job that has ended
//	release                       the answer of a member of a batch is written
//	handed                        everybody has been told of the end who is to be
//	told                          the webhook of the end has been delivered
//
// Every verb may be sent twice with the same arguments: the second time changes nothing and is answered like the
// first.
//
// # Fields
//
//	status       queued, running, retrying, succeeded, failed, cancelled or expired
//	job          the job as it was accepted, JSON (tasks.Job)
//	fingerprint  the hash of what was asked; the same id with another one is refused
//	tenant       who pays
//	task_type    empty for a job without one
//	priority     the queue: critical, default or bulk
//	shard        the shard of that queue, where queues have several: "0", "1", ...
//	prompt_tokens  the estimate of the request's tokens before its answer, made at the way in
//	member       "<batch> <number>", of a job that is a member of a batch
//	metadata     the job's pairs, JSON, once more: lists read it without the job
//	run          1, and one more for every reopening
//	created_at   when the job was accepted
//	run_at       the earliest start, where one was given
//	started_at   when the first delivery of this run began
//	finished_at  when this run ended
//	result       what came of this run, JSON (tasks.Result without response and attempts); there once it has ended
//	response     the provider's body, byte for byte
//	previous     the results of earlier runs, a JSON array
//	handed       the run of whose end its reply stream and webhook have been told
//	refused      what was refused, where the job never was accepted
//	cancel       1 while a running job is asked to end
//	failures     failed deliveries of this run that spent a retry
//	deaths       deliveries of this run that were lost with their worker
//	deliveries   all deliveries of this run
//	delivery     the running delivery, or the last one
//	worker       the worker of that delivery
//	waiting      what the job waits for, JSON (tasks.Waiting), also in a worker's hands
//	waits        json, one a line: the last 20 that were written as waiting, the oldest first
//	last_error   why the last delivery failed, JSON (tasks.Failure)
//	seq          the number of the latest attempt, over all runs
//	a:<seq>      the ledger: one call, JSON (tasks.Attempt); its intent first, replaced by its end
//
// Where Config.Sealer has keys, the fields job, result, response, previous, metadata and last_error are sealed, each for
// itself: {"sealed":"<key id>:<base64>"}, see package seal; and fingerprint is "<key id>:<HMAC>", so that it tells nobody
// whether a guess at what was asked is right. All others are readable as they stand.
//
// An absent field is empty or zero. Times are RFC 3339 in UTC, those of the hash with three digits of milliseconds.
// They are made by the clients, whose clocks are checked against the server's.
//
// cost_usd in result is what was known at the commit. The ledger has the last word: an end that arrives after the
// commit is still written there, and Record.Result adds up the ledger.
//
// # How long a record is kept
//
// The record of a succeeded, cancelled or expired job expires after the job's retention. A failed job is a dead
// letter: its record does not expire until the job is reopened. An open job's record never expires. That of a refused
// job expires after a day, and makes room for a job that is accepted under its id. That of a member of a batch is kept
// for 30 days, until its answer is written somewhere else: release has it expire by the retention.
// Where a webhook tells of the end, the record does not expire until that has been delivered or discarded; then it is
// kept for its retention.
//
// # Index
//
// The ids stand in sorted sets of 16 shards, {idx:<n>}: open (scored by deadline), ended and dead (by end). They
// follow the record and can be restored from it at any time: see Store.Reindex. A job with a reply stream or a webhook
// stays in open, ended, until both have been told.
package jobstore
