// Package webhooks keeps the state of webhooks in Redis: what is to be told to whom, which attempts were made, and how
// the targets stand.
//
// A webhook is one message about one event on its way to one target. Its record lies in a slot of its own; the breaker,
// the permits and the last attempts of a tenant's targets share another one. The ids of webhooks stand in lists, by their
// state. What is written to several of these is written in an order in which each step may be repeated: whoever finds a
// webhook half written, which is the next delivery or the reconciler, does the rest.
//
// One attempt is Admit, Begin, the request, Settle:
//
//	admission, err := store.Admit(ctx, record, limits) // a permit; or a wait, or the URL is off
//	begun, err := store.Begin(ctx, record, limits)     // the intent, before anything is sent
//	...
//	state, err := store.Settle(ctx, record, admission, attempt, next)
//
// A webhook that was delivered, or that somebody discarded, is kept for as long as it says. One that is dead stays.
package webhooks
