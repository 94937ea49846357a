package gate

import (
	"context"
	"strings"

	"github.com/forebay-queue/forebay/tasks/events"
)

// Publish writes an event of a change of a breaker: breaker.opened, breaker.reopened or breaker.closed, with the
// endpoint, its account, the cause of an opening, and the account's other endpoints that opened with it. Unchanged writes nothing.
func (g *Gate) Publish(ctx context.Context, outcome Outcome, transition Transition) error {
	if transition.Change == Unchanged {
		return nil
	}
	cause := ""
	if transition.Change != Closed {
		cause = outcome.cause()
	}
	return events.Publish(ctx, g.client, g.keys, "breaker."+string(transition.Change), "endpoint", outcome.Route.Endpoint,
		"account", outcome.Route.Account, "cause", cause, "others", strings.Join(transition.OthersOpened, ","))
}
