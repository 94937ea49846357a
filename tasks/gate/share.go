package gate

import (
	"context"
	"fmt"
	"time"
)

// mostTogether bounds the calls that are admitted or settled by one script.
const mostTogether = 128

// question is that of one attempt: its token, and how long a probe lease would last.
type question struct {
	token string
	lease time.Duration
}

// admitAll asks for several attempts on one route at once. While nothing is amiss all are told the same, as a grant
// that is no probe writes nothing. A refusal and a probe are the first attempt's own: the others, whose answer is not
// Granted, have to ask for themselves.
func (g *Gate) admitAll(ctx context.Context, route Route, asked []question) ([]Admission, error) {
	first, err := g.admitOne(ctx, route, asked[0])
	if err != nil {
		return nil, err
	}
	answers := make([]Admission, len(asked))
	answers[0] = first
	if first.Granted && !first.Probe {
		for i := 1; i < len(asked); i++ {
			answers[i] = first
			answers[i].Token = asked[i].token
		}
	}
	return answers, nil
}

// succeedAll reports several successful calls of one endpoint, in one script if its breaker is closed.
func (g *Gate) succeedAll(ctx context.Context, outcomes []Outcome) ([]Transition, error) {
	if len(outcomes) > 1 {
		if transitions, err := g.succeed(ctx, outcomes); err != nil || len(transitions) > 0 {
			return transitions, err
		}
	}
	transitions := make([]Transition, len(outcomes))
	for i, outcome := range outcomes {
		var err error
		if transitions[i], err = g.settleOne(ctx, outcome); err != nil {
			return nil, err
		}
	}
	return transitions, nil
}

// succeed runs succeed.lua. It returns nothing when the outcomes have to be settled one by one.
func (g *Gate) succeed(ctx context.Context, outcomes []Outcome) ([]Transition, error) {
	route, generation := outcomes[0].Route, outcomes[0].Generation
	args := make([]any, 0, 2+2*len(outcomes))
	args = append(args, generation, remembered)
	for _, outcome := range outcomes {
		if outcome.Generation != generation {
			return nil, nil
		}
		args = append(args, outcome.Token, outcome.Latency.Microseconds())
	}
	reply, err := succeedScript.Run(ctx, g.client, []string{
		g.keys.Endpoint(route.Account, route.Endpoint),
		g.keys.EndpointSettled(route.Account, route.Endpoint),
	}, args...).Int64Slice()
	switch {
	case err != nil:
		return nil, fmt.Errorf("settle %d calls of endpoint %s as success in Redis: %w", len(outcomes), route.Endpoint, err)
	case len(reply) == 0:
		return nil, nil
	case len(reply) != len(outcomes):
		return nil, fmt.Errorf("settle calls of endpoint %s as success: %w (%d values)", route.Endpoint, errReply, len(reply))
	}
	transitions := make([]Transition, len(outcomes))
	for i, counted := range reply {
		transitions[i] = Transition{Generation: generation, Duplicate: counted == 0}
	}
	return transitions, nil
}
