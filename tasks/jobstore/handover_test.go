package jobstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/webhooks"
)

// toTell is a job of whose end a reply stream and a webhook are told.
func (b bundle) toTell(t testing.TB, events ...string) (string, *Record) {
	t.Helper()
	job := b.job()
	job.Job.ReplyStream, job.Job.Webhook = "mine", &tasks.Webhook{URL: "https://example.com/hooks", Events: events}
	_, err := b.Create(t.Context(), job)
	require.NoError(t, err)
	record, err := b.Start(t.Context(), job.Job.ID, Delivery{ID: "d1", Worker: "w1", Run: 1})
	require.NoError(t, err)
	return job.Job.ID, record
}

// replies are the entries of the reply stream for a job.
func (b bundle) replies(t testing.TB, id string) []map[string]any {
	t.Helper()
	entries, err := b.client.XRange(t.Context(), b.Keys().Reply("default", "mine"), "-", "+").Result()
	require.NoError(t, err)
	var found []map[string]any
	for _, entry := range entries {
		if entry.Values["id"] == id {
			found = append(found, entry.Values)
		}
	}
	return found
}

func (b bundle) webhook(t testing.TB, id string, run int) *webhooks.Record {
	t.Helper()
	hook, err := b.Webhooks().Get(t.Context(), b.get(t, id).WebhookID(run), "default")
	if errors.Is(err, webhooks.ErrNotFound) {
		return nil
	}
	require.NoError(t, err)
	return hook
}

// committing is the commit of a success, with the record that says who is told.
func committing(id string, record *Record) Commit {
	commit := success(id, record.Run, nil)
	commit.Record = record
	return commit
}

func TestACommitTellsStreamAndWebhook(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t, ctx := b.t, b.t.Context()
		id, record := b.toTell(t)
		for range 2 { // the reply of the first may have been lost
			committed, err := b.Commit(ctx, committing(id, record))
			require.NoError(t, err)
			require.True(t, committed.Committed)
		}
		_, err := b.Cancel(ctx, id, "") // finds it ended, and looks whether it was told
		require.NoError(t, err)

		replies := b.replies(t, id)
		require.Len(t, replies, 1)
		require.Equal(t, "succeeded", replies[0]["status"])
		result, err := b.OpenReply(id, replies[0]["result"].(string))
		require.NoError(t, err)
		require.Equal(t, "short", result.Text)
		require.NotEmpty(t, result.Response)
		hook := b.webhook(t, id, 1)
		require.Equal(t, "job.succeeded", hook.Event)
		require.Equal(t, "https://example.com/hooks", hook.To.URL)
		require.Equal(t, time.Hour, hook.Keep)

		in, keep := b.placed(t, id)
		require.Equal(t, []string{indexEnded}, in)
		require.Negative(t, keep, "until it was delivered")
		require.NoError(t, b.WebhookTold(ctx, id, 1, hook.Keep))
		_, keep = b.placed(t, id)
		require.InDelta(t, time.Hour.Seconds(), keep.Seconds(), 5)
	})
}

func TestEveryEndIsTold(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t, ctx := b.t, b.t.Context()
		ends := map[string]func(id string, record *Record) error{
			"cancelled": func(id string, record *Record) error {
				_, err := b.GiveBack(ctx, id, 1, "d1", GiveBack{Status: tasks.StatusQueued})
				require.NoError(t, err)
				_, err = b.Cancel(ctx, id, "")
				return err
			},
			"expired": func(id string, record *Record) error {
				_, err := b.Reap(ctx, b.get(t, id), tasks.StatusExpired, tasks.Failure{Code: "deadline"}, time.Now())
				return err
			},
			"failed": func(id string, record *Record) error {
				commit := committing(id, record)
				commit.Status, commit.Response = tasks.StatusFailed, nil
				_, err := b.Commit(ctx, commit)
				return err
			},
		}
		for status, end := range ends {
			id, record := b.toTell(t)
			require.NoError(t, end(id, record))
			require.Len(t, b.replies(t, id), 1, status)
			require.Equal(t, status, b.replies(t, id)[0]["status"])
			require.Equal(t, "job."+status, b.webhook(t, id, 1).Event)
			require.NoError(t, b.WebhookTold(ctx, id, 1, time.Hour))
			_, keep := b.placed(t, id)
			require.Equal(t, status == "failed", keep < 0, "only a dead letter stays")
		}
	})
}

func TestOnlyWantedEventsAreTold(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t, ctx := b.t, b.t.Context()
		id, record := b.toTell(t, "job.failed")
		_, err := b.Commit(ctx, committing(id, record))
		require.NoError(t, err)
		require.Nil(t, b.webhook(t, id, 1))
		_, keep := b.placed(t, id)
		require.Positive(t, keep, "there is nothing to wait for")
	})
}

// A process that dies between a job's end and the telling leaves the job in the open set: whoever finds it there tells.
func TestWhatIsLeftUntoldIsToldByWhoeverFindsIt(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t, ctx := b.t, b.t.Context()
		id, record := b.toTell(t)
		c, err := b.commitCall(committing(id, record), time.Now())
		require.NoError(t, err)
		err = b.send(ctx, batched{call: c})().err // and no more
		require.NoError(t, err)
		require.Equal(t, []string{indexOpen}, b.inIndex(t, id))
		require.Empty(t, b.replies(t, id))

		require.NoError(t, b.MendIndex(ctx, id))
		require.Equal(t, []string{indexEnded}, b.inIndex(t, id))
		require.Len(t, b.replies(t, id), 1)
		require.NotNil(t, b.webhook(t, id, 1))
	})
}

// Redis goes away in the middle: the commit is repeated, and nothing is lost.
func TestACommitThatCannotTellIsRepeated(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t, ctx := b.t, b.t.Context()
		id, record := b.toTell(t)
		stream := b.Keys().Reply("default", "mine")
		require.NoError(t, b.client.Set(ctx, stream, "in the way", 0).Err())
		committed, err := b.Commit(ctx, committing(id, record))
		require.Error(t, err)
		require.True(t, committed.Committed)
		require.Contains(t, b.inIndex(t, id), indexOpen)
		require.NoError(t, b.client.Del(ctx, stream).Err())
		_, err = b.Commit(ctx, committing(id, record))
		require.NoError(t, err)
		require.Equal(t, []string{indexEnded}, b.inIndex(t, id))
		require.Len(t, b.replies(t, id), 1)
	})
}

// Every run has its own end, and its own webhook; that of the run before changes nothing any more.
func TestEveryRunIsTold(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t, ctx := b.t, b.t.Context()
		id, record := b.toTell(t)
		commit := committing(id, record)
		commit.Status, commit.Response = tasks.StatusFailed, nil
		c, err := b.commitCall(commit, time.Now())
		require.NoError(t, err)
		err = b.send(ctx, batched{call: c})().err // untold: the reopening does it
		require.NoError(t, err)

		_, err = b.Reopen(ctx, id)
		require.NoError(t, err)
		require.Len(t, b.replies(t, id), 1)
		require.Equal(t, "job.failed", b.webhook(t, id, 1).Event)
		require.NoError(t, b.WebhookTold(ctx, id, 1, time.Second))

		record, err = b.Start(ctx, id, Delivery{ID: "d2", Worker: "w1", Run: 2})
		require.NoError(t, err)
		commit = committing(id, record)
		commit.Delivery = "d2"
		_, err = b.Commit(ctx, commit)
		require.NoError(t, err)
		require.Len(t, b.replies(t, id), 2)
		require.Equal(t, "job.succeeded", b.webhook(t, id, 2).Event)
		require.NotEqual(t, b.webhook(t, id, 1).ID, b.webhook(t, id, 2).ID)
		_, keep := b.placed(t, id)
		require.Negative(t, keep, "the first webhook is not the second")
	})
}

func TestARefusedJobIsTold(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t, ctx := b.t, b.t.Context()
		refuse := func(id, url string) {
			refused, err := b.Refuse(ctx, Refusal{
				What: "entry " + id, Failure: tasks.Failure{Code: "invalid_job"},
				Job: tasks.Job{ID: id, Tenant: "default", ReplyStream: "mine", Webhook: &tasks.Webhook{URL: url}},
			})
			require.NoError(t, err)
			require.True(t, refused)
			require.Len(t, b.replies(t, id), 1)
			require.Equal(t, []string{indexDead}, b.inIndex(t, id))
		}
		refuse("bad-1", "https://example.com")
		require.Equal(t, "job.failed", b.webhook(t, "bad-1", 1).Event)
		require.NoError(t, b.WebhookTold(ctx, "bad-1", 1, time.Hour))
		_, keep := b.placed(t, "bad-1")
		require.Positive(t, keep)

		refuse("bad-2", strings.Repeat("x", 3000))
		require.Nil(t, b.webhook(t, "bad-2", 1), "it was perhaps refused for its webhook")
		_, keep = b.placed(t, "bad-2")
		require.Positive(t, keep)
	})
}

func TestReplyStreamsAreTrimmed(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t, ctx := b.t, b.t.Context()
		b.SetReplies(Replies{MaxLen: 100, MaxAge: time.Hour})
		stream := b.Keys().Reply("default", "mine")
		hour := time.Now().Add(-2 * time.Hour).UnixMilli()
		for range 300 {
			require.NoError(t, b.client.XAdd(ctx, &redis.XAddArgs{Stream: stream, ID: fmt.Sprintf("%d-*", hour), Values: []any{"id", "old"}}).Err())
		}
		id, record := b.toTell(t)
		_, err := b.Commit(ctx, committing(id, record))
		require.NoError(t, err)
		length, err := b.client.XLen(ctx, stream).Result()
		require.NoError(t, err)
		require.LessOrEqual(t, length, int64(201), "about as many, by whole nodes of 100 entries")
		require.Len(t, b.replies(t, id), 1)
		expires, err := b.client.PTTL(ctx, stream).Result()
		require.NoError(t, err)
		require.InDelta(t, time.Hour.Seconds(), expires.Seconds(), 5)
	})
}

// Nothing is read destructively: two groups each see all, and what a consumer has not acknowledged another one takes.
func TestReplyStreamsAreReadByGroups(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t, ctx := b.t, context.WithoutCancel(b.t.Context())
		id, record := b.toTell(t)
		_, err := b.Commit(ctx, committing(id, record))
		require.NoError(t, err)
		stream := b.Keys().Reply("default", "mine")
		for _, group := range []string{"billing", "search"} {
			require.NoError(t, b.client.XGroupCreate(ctx, stream, group, "0").Err())
			read, err := b.client.XReadGroup(ctx, &redis.XReadGroupArgs{Group: group, Consumer: "one", Streams: []string{stream, ">"}}).Result()
			require.NoError(t, err)
			require.Len(t, read[0].Messages, 1)
			taken, _, err := b.client.XAutoClaim(ctx, &redis.XAutoClaimArgs{Stream: stream, Group: group, Consumer: "two", Start: "0"}).Result()
			require.NoError(t, err)
			require.Equal(t, id, taken[0].Values["id"])
		}
	})
}
