package gate

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// shared lets concurrent callers who ask Redis the same thing ask it together: while one question is out, those who
// come gather, and the next question is all of theirs. A caller who is alone asks at once.
type shared[K comparable, Q, A any] struct {
	mu    sync.Mutex
	rooms map[K]*room[Q, A]
}

// room is where the callers of one subject gather. It exists while a question is out.
type room[Q, A any] struct{ next *gathering[Q, A] }

type gathering[Q, A any] struct {
	questions []Q
	turn      chan struct{} // closed when it is this gathering's turn; its first caller asks
	done      chan struct{}
	answers   []A
	err       error
}

// ask returns the answer to one question. The function gets the questions of a gathering, and answers each.
func (s *shared[K, Q, A]) ask(subject K, question Q, all func([]Q) ([]A, error)) (A, error) {
	s.mu.Lock()
	if s.rooms == nil {
		s.rooms = map[K]*room[Q, A]{}
	}
	r := s.rooms[subject]
	if r == nil {
		r = &room[Q, A]{}
		s.rooms[subject] = r
		s.mu.Unlock()
		defer s.leave(subject, r)
		answers, err := all([]Q{question})
		return pick(answers, 0, err)
	}
	g := r.next
	if g == nil {
		g = &gathering[Q, A]{turn: make(chan struct{}), done: make(chan struct{})}
		r.next = g
	}
	place := len(g.questions)
	g.questions = append(g.questions, question)
	s.mu.Unlock()

	if place == 0 {
		<-g.turn
		defer s.leave(subject, r)
		defer close(g.done)
		g.answers, g.err = all(g.questions)
		return pick(g.answers, 0, g.err)
	}
	<-g.done
	return pick(g.answers, place, g.err)
}

// leave ends a question: those who have gathered meanwhile have their turn.
func (s *shared[K, Q, A]) leave(subject K, r *room[Q, A]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.next == nil {
		delete(s.rooms, subject)
		return
	}
	close(r.next.turn)
	r.next = nil
}

func pick[A any](answers []A, place int, err error) (A, error) {
	var answer A
	if err != nil {
		return answer, err
	}
	if place >= len(answers) {
		return answer, errReply
	}
	return answers[place], nil
}

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

// together is the context of a question that is asked for several callers: it does not end with one of theirs.
func together[Q any](ctx context.Context, questions []Q) context.Context {
	if len(questions) > 1 {
		return context.WithoutCancel(ctx)
	}
	return ctx
}
