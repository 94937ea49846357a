// Package filerun does a file of jobs: it plans, enqueues, follows and writes, and goes on where an earlier run of the
// same files was ended, however that was.
//
// # The journal
//
// Beside the output stands a folder with two files that are only ever added to:
//
//	plan.jsonl     which batches there are, and the fingerprint of what each member of them asks
//	answers.jsonl  what came of the members, as they end
//
// A member stands in the plan, on the disk, before it is enqueued, and under the same id whenever it is enqueued again. So a
// line is paid for once, whenever and however often the run is killed; and as what it asks is its fingerprint, lines may
// move, and only one that asks something else is new. An answer stands in the journal before its record may expire.
//
// What a crash has cut off at the end of a file was never acted on, and is taken away.
package filerun
