package jobstore

import (
	"context"
	_ "embed" // for the script
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks/batches"
	"github.com/forebay-queue/forebay/tasks/keyspace"
)

var (
	//go:embed list.lua
	listSource string

	listScript = redis.NewScript(listSource)
)

// search walks through the jobs of a list, in its order, and looks at each.
type search struct {
	store  *Store
	filter Filter
	stages []stage // the one it is in, and those to come
	lanes  []*lane // of that stage
	batch  int     // how many records are read next
}

// lane is what is to come of one set in one shard.
type lane struct {
	key, set string
	ahead    []member
	// read is the place behind ahead, and end tells that nothing is there.
	read place
	end  bool
}

// member is one of a set.
type member struct {
	place
	set string
}

// batch is what was found in one round.
type batch struct {
	found  []found
	looked int
	// end is behind the last record that was looked at; last tells that no other follows.
	end  place
	last bool
}

func (s *Store) newSearch(filter Filter) (*search, error) {
	if err := filter.check(); err != nil {
		return nil, err
	}
	return &search{store: s, filter: filter, stages: filter.stages()}, nil
}

// from begins at a place, with so many records.
func (s *search) from(p place, records int) {
	for s.stages[0] != p.stage {
		s.stages = s.stages[1:]
	}
	s.batch = min(records, mostRead)
	s.enter(p)
}

// enter begins a stage.
func (s *search) enter(p place) {
	if until := s.filter.Until; p.stage == stageEnded && !until.IsZero() {
		// Ends are whole milliseconds: the first that is not meant any more, and all ids of it, are behind the search.
		if first := until.Add(time.Millisecond - 1).UnixMilli(); first <= p.score {
			p.score, p.id = first, ""
		}
	}
	s.lanes = nil
	if p.stage == stageMembers {
		s.lanes = []*lane{{key: s.store.keys.Batch(s.filter.Batch), set: anySet, read: p}}
		return
	}
	for _, set := range p.stage.sets(s.filter) {
		for shard := range keyspace.IndexShards {
			s.lanes = append(s.lanes, &lane{key: s.store.keys.Index(shard, set), set: set, read: p})
		}
	}
}

// done tells that everything has been looked at.
func (s *search) done() bool { return len(s.stages) == 0 }

// next looks at the next records.
func (s *search) next(ctx context.Context) (batch, error) {
	members, err := s.members(ctx)
	if err != nil {
		return batch{}, err
	}
	b := batch{looked: len(members), last: s.done()}
	if len(members) > 0 {
		b.end = members[len(members)-1].place
	}
	if b.found, err = s.store.readRows(ctx, members, s.filter); err != nil {
		return batch{}, err
	}
	s.batch = min(2*s.batch, mostRead) // a filter that matches rarely has a long way to go
	return b, nil
}

// members takes the next ones of all lanes, and goes to the next stage when there are none any more.
func (s *search) members(ctx context.Context) ([]member, error) {
	var members []member
	for len(members) < s.batch && !s.done() {
		first, err := s.first(ctx)
		switch {
		case err != nil:
			return nil, err
		case first != nil:
			members, first.ahead = append(members, first.ahead[0]), first.ahead[1:]
			continue
		}
		if s.stages = s.stages[1:]; !s.done() {
			s.enter(place{stage: s.stages[0], score: beginning})
		}
	}
	return members, nil
}

// first is the lane whose next member is the list's next; nil at the end of the stage.
func (s *search) first(ctx context.Context) (*lane, error) {
	var first *lane
	for _, l := range s.lanes {
		if len(l.ahead) == 0 && !l.end {
			if err := s.refill(ctx); err != nil {
				return nil, err
			}
		}
		if len(l.ahead) > 0 && (first == nil || l.ahead[0].before(first.ahead[0].place)) {
			first = l
		}
	}
	return first, nil
}

// before is the order within a stage.
func (p place) before(other place) bool {
	return p.score > other.score || p.score == other.score && p.id > other.id
}

// refill reads more of every lane that has little ahead, in one round trip. The jobs lie evenly over the lanes.
func (s *search) refill(ctx context.Context) error {
	count := max(8, 2*s.batch/len(s.lanes))
	if s.stages[0] == stageMembers {
		return s.refillMembers(ctx, s.lanes[0], count)
	}
	var lanes []*lane
	for _, l := range s.lanes {
		if !l.end && len(l.ahead) <= count/2 {
			lanes = append(lanes, l)
		}
	}
	read := func(run func(context.Context, redis.Scripter, []string, ...any) *redis.Cmd) []*redis.Cmd {
		pipe := s.store.redis.Pipeline()
		replies := make([]*redis.Cmd, len(lanes))
		for i, l := range lanes {
			replies[i] = run(ctx, pipe, []string{l.key}, l.read.score, l.read.id, count)
		}
		execute(ctx, pipe)
		return replies
	}
	replies := read(listScript.EvalSha)
	for _, reply := range replies {
		if redis.HasErrorPrefix(reply.Err(), "NOSCRIPT") { // of a cluster, one server may not know it
			replies = read(listScript.Eval)
			break
		}
	}
	for i, l := range lanes {
		if err := s.take(l, replies[i], count); err != nil {
			return err
		}
	}
	return nil
}

// anySet is that of a job which may stand in any.
const anySet = ""

// refillMembers goes on with the members of a batch, whose ids need no index. The first has the highest score.
func (s *search) refillMembers(ctx context.Context, l *lane, count int) error {
	total, err := s.store.redis.HGet(ctx, l.key, "total").Int()
	if err != nil && !errors.Is(err, redis.Nil) {
		return fmt.Errorf("read batch %s: %w", s.filter.Batch, err)
	}
	next := 0
	if l.read.score != beginning {
		next = int(1 - l.read.score)
	}
	for ; next < total && len(l.ahead) < count; next++ {
		l.read.score, l.read.id = -int64(next), batches.MemberID(s.filter.Batch, next)
		l.ahead = append(l.ahead, member{place: l.read, set: l.set})
	}
	l.end = next >= total
	return nil
}

func (s *search) take(l *lane, reply *redis.Cmd, count int) error {
	pairs, err := reply.StringSlice()
	if err != nil {
		return fmt.Errorf("read the index %s: %w", l.key, err)
	}
	l.end = len(pairs) < 2*count
	for i := 0; i+1 < len(pairs); i += 2 {
		score, err := strconv.ParseFloat(pairs[i+1], 64)
		if err != nil {
			return fmt.Errorf("read the index %s: job %s has the score %q", l.key, pairs[i], pairs[i+1])
		}
		l.read.score, l.read.id = int64(score), pairs[i]
		if since := s.filter.Since; l.read.stage == stageEnded && !since.IsZero() && l.read.score < since.UnixMilli() {
			l.end = true // all that follow ended before
			break
		}
		l.ahead = append(l.ahead, member{place: l.read, set: l.set})
	}
	return nil
}
