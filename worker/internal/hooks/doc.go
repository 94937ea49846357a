// Package hooks makes one attempt of a webhook: it renders the body, signs it by https://www.standardwebhooks.com, sends
// it, and says what its answer means. What a webhook is on its way is the state of tasks/webhooks, and the story of its
// delivery the worker's.
package hooks
