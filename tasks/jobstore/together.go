package jobstore

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks/internal/gather"
)

const (
	// mostTogether bounds the calls of one round trip: everybody else waits for it.
	mostTogether = 128
	// largestTogether is the size of the arguments, in bytes, above which a job has a script of its own.
	largestTogether = 64 << 10
)

// batched is a call of a script that takes any number of jobs, with what travels behind it.
type batched struct {
	call
	// read asks for the record, as it is after the script.
	read bool
	// moves are those of the job within the index. They expect that the script does what it is asked to.
	moves []move
}

// size is that of the arguments which may be long.
func (b batched) size() int {
	sum := 0
	for _, arg := range b.args {
		switch arg := arg.(type) {
		case string:
			sum += len(arg)
		case []byte:
			sum += len(arg)
		}
	}
	return sum
}

// answer is what came of one batched call.
type answer struct {
	reply  reply
	err    error
	fields *redis.MapStringStringCmd // of the record, if it was asked for
	index  []redis.Cmder             // the moves, which may be those of others as well
}

// trips are the calls of concurrent callers, of whatever script: one round trip carries all.
type trips = gather.Group[struct{}, batched, answer]

// newTrips gathers calls for a client to whom the slots of keys do not matter: nil for others, such as one of Redis
// Cluster, where each job's record may lie on another server.
func newTrips(client redis.UniversalClient) *trips {
	single, ok := client.(*redis.Client)
	if !ok {
		return nil
	}
	return gather.New(mostTogether, func(_ struct{}, calls []batched) ([]answer, error) {
		return together(context.Background(), single, calls), nil
	})
}

// send puts a batched call on its way, and returns what waits for its answer.
func (s *Store) send(ctx context.Context, b batched) func() answer {
	switch {
	case s.trips == nil:
		sent := queue(ctx, s.pipe, []batched{b}, false)
		return func() answer {
			answers, known := sent.read()
			if !known {
				answers, _ = queue(ctx, s.pipe, []batched{b}, true).read()
			}
			return answers[0]
		}
	case b.size() > largestTogether:
		return func() answer { return together(ctx, s.redis, []batched{b})[0] }
	}
	ticket := s.trips.Send(struct{}{}, b)
	return func() answer {
		answer, err := ticket.Wait()
		if err != nil {
			answer.err = err
		}
		return answer
	}
}

// together makes calls in one round trip, those of one script by one script.
func together(ctx context.Context, client redis.UniversalClient, calls []batched) []answer {
	answers := make([]answer, len(calls))
	left := byScript(calls)
	for full := false; len(left) > 0; full = true {
		pipe := client.Pipeline()
		queued := make([]sent, len(left))
		for i, group := range left {
			queued[i] = queue(ctx, pipe, group.calls, full)
		}
		execute(ctx, pipe)
		unknown := left[:0]
		for i, group := range left {
			own, known := queued[i].read()
			switch {
			case len(group.calls) > 1 && redis.HasErrorPrefix(queued[i].script.Err(), "CROSSSLOT"):
				own = apart(ctx, client, group.calls)
			case !known && !full:
				unknown = append(unknown, group)
				continue
			}
			for j, at := range group.at {
				answers[at] = own[j]
			}
		}
		left = unknown
	}
	return answers
}

// group is the calls of one script, and where their answers belong.
type group struct {
	calls []batched
	at    []int
}

// byScript groups calls, in the order of their scripts' first.
func byScript(calls []batched) []group {
	var groups []group
	for i, b := range calls {
		known := slices.IndexFunc(groups, func(g group) bool { return g.calls[0].script == b.script })
		if known < 0 {
			known = len(groups)
			groups = append(groups, group{})
		}
		groups[known].calls, groups[known].at = append(groups[known].calls, b), append(groups[known].at, i)
	}
	return groups
}

// apart makes calls in one round trip, each with a script of its own: for a cluster behind a single address, which
// looks like one server and refuses what touches several slots.
func apart(ctx context.Context, client redis.UniversalClient, calls []batched) []answer {
	pipe := client.Pipeline()
	queued := make([]sent, len(calls))
	for i := range calls {
		queued[i] = queue(ctx, pipe, calls[i:i+1], true)
	}
	execute(ctx, pipe)
	answers := make([]answer, 0, len(calls))
	for _, one := range queued {
		own, _ := one.read()
		answers = append(answers, own...)
	}
	return answers
}

// sent are calls whose replies can be read once their pipeline has been executed.
type sent struct {
	calls  []batched
	script *redis.Cmd
	fields []*redis.MapStringStringCmd
	index  []redis.Cmder
}

// queue queues calls of one script: by its name, or in full for a server that does not know it.
func queue(ctx context.Context, pipe redis.Cmdable, calls []batched, full bool) sent {
	script := calls[0].script
	keys := make([]string, 0, len(calls)*len(calls[0].keys))
	args := make([]any, 0, len(calls)*len(calls[0].args))
	var moves []move
	for _, b := range calls {
		keys, args, moves = append(keys, b.keys...), append(args, b.args...), append(moves, b.moves...)
	}
	run := script.EvalSha
	if full {
		run = script.Eval
	}
	queued := sent{calls: calls, script: run(ctx, pipe, keys, args...), fields: make([]*redis.MapStringStringCmd, len(calls))}
	for i, b := range calls {
		if b.read {
			// Behind the script, not by it: to carry a record through Lua costs four times as much.
			queued.fields[i] = pipe.HGetAll(ctx, b.keys[0])
		}
	}
	queued.index = queueMoves(ctx, pipe, moves)
	return queued
}

// read reads the answers. It says false when the server did not know the script.
func (s sent) read() (answers []answer, known bool) {
	replies, err := s.script.Slice()
	known = !redis.HasErrorPrefix(err, "NOSCRIPT")
	if err == nil && len(replies) != len(s.calls) {
		err = fmt.Errorf("the script answered for %d jobs of %d", len(replies), len(s.calls))
	}
	answers = make([]answer, len(s.calls))
	for i, b := range s.calls {
		answers[i].fields, answers[i].index = s.fields[i], s.index
		if err != nil {
			answers[i].reply, answers[i].err = b.call.read(nil, err)
			continue
		}
		own, _ := replies[i].(error) // an error of one job is its own
		answers[i].reply, answers[i].err = b.call.read(replies[i], own)
	}
	return answers, known
}

// indexed is the error of the moves within the index.
func (a answer) indexed() error {
	var errs []error
	for _, command := range a.index {
		errs = append(errs, command.Err())
	}
	return errors.Join(errs...)
}
