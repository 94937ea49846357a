// Package reconciler mends what asynq cannot. It is run by the leader only, and begins each of its terms without a
// memory.
//
// Once a second it looks at the leases of all running deliveries. A delivery is dead when its lease has not moved for
// 15 s of this watching, during which Redis answered throughout; its task is then the queue's next, without a retry
// being spent. asynq moves the lease of a living delivery every 5 s.
//
// Every 5 s, and whenever a delivery is found dead, one script per queue brings it into order at one moment; then the
// open jobs are looked at, some thousands at a time: those past their deadline are ended, those whose task is missing
// for 60 s are enqueued again or ended with a reason. Pending webhooks are looked at in the same way.
//
// # Who is protected against whom
//
// A leader that has lost its lease asks its Term before every step and stops. One that was stopped between asking and
// writing is refused: the scripts carry the term, and each queue remembers the last one that wrote (in the queue's own
// slot, so that Redis Cluster runs the scripts). Records of jobs are in other slots: what is written to them is a
// comparison with what was read (jobstore.Store.Reap), which an old leader makes no better or worse than a new one.
//
// A worker may finish a delivery in the same moment in which it is found dead. Both are scripts: either the task is
// acknowledged, and the script finds no such lease; or it is requeued, and the acknowledgement finds no active task,
// and the next delivery finds the job's result. A delivery requeued although it lives ends the same way, and its open
// call keeps the next delivery from calling for as long as its worker's liveness key stands.
//
// asynq's own recoverer runs in every worker and takes leases that ended 30 s ago, 60 s after they last moved. It comes
// first only where no leader is, and spends a retry of the million there are. Both are scripts that take the task from
// the active list or find it gone.
package reconciler
