// Package openai reads the calls of OpenAI's API as jobs, and writes jobs' ends as its answers: for requests over HTTP
// and for the lines of batches alike.
//
// What a call names as its model is a name of the catalog: a model, a task type ("fast_summary"), a tier ("tier:low") or a
// profile ("profile:balanced"). Where a model and a task type share a name, it is the model.
//
// The shapes are those of https://platform.openai.com/docs/api-reference.
package openai
