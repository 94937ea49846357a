// Package failpoint ends the process, as kill -9 does, at places that have names, so that tests can die between any
// two steps. Without the build tag failpoints it is empty, and no build that anybody runs has the tag.
//
//	FOREBAY_FAILPOINT=inbox.accepted      dies the first time that place is reached
//	FOREBAY_FAILPOINT=enqueue.queued:3    dies the third time
//
// The names: enqueue.recorded (the records are written), enqueue.indexed (the index is), enqueue.queued (the tasks are);
// inbox.read (entries were read and nothing has been done), inbox.accepted (their jobs are accepted, the entries are
// still there), inbox.acked (the entries are gone), inbox.refused (a refused job has its failed record), inbox.told (on
// Redis Cluster: the refusal stands in the stream of refusals, the entry is still there), inbox.rejected (the refused
// entry is gone); adopt.recorded, adopt.queued (a foreign task's job has its record, its own task);
// webhook.begun (the intent of an attempt is written), webhook.sent (it was answered, and nothing of that is written),
// webhook.settled (that is written, the task is still there); alert.recorded (alerts and what the channels are to be told
// are written, nothing is sent), alert.begun (a message is about to be sent), alert.sent (its channel has taken it, and
// nothing of that is written).
package failpoint
