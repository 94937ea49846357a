// Package health has the endpoints probed by the clock and publishes which one each tier asks first. It is run by the
// leader only.
//
// At each tick, a whole multiple of the interval by the clock of Redis, one health probe of every endpoint is enqueued;
// a worker makes it. Its task is named after the endpoint and the tick, and is remembered until the next one: a leader
// that takes over in mid-tick enqueues none twice. What still waits of the tick before is taken out of the queue, so
// that health probes which nobody makes do not pile up.
package health
