// Package simulator is a provider of language models that is none: an OpenAI-compatible HTTP handler with one or
// several regions, for demonstrations, tests and benchmarks of whatever stands in front of a real one. It depends
// on nothing but the standard library.
//
// # What it serves
//
// Every region is an endpoint of its own, with its own latency, rate limits and failures, below its name:
//
//	POST /<region>/v1/chat/completions   an extractive summary of the last user message
//	POST /<region>/v1/embeddings         hashed n-grams
//	GET  /<region>/v1/models             the models of the configuration
//	GET  /_simulator/counters            what was asked and what was answered (Counters); ?jobs=false without jobs
//	POST /_simulator/outage              {"region":"apac","kinds":["500","hang"]}; no kinds end the outage
//
// A simulator with a single region answers below /v1 as well, and the handler of one region only there. A call
// without max_tokens is bounded, and charged, as if it had asked for DefaultMaxTokens. Tokens are estimated: one
// for every four bytes. Answers are labelled, by system_fingerprint and by the header X-Forebay-Simulated.
//
// # What it does to its callers
//
// A call is read whole, and then, in this order: a failure asked for by the header X-Simulate-Failure or due to an
// outage strikes; the key, the body and the model are checked; the limits are asked; the dice of FailureRate are
// thrown; the latency is waited for; the answer is written. Failures that bend an answer (finish_reason, usage, ...)
// strike at the end of this row, all others at its beginning, after the latency. Failures lists every kind.
//
// # How to reach it
//
// Simulator is an http.Handler for a server of the caller's, Handler is one region of it. Listen serves it over
// connections in memory, which work inside a testing/synctest bubble, where a TCP server would hang: five
// minutes of latency pass at once there. Time is the time package's throughout.
//
// With the same Config.Seed and the same order of requests, latencies and failures are the same.
package simulator
