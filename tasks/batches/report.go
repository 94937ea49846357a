package batches

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// mostReports bounds the reports of one script: everybody else waits for it.
const mostReports = 256

// lastRun is the last run of a member whose reports count.
const lastRun = 255

// Report says how a member stands.
type Report struct {
	// Number is the member's.
	Number int
	// Run is the run of its job, from 1; 0 is for a member that was never enqueued.
	Run   int
	State State
	// CostUSD is what this run cost, and the tokens are those of its answer.
	CostUSD                        float64
	PromptTokens, CompletionTokens int64
}

// Report counts what has become of a member. Each state of a run counts once. Reports of concurrent callers travel
// together. A batch that is no longer known is no error: there is nothing to count.
func (s *Store) Report(ctx context.Context, batch string, report Report) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("report member %d of batch %s: %w", report.Number, batch, err)
	}
	if _, err := s.reports.Ask(batch, report); err != nil {
		return err
	}
	return nil
}

// ReportMany is Report for many members of one batch.
func (s *Store) ReportMany(ctx context.Context, batch string, reports []Report) error {
	for len(reports) > 0 {
		count := min(len(reports), mostReports)
		if err := s.report(ctx, batch, reports[:count]); err != nil {
			return err
		}
		reports = reports[count:]
	}
	return nil
}

// reportTogether is bounded by the client's timeouts.
func (s *Store) reportTogether(batch string, reports []Report) ([]struct{}, error) {
	return make([]struct{}, len(reports)), s.report(context.Background(), batch, reports)
}

func (s *Store) report(ctx context.Context, batch string, reports []Report) error {
	var deadline int64
	for _, r := range reports {
		if r.State == Open {
			var err error
			if deadline, err = s.nextDeadline(ctx, batch); err != nil {
				return err
			}
			break
		}
	}
	args := make([]any, 0, 2+6*len(reports))
	args = append(args, Kept.Milliseconds(), deadline)
	for _, r := range reports {
		args = append(args, r.Number, min(r.Run, lastRun), string(rune(r.State)), nanoUSD(r.CostUSD), r.PromptTokens, r.CompletionTokens)
	}
	words, err := s.run(ctx, "report to", batch, reportScript,
		[]string{s.keys.Batch(batch), s.keys.BatchMembers(batch), s.keys.BatchDone(batch)}, args...)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil
	case err != nil:
		return err
	case words[2] == "opened":
		return s.reopened(ctx, batch)
	case words[2] == "ended":
		return s.Tell(ctx, batch)
	}
	return nil
}

// NeverEnqueued reads which members were counted as ended although they were never enqueued.
func (s *Store) NeverEnqueued(ctx context.Context, id string) ([]int, error) {
	text, err := s.redis.Get(ctx, s.keys.BatchMembers(id)).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, fmt.Errorf("read the members of batch %s: %w", id, err)
	}
	var numbers []int
	for at := 0; at+1 < len(text); at += 2 {
		if State(text[at]).Ended() && text[at+1] == 0 {
			numbers = append(numbers, at/2)
		}
	}
	return numbers, nil
}

// Members reads how each member stands, as far as was reported: one State for each of the batch's Total.
func (s *Store) Members(ctx context.Context, id string) ([]State, error) {
	pipe := s.redis.Pipeline()
	total := pipe.HGet(ctx, s.keys.Batch(id), "total")
	members := pipe.Get(ctx, s.keys.BatchMembers(id))
	if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		return nil, fmt.Errorf("read the members of batch %s: %w", id, err)
	}
	count, err := total.Int()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read batch %s: field total: %w", id, err)
	}
	text := members.Val()
	states := make([]State, count)
	for i := range states {
		if 2*i < len(text) {
			states[i] = State(text[2*i])
		}
	}
	return states, nil
}
