package command

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
)

const (
	// unasked is how many things are changed by a filter without --yes.
	unasked = 100
	// changesAtOnce is how many are changed at a time.
	changesAtOnce = 32
	// progressEvery is how often it is said how far a change of many has come.
	progressEvery = 2 * time.Second
	// toldProblems is how many different ones' errors are told.
	toldProblems = 5
)

// item is one of the things that a command changes, a job or a webhook. Run is the one that was listed; 0 is any.
type item struct {
	id  string
	run int
}

// many is what a command does with several things.
type many struct {
	// noun is what they are called, done what has been done with them: "job", "reopened".
	noun, done string
	// one does it to one of them.
	one func(ctx context.Context, of item) error
	// overtaken tells of an error that somebody else was faster.
	overtaken func(err error) bool
}

// chosen are those that a filter means.
type chosen struct {
	// items are they, up to the limit that was asked for, if any.
	items func(ctx context.Context) iter.Seq2[item, error]
	// all is what they are where nothing narrows the filter: "jobs that are failed"; else it is empty.
	all string
	// look is the command that shows them.
	look string
}

// manyFlags are the flags of commands that change what a filter means.
type manyFlags struct {
	yes, dryRun bool
	limit       int
}

func (f *manyFlags) add(cmd *cobra.Command, noun, wide string) {
	cmd.Flags().BoolVar(&f.yes, "yes", false, fmt.Sprintf("do it to more than %d %ss, or %s", unasked, noun, wide))
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "list the "+noun+"s and change nothing")
	cmd.Flags().IntVar(&f.limit, "limit", 0, "how many at most (default: all)")
	cmd.Args = cobra.ArbitraryArgs
}

// check refuses ids beside a filter, and neither of both.
func (f *manyFlags) check(cmd *cobra.Command, noun, example string, ids []string, filtered bool) error {
	switch {
	case len(ids) > 0 && (filtered || f.limit != 0 || f.dryRun):
		return refuseUsage(cmd, "give the ids of %ss, or a filter, not both; --limit and --dry-run belong to a filter", noun)
	case len(ids) == 0 && !filtered:
		return refuseUsage(cmd, "give the ids of %ss, or which are meant, such as %s", noun, example)
	case f.limit < 0:
		return refuseUsage(cmd, "--limit must be at least 1")
	}
	return nil
}

// upTo ends a sequence after so many; 0 is none.
func upTo[T any](limit int, all iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		given := 0
		for one, err := range all {
			if limit > 0 && given == limit || !yield(one, err) {
				return
			}
			given++
		}
	}
}

// manyReply is what they print with --json: {"jobs":1,"left_alone":0,"failed":0}.
type manyReply struct {
	noun              string
	changed           int
	leftAlone, failed int
	dryRun            bool
}

// MarshalJSON implements json.Marshaler.
func (r manyReply) MarshalJSON() ([]byte, error) {
	dry := ""
	if r.dryRun {
		dry = `,"dry_run":true`
	}
	return fmt.Appendf(nil, `{"%ss":%d,"left_alone":%d,"failed":%d%s}`, r.noun, r.changed, r.leftAlone, r.failed, dry), nil
}

// named changes those whose ids are given. Each that cannot be is told with its reason.
func (m many) named(cmd *cobra.Command, ids []string) error {
	var problems []error
	changed := 0
	for _, id := range ids {
		if err := m.one(cmd.Context(), item{id: id}); err != nil {
			problems = append(problems, err)
			continue
		}
		changed++
		if !wantsJSON(cmd) {
			fmt.Fprintf(cmd.OutOrStdout(), "%s %s is %s\n", m.noun, id, m.done)
		}
	}
	if wantsJSON(cmd) {
		problems = append(problems, printJSON(cmd, manyReply{noun: m.noun, changed: changed, failed: len(problems)}))
	}
	return errors.Join(problems...)
}

// few refuses to go on without --yes where many were chosen, or everything.
func (m many) few(cmd *cobra.Command, of chosen) error {
	look := fmt.Sprintf("look at them with `%s` and repeat it with --yes", of.look)
	if of.all != "" {
		return fmt.Errorf("all %s would be %s; %s", of.all, m.done, look)
	}
	found := 0
	for _, err := range of.items(cmd.Context()) {
		if err != nil {
			return err
		}
		if found++; found > unasked {
			return fmt.Errorf("more than %d %ss would be %s; %s", unasked, m.noun, m.done, look)
		}
	}
	return nil
}

// progress counts what a change of many has come to.
type progress struct {
	many
	mu       sync.Mutex
	reply    manyReply
	problems []error
}

func (p *progress) note(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err == nil:
		p.reply.changed++
	case p.overtaken(err):
		p.reply.leftAlone++
	default:
		if p.reply.failed++; len(p.problems) < toldProblems {
			p.problems = append(p.problems, err)
		}
	}
}

func (p *progress) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	text := fmt.Sprintf("%s %s", plural(p.reply.changed, p.noun), p.done)
	if p.reply.leftAlone > 0 {
		text += fmt.Sprintf(", %d left alone, as others have changed them meanwhile", p.reply.leftAlone)
	}
	if p.reply.failed > 0 {
		text += fmt.Sprintf(", %d could not be", p.reply.failed)
	}
	return text
}

// tell says every now and then how far it has come, until the returned function is called.
func (p *progress) tell(ctx context.Context, cmd *cobra.Command) (stop func()) {
	told := make(chan struct{})
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer close(told)
		ticker := time.NewTicker(progressEvery)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				fmt.Fprintln(cmd.ErrOrStderr(), "forebay:", p.text()+" so far")
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() {
		cancel()
		<-told
	}
}

// change changes what was chosen.
func (m many) change(cmd *cobra.Command, of chosen) error {
	p := progress{many: m, reply: manyReply{noun: m.noun}}
	ctx := cmd.Context()
	stop := p.tell(ctx, cmd)
	var group errgroup.Group
	group.SetLimit(changesAtOnce)
	var failed error
	for one, err := range of.items(ctx) {
		if err == nil {
			err = ctx.Err() // what a signal has ended begins no further one
		}
		if err != nil {
			failed = err
			break
		}
		group.Go(func() error {
			p.note(m.one(context.WithoutCancel(ctx), one))
			return nil
		})
	}
	_ = group.Wait() // errors are noted
	stop()
	var err error
	if wantsJSON(cmd) {
		err = printJSON(cmd, p.reply)
	} else {
		_, err = fmt.Fprintln(cmd.OutOrStdout(), p.text())
	}
	if ctx.Err() != nil {
		failed = errors.New("interrupted; the same command goes on with the others")
	}
	return errors.Join(append(p.problems, failed, err)...)
}
