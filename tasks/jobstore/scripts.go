package jobstore

import (
	"context"
	_ "embed" // for the scripts
	"fmt"

	"github.com/redis/go-redis/v9"
)

var (
	//go:embed create.lua
	createSource string
	//go:embed start.lua
	startSource string
	//go:embed begin.lua
	beginSource string
	//go:embed sitout.lua
	sitOutSource string
	//go:embed end.lua
	endSource string
	//go:embed orphan.lua
	orphanSource string
	//go:embed commit.lua
	commitSource string
	//go:embed giveback.lua
	giveBackSource string
	//go:embed cancel.lua
	cancelSource string
	//go:embed reopen.lua
	reopenSource string
	//go:embed refuse.lua
	refuseSource string

	createScript   = redis.NewScript(createSource)
	startScript    = redis.NewScript(startSource)
	beginScript    = redis.NewScript(beginSource)
	sitOutScript   = redis.NewScript(sitOutSource)
	endScript      = redis.NewScript(endSource)
	orphanScript   = redis.NewScript(orphanSource)
	commitScript   = redis.NewScript(commitSource)
	giveBackScript = redis.NewScript(giveBackSource)
	cancelScript   = redis.NewScript(cancelSource)
	reopenScript   = redis.NewScript(reopenSource)
	refuseScript   = redis.NewScript(refuseSource)
)

// call is one script with what it is given, for one job.
type call struct {
	verb   string
	id     string
	script *redis.Script
	keys   []string
	args   []any
}

// reply is what every script of this package returns: a word, and what belongs to it.
type reply struct {
	word string
	rest []any
}

// text is the i-th string behind the word, or empty.
func (r reply) text(i int) string {
	if i < len(r.rest) {
		if text, ok := r.rest[i].(string); ok {
			return text
		}
	}
	return ""
}

func (s *Store) run(ctx context.Context, c call) (reply, error) {
	return c.read(c.script.Run(ctx, s.pipe, c.keys, c.args...).Result())
}

func (c call) read(value any, err error) (reply, error) {
	if err != nil {
		return reply{}, fmt.Errorf("%s job %s: %w", c.verb, c.id, err)
	}
	parts, ok := value.([]any)
	if !ok || len(parts) == 0 {
		return reply{}, fmt.Errorf("%s job %s: the script answered %T, not a list", c.verb, c.id, value)
	}
	word, ok := parts[0].(string)
	if !ok {
		return reply{}, fmt.Errorf("%s job %s: the script answered a list of %T", c.verb, c.id, parts[0])
	}
	return reply{word: word, rest: parts[1:]}, nil
}

// Pending is the reply of a verb that travels in somebody else's pipeline.
type Pending[T any] struct {
	store  *Store
	call   call
	cmd    *redis.Cmd
	finish func(ctx context.Context, r reply) (T, error)
}

// Reply reads the reply once the pipeline has been executed. A script that the server did not know is run again
// here, in a round trip of its own.
func (p *Pending[T]) Reply(ctx context.Context) (T, error) {
	value, err := p.cmd.Result()
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		value, err = p.call.script.Run(ctx, p.store.pipe, p.call.keys, p.call.args...).Result()
	}
	answer, err := p.call.read(value, err)
	if err != nil {
		var none T
		return none, err
	}
	return p.finish(ctx, answer)
}

func pend[T any](ctx context.Context, s *Store, pipe redis.Cmdable, c call, finish func(context.Context, reply) (T, error)) *Pending[T] {
	return &Pending[T]{
		store: s, call: c, finish: finish,
		cmd: c.script.EvalSha(ctx, pipe, c.keys, c.args...),
	}
}
