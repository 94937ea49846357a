// Package batches keeps what is known of a batch: a set of jobs that were handed over together, its members, how far
// they are, and what they cost.
//
// Members are numbered from 0, and a member's job has the id MemberID(batch, number), so that no list of members is
// kept. A batch is of one of two kinds: one of KindFile is made from a file and becomes files, by a process that works
// on it (OpenAI's); one of KindRun is read and written by the command line.
//
// A batch is the hash {batch:<id>}. Only the scripts of this package write it, each one verb:
//
//	create  validating                    the batch is known
//	fail    validating -> failed          nothing of it was accepted, and why
//	begin   -> in_progress                it has so many members; again with more, it has grown
//	report                                members have ended, or were opened again; with the last, -> finalizing, or the end
//	cancel  -> cancelling                 its members are to end
//	finish  -> completed, expired, cancelled   its files are written
//	lease, leave                          one process at a time works on it
//
// Every verb may be sent twice with the same arguments: the second time changes nothing.
//
// # Members
//
// The string {batch:<id>}:members has two bytes for each member, in their order: the state of its latest run that was
// reported ("o" for open, "s", "f", "c" and "x" for succeeded, failed, cancelled and expired; nothing was reported of
// one that reads as zeros), and the number of that run, up to 255. That makes reports repeatable, whatever their
// order: one of an older run, or of an end that has been counted, changes nothing. Whatever ends a job reports it
// (package jobstore); what a crash has left out the scheduler's leader finds in the jobs' records.
//
// # How long it is kept
//
// What is known of a batch is kept for 30 days after its end.
package batches
