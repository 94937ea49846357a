package reconciler

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/batches"
	"github.com/forebay-queue/forebay/tasks/jobstore"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

// sample is one task in an arbitrary state, and the job behind it.
type sample struct {
	id                                                                     string
	pending, active                                                        int // how often it stands there
	leased, scheduled, retry, archived, completed, hash, message, readable bool
	member, lane, named, group                                             bool
	state, record, worker                                                  string
}

// laneOfMembers is the tenant of the members among the samples.
const laneOfMembers = "a"

func drawSample(t *rapid.T, i int) sample {
	bit := func(name string, percent int) bool { return rapid.IntRange(0, 99).Draw(t, name) < percent }
	s := sample{
		id:      fmt.Sprintf("task-%d", i),
		pending: rapid.SampledFrom([]int{0, 0, 0, 1, 2}).Draw(t, "pending"),
		active:  rapid.SampledFrom([]int{0, 0, 1, 1, 2}).Draw(t, "active"),
		leased:  bit("leased", 50), scheduled: bit("scheduled", 10), retry: bit("retry", 10), archived: bit("archived", 10),
		completed: bit("completed", 10), hash: bit("hash", 90), message: bit("message", 90), readable: bit("readable", 90),
		member: bit("member", 50), lane: bit("lane", 30), named: bit("named", 90), group: bit("group", 80),
		state:  rapid.SampledFrom([]string{"aggregating", "pending", "active", "active", "scheduled", "retry", "archived", "completed"}).Draw(t, "state"),
		record: rapid.SampledFrom([]string{"none", "queued", "queued", "running", "running", "ended"}).Draw(t, "record"),
		worker: rapid.SampledFrom([]string{"living", "dead"}).Draw(t, "worker"),
	}
	return s
}

// make writes the sample into Redis.
func (s sample) make(b *bench) {
	ctx, k := b.t.Context(), b.bulk.keys
	var sound string
	id := b.record(func(job *tasks.Job) {
		if job.ID = s.id; s.member {
			job.Tenant, job.Member = laneOfMembers, &tasks.Member{Batch: batches.NewID()}
		}
	})
	if made, err := b.messages.of(b.store.Keys(), b.get(id)); err == nil {
		sound = string(made.msg)
	}
	switch s.record {
	case "none":
		b.redis.Del(ctx, b.store.Keys().Job(id))
	case "running":
		b.start(id, s.worker)
	case "ended":
		_, err := b.store.Commit(ctx, jobstore.Commit{ID: id, Run: 1, Status: tasks.StatusSucceeded})
		require.NoError(b.t, err)
	}
	for range s.pending {
		b.redis.LPush(ctx, k.pending, id)
	}
	for range s.active {
		b.redis.LPush(ctx, k.active, id)
	}
	for key, there := range map[string]bool{
		k.lease: s.leased, k.scheduled: s.scheduled, k.retry: s.retry, k.archived: s.archived, k.completed: s.completed,
	} {
		if there {
			b.redis.ZAdd(ctx, key, redis.Z{Score: float64(time.Now().Add(time.Hour).Unix()), Member: id})
		}
	}
	// Only members are ever put into lanes.
	if s.lane && s.member {
		b.redis.ZAdd(ctx, k.lanes.Prefix+laneOfMembers, redis.Z{Score: 1, Member: id})
	}
	if s.lane && s.member && s.named {
		b.redis.SAdd(ctx, k.lanes.Groups, laneOfMembers)
	}
	if !s.hash {
		return
	}
	if s.group && s.member {
		b.redis.HSet(ctx, k.tasks+id, "group", laneOfMembers)
	}
	b.redis.HSet(ctx, k.tasks+id, "state", s.state)
	switch {
	case s.message && s.readable:
		b.redis.HSet(ctx, k.tasks+id, "msg", sound)
	case s.message:
		b.redis.HSet(ctx, k.tasks+id, "msg", "\xff"+s.id)
	}
}

// healthy tells that the task is well and with a living worker.
func (s sample) healthy() bool {
	return s.active == 1 && s.pending == 0 && s.leased && !s.scheduled && !s.retry && !s.archived && !s.completed && !(s.lane && s.member) &&
		s.hash && s.message && s.readable && s.state == "active" && s.record == "running" && s.worker == "living"
}

func (s sample) open() bool { return s.record == "queued" || s.record == "running" }

// beat is a second of the living: their workers prolong the leases of what is active.
func (b *bench) beat(samples []sample, tick int) {
	b.alive("living")
	for _, s := range samples {
		if s.worker == "living" && s.record == "running" && s.active > 0 {
			b.redis.ZAddXX(b.t.Context(), b.bulk.keys.lease,
				redis.Z{Score: float64(time.Now().Add(time.Hour).Unix() + int64(tick)), Member: s.id})
		}
	}
}

// Whatever a queue is left in: in the end every open job's task stands in one place, from which it is delivered once,
// or the job has an end; what was well is untouched, and nothing more is mended.
func TestAnyStateIsMended(t *testing.T) {
	t.Parallel()
	client, _ := redistest.Real(t)
	rapid.Check(t, func(r *rapid.T) {
		require.NoError(t, client.FlushAll(t.Context()).Err())
		b := newBench(t, client)
		samples := make([]sample, rapid.IntRange(1, 6).Draw(r, "tasks"))
		for i := range samples {
			samples[i] = drawSample(r, i)
			samples[i].make(b)
		}
		var before []string
		for _, s := range samples {
			before = append(before, b.places(s.id))
		}
		for tick := range 8 {
			b.beat(samples, tick)
			b.full()
			b.later(deadAfter)
		}
		b.later(missingFor)
		b.beat(samples, 8)
		b.full()
		for i, s := range samples {
			after := b.places(s.id)
			place, _, _ := strings.Cut(after, "(")
			if s.healthy() && after != before[i] {
				r.Fatalf("a healthy task was touched: %s became %s\n%s", before[i], after, b.logs)
			}
			switch place {
			case "pending", "active+leased", "scheduled", "retry", "lane " + laneOfMembers:
				// What is wrong only in the hash's own word for it is mended for open jobs.
				state := strings.Replace(strings.TrimSuffix(place, "+leased"), "lane "+laneOfMembers, "aggregating", 1)
				if s.open() && after != place+"("+state+")" {
					r.Fatalf("%+v: %s became %s\n%s", s, before[i], after, b.logs)
				}
			case "", "archived", "completed":
				record, err := b.store.Get(t.Context(), s.id)
				running := err == nil && record.Status == tasks.StatusRunning && s.worker == "living"
				if err == nil && !record.Status.Ended() && !running {
					r.Fatalf("%+v: an open job has no task: %s became %s\n%s", s, before[i], after, b.logs)
				}
			default:
				r.Fatalf("%+v stands in several places: %s became %s\n%s", s, before[i], after, b.logs)
			}
		}
		said := b.logs.String()
		b.beat(samples, 9)
		b.full()
		if b.logs.String() != said {
			r.Fatalf("mended again:\n%s", strings.TrimPrefix(b.logs.String(), said))
		}
	})
}
