package jobstore

import (
	"context"
	_ "embed" // for the script
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/batches"
)

var (
	//go:embed release.lua
	releaseSource string

	releaseScript = redis.NewScript(releaseSource)
)

// Batches are the batches that the jobs of this Store are members of.
func (s *Store) Batches() *batches.Store { return s.batches }

// Report tells all who are to be told of a job's end, if it has ended: its batch, its reply stream and its webhook. Every
// verb that ends a job does it; whoever finds a job ended does it again, for whoever ended it may have died before.
func (s *Store) Report(ctx context.Context, record *Record) error {
	if !record.Status.Ended() {
		return nil
	}
	if err := s.handOver(ctx, record); err != nil || record.Job.Member == nil {
		return err
	}
	return s.reportEnd(ctx, record, record.Status, record.Result())
}

// reportEnd tells the batch of a record's job, if it is a member of one, with what it has ended.
func (s *Store) reportEnd(ctx context.Context, record *Record, status tasks.Status, result tasks.Result) error {
	member := record.Job.Member
	if member == nil {
		return nil
	}
	report := batches.Report{Number: member.Number, Run: record.Run, State: stateOf(status), CostUSD: result.CostUSD}
	if runs := len(record.Previous); runs > 0 {
		report.CostUSD -= record.Previous[runs-1].CostUSD // a result has the cost of all runs
	}
	if usage := result.Usage; usage != nil {
		report.PromptTokens, report.CompletionTokens = int64(usage.PromptTokens), int64(usage.CompletionTokens)
	}
	return s.batches.Report(ctx, member.Batch, report)
}

// reportOpen tells the batch of a job, if it is a member of one, that it is run again.
func (s *Store) reportOpen(ctx context.Context, record *Record) error {
	member := record.Job.Member
	if member == nil {
		return nil
	}
	return s.batches.Report(ctx, member.Batch, batches.Report{Number: member.Number, Run: record.Run, State: batches.Open})
}

// stateOf is the state of a member whose job has ended.
func stateOf(end tasks.Status) batches.State {
	switch end {
	case tasks.StatusSucceeded:
		return batches.Succeeded
	case tasks.StatusFailed:
		return batches.Failed
	case tasks.StatusCancelled:
		return batches.Cancelled
	case tasks.StatusExpired:
		return batches.Expired
	case tasks.StatusQueued, tasks.StatusRunning, tasks.StatusRetrying:
	}
	return batches.Open
}

// membership is a job's place in a batch, as a record's field has it: "<batch> <number>".
func membership(member *tasks.Member) string {
	if member == nil {
		return ""
	}
	return member.Batch + " " + strconv.Itoa(member.Number)
}

func parseMembership(text string) *tasks.Member {
	batch, digits, found := strings.Cut(text, " ")
	number, err := strconv.Atoi(digits)
	if !found || err != nil {
		return nil
	}
	return &tasks.Member{Batch: batch, Number: number}
}

// GetMany reads records, in one round trip. Where there is none, or one that cannot be read, it is nil.
func (s *Store) GetMany(ctx context.Context, ids []string) ([]*Record, error) {
	pipe := s.redis.Pipeline()
	reads := make([]*redis.MapStringStringCmd, len(ids))
	for i, id := range ids {
		reads[i] = pipe.HGetAll(ctx, s.keys.Job(id))
	}
	execute(ctx, pipe)
	records, errs := make([]*Record, len(ids)), []error(nil)
	for i, id := range ids {
		fields, err := reads[i].Result()
		if err == nil && fields["status"] != "" {
			records[i], err = s.readRecord(id, fields)
		}
		if err != nil {
			records[i] = nil
		}
		errs = append(errs, err)
	}
	return records, errors.Join(errs...)
}

// Release has the records of jobs that have ended kept for so long from now on: those of a batch, once their answers are
// written somewhere else. Dead letters stay, and jobs that have not ended.
func (s *Store) Release(ctx context.Context, ids []string, keep time.Duration) error {
	if keep <= 0 {
		keep = DefaultRetention
	}
	pipe := s.redis.Pipeline()
	replies := make([]*Pending[struct{}], len(ids))
	for i, id := range ids {
		c := call{verb: "release", id: id, script: releaseScript, keys: []string{s.keys.Job(id)}, args: []any{milliseconds(keep)}}
		replies[i] = pend(ctx, s, pipe, c, func(context.Context, reply) (struct{}, error) { return struct{}{}, nil })
	}
	execute(ctx, pipe)
	var errs []error
	for _, reply := range replies {
		_, err := reply.Reply(ctx)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
