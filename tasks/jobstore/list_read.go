package jobstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks"
)

// found is a job that a search has found.
type found struct {
	Row
	place place
	// calls is how many attempts its ledger has.
	calls int
}

// glanced are the fields that are read of every record: small ones. A result has an answer's text in it, and a job its
// prompt; both stay where they are.
var glanced = []string{
	"status", "task_type", "tenant", "priority", "run", "failures", "waiting", "last_error",
	"created_at", "started_at", "finished_at", "seq", "metadata", "member",
}

// readRows reads the records of members, and keeps what the filter means. A job that no longer stands where the index
// had it is met where it is now, and one without a record nowhere.
func (s *Store) readRows(ctx context.Context, members []member, filter Filter) ([]found, error) {
	if len(members) == 0 {
		return nil, nil
	}
	pipe := s.redis.Pipeline()
	reads := make([]*redis.SliceCmd, len(members))
	for i, m := range members {
		reads[i] = pipe.HMGet(ctx, s.keys.Job(m.id), glanced...)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, fmt.Errorf("read the records of %d jobs: %w", len(members), err)
	}
	var rows []found
	for i, m := range members {
		f := s.parseRow(m, reads[i].Val())
		if f.Status != "" && (m.set == anySet || indexOf(f.Status) == m.set) && filter.matchesGlance(&f.Row) {
			rows = append(rows, f)
		}
	}
	if err := s.readErrors(ctx, rows); err != nil {
		return nil, err
	}
	kept := rows[:0]
	for _, f := range rows {
		if filter.matchesError(&f.Row) {
			kept = append(kept, f)
		}
	}
	return kept, nil
}

// parseRow reads what was glanced at. What cannot be read is left empty: the record's reader names the field when
// somebody reads all of it.
func (s *Store) parseRow(m member, values []any) found {
	text := map[string]string{}
	for i, name := range glanced {
		if value, ok := values[i].(string); ok && value != "" {
			text[name] = value
		}
	}
	number := func(name string) int {
		value, _ := strconv.Atoi(text[name])
		return value
	}
	moment := func(name string) *time.Time {
		at, err := time.Parse(time.RFC3339, text[name])
		if err != nil {
			return nil
		}
		return &at
	}
	row := Row{
		ID: m.id, Status: tasks.Status(text["status"]), TaskType: text["task_type"], Tenant: text["tenant"],
		Priority: tasks.Priority(text["priority"]), Run: number("run"), Retries: number("failures"),
		CreatedAt: moment("created_at"), StartedAt: moment("started_at"), FinishedAt: moment("finished_at"),
	}
	if member := parseMembership(text["member"]); member != nil {
		row.Batch = member.Batch
	}
	_ = json.Unmarshal([]byte(text["waiting"]), &row.Waiting)
	metadata, _ := s.openField(m.id, fieldMetadata, text[fieldMetadata])
	_ = json.Unmarshal([]byte(metadata), &row.Metadata)
	row.Error = s.listedError(m.id, fieldLastError, text[fieldLastError], func(text []byte) (failure *tasks.Failure) {
		_ = json.Unmarshal(text, &failure)
		return failure
	})
	return found{Row: row, place: m.place, calls: number("seq")}
}

// listedError reads an error out of a field, without what a provider said: it may quote the prompt.
func (s *Store) listedError(id, field, text string, read func([]byte) *tasks.Failure) *tasks.Failure {
	opened, err := s.openField(id, field, text)
	if err != nil {
		return unreadable(field, err)
	}
	failure := read([]byte(opened))
	if failure != nil {
		failure.Detail = ""
	}
	return failure
}

// hasUnreadError tells that a job's error stands in its result.
func hasUnreadError(row *Row) bool { return row.Status.Ended() && row.Status != tasks.StatusSucceeded }

// readErrors reads why jobs have failed, from results in which there is no answer.
func (s *Store) readErrors(ctx context.Context, rows []found) error {
	pipe := s.redis.Pipeline()
	reads := map[int]*redis.StringCmd{}
	for i := range rows {
		if hasUnreadError(&rows[i].Row) {
			reads[i] = pipe.HGet(ctx, s.keys.Job(rows[i].ID), fieldResult)
		}
	}
	execute(ctx, pipe)
	for i, read := range reads {
		if err := read.Err(); err != nil && !errors.Is(err, redis.Nil) {
			return fmt.Errorf("read the result of job %s: %w", rows[i].ID, err)
		}
		rows[i].Error = s.listedError(rows[i].ID, fieldResult, read.Val(), func(text []byte) *tasks.Failure {
			var result struct {
				Error *tasks.Failure `json:"error"`
			}
			_ = json.Unmarshal(text, &result) // one that cannot be read is named by the record's reader
			return result.Error
		})
	}
	return nil
}

// readLedgers reads which calls were made for jobs, and what they cost.
func (s *Store) readLedgers(ctx context.Context, rows []found) error {
	pipe := s.redis.Pipeline()
	reads := map[int]*redis.SliceCmd{}
	for i, f := range rows {
		if f.calls <= 0 {
			continue
		}
		names := make([]string, f.calls)
		for call := range names {
			names[call] = ledgerPrefix + strconv.Itoa(call+1)
		}
		reads[i] = pipe.HMGet(ctx, s.keys.Job(f.ID), names...)
	}
	execute(ctx, pipe)
	for i, read := range reads {
		if err := read.Err(); err != nil {
			return fmt.Errorf("read the calls of job %s: %w", rows[i].ID, err)
		}
		row := &rows[i].Row
		for _, value := range read.Val() {
			text, _ := value.(string)
			var attempt tasks.Attempt
			if json.Unmarshal([]byte(text), &attempt) != nil {
				continue
			}
			row.Attempts++
			row.CostUSD += attempt.CostUSD
			row.Model, row.Endpoint, row.Region = attempt.Model, attempt.Endpoint, attempt.Region
		}
	}
	return nil
}
