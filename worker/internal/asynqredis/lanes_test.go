package asynqredis_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/forebay-queue/forebay/tasks/envelope"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

// laneModel is what claim.lua and nudge.lua are to do, one task at a time.
type laneModel struct {
	pending []string            // oldest first
	lanes   map[string][]string // without empty ones
	turn    string
}

// next is the source whose turn it is, of those that have work.
func (m *laneModel) next() (string, bool) {
	var names []string
	if len(m.pending) > 0 {
		names = append(names, "")
	}
	names = append(names, slices.Sorted(maps.Keys(m.lanes))...)
	for _, name := range names {
		if name > m.turn {
			return name, true
		}
	}
	if len(names) > 0 {
		return names[0], true
	}
	return "", false
}

func (m *laneModel) pop(lane string) string {
	id := m.lanes[lane][0]
	if m.lanes[lane] = m.lanes[lane][1:]; len(m.lanes[lane]) == 0 {
		delete(m.lanes, lane)
	}
	m.turn = lane
	return id
}

func (m *laneModel) nudge() {
	if len(m.pending) == 0 {
		if lane, found := m.next(); found {
			m.pending = []string{m.pop(lane)}
		}
	}
}

func (m *laneModel) claim(most int) []string {
	var ids []string
	had := len(m.lanes) > 0
	for len(ids) < most {
		source, found := m.next()
		if !found {
			break
		}
		if source == "" {
			ids = append(ids, m.pending[0])
			m.pending = m.pending[1:]
			if had {
				m.turn = ""
			}
			continue
		}
		ids = append(ids, m.pop(source))
	}
	if had {
		m.nudge()
		if len(m.lanes) == 0 {
			m.turn = ""
		}
	}
	return ids
}

// TestLanesAgainstAModel compares claims from several lanes with a model that takes one task at a time.
func TestLanesAgainstAModel(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, rdb *redis.Client) {
		round := 0
		rapid.Check(t, func(t *rapid.T) {
			round++
			ctx, s := context.Background(), scripts{rdb: rdb, queue: fmt.Sprint("q", round)}
			m, made, number := laneModel{lanes: map[string][]string{}}, 0, 0
			active := map[string]bool{}
			t.Repeat(map[string]func(*rapid.T){
				"enqueue": func(t *rapid.T) {
					for range rapid.IntRange(1, 4).Draw(t, "tasks") {
						made++
						id := fmt.Sprintf("id %05d", made)
						s.enqueue(id)
						m.pending = append(m.pending, id)
					}
				},
				"enqueue into a lane": func(t *rapid.T) {
					lane := rapid.SampledFrom([]string{"a", "b", "B-2", "c.c", "0"}).Draw(t, "lane")
					for range rapid.IntRange(1, 12).Draw(t, "tasks") {
						made++
						id := fmt.Sprintf("id %05d", made)
						s.enqueueInLane(lane, id, int64(made/7)) // of the same second it is the id's order
						m.lanes[lane] = append(m.lanes[lane], id)
					}
				},
				"nudge": func(t *rapid.T) {
					require.NoError(t, envelope.Nudge(ctx, rdb, s.queue))
					m.nudge()
				},
				"a lane is deleted in a console": func(t *rapid.T) {
					lane := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "lane")
					rdb.SAdd(ctx, "asynq:queues", s.queue)
					_, err := asynq.NewInspectorFromRedisClient(rdb).DeleteAllAggregatingTasks(s.queue, lane)
					require.NoError(t, err)
					delete(m.lanes, lane)
				},
				"claim": func(t *rapid.T) {
					number++
					most := rapid.IntRange(1, 20).Draw(t, "most")
					verdict, ids, err := s.claim(number, time.Now().Unix()+1000, most, false)
					require.NoError(t, err)
					require.Equal(t, "claimed", verdict)
					require.ElementsMatch(t, m.claim(most), ids)
					for _, id := range ids {
						require.False(t, active[id], "claimed twice")
						active[id] = true
						require.Equal(t, "active", rdb.HGet(ctx, s.key("t:"+id), "state").Val())
					}
				},
				"": func(t *rapid.T) {
					require.Equal(t, append([]string{}, m.pending...), s.list("pending"))
					for _, lane := range []string{"a", "b", "B-2", "c.c", "0"} {
						require.Equal(t, append([]string{}, m.lanes[lane]...), s.lane(lane), lane)
					}
					require.ElementsMatch(t, slices.Collect(maps.Keys(m.lanes)), rdb.SMembers(ctx, s.key("groups")).Val())
					require.ElementsMatch(t, slices.Collect(maps.Keys(active)), s.list("active"))
					require.EqualValues(t, len(active), rdb.ZCard(ctx, s.key("lease")).Val())
				},
			})
		})
	})
}

// TestABatchKeepsNobodyWaiting has 5,000 tasks of one tenant in their lane, and then another tenant's single job and
// batch of ten. Each source has the same share, however few are claimed at a time.
func TestABatchKeepsNobodyWaiting(t *testing.T) {
	t.Parallel()
	for _, most := range []int{1, 7, 64} {
		t.Run(fmt.Sprint(most, " at a time"), func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(t *testing.T, rdb *redis.Client) {
				ctx, s := t.Context(), scripts{rdb: rdb, queue: "q"}
				const tasks = 5000
				_, err := rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
					for i := range tasks {
						id := fmt.Sprintf("a-%04d", i)
						pipe.HSet(ctx, s.key("t:"+id), "msg", "m"+id, "state", "aggregating", "group", "a")
						pipe.ZAdd(ctx, s.key("g:a"), redis.Z{Score: 1, Member: id})
					}
					return pipe.SAdd(ctx, s.key("groups"), "a").Err()
				})
				require.NoError(t, err)
				require.NoError(t, envelope.Nudge(ctx, rdb, s.queue))
				s.enqueue("single of b")
				for i := range 10 {
					s.enqueueInLane("b", fmt.Sprintf("b-%d", i), 2)
				}
				var order []string
				for number := 1; len(order) < 64; number++ {
					_, ids, err := s.claim(number, time.Now().Unix()+1000, most, false)
					require.NoError(t, err)
					require.Len(t, ids, most, "as many as are asked for, while there are some")
					order = append(order, ids...)
				}
				// Of 64, a third each: pending's next and single, ten of b, the others of a.
				first := order[:len(order)/most*most]
				assert.Contains(t, first, "single of b")
				for i := range 10 {
					assert.Contains(t, first, fmt.Sprintf("b-%d", i))
				}
				if most == 1 {
					assert.Contains(t, order[:6], "single of b", "after pending's one from a's lane")
					assert.Contains(t, order[:33], "b-9")
				}
				var own []string
				for _, id := range order {
					if strings.HasPrefix(id, "a-") {
						own = append(own, id)
					}
				}
				assert.True(t, slices.IsSorted(own), "in the order of arrival: %v", own)
			})
		})
	}
}

// TestLanesShareAlike claims from lanes that always have work: in the end each had the same share, as had pending.
func TestLanesShareAlike(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, rdb *redis.Client) {
		s := scripts{rdb: rdb, queue: "q"}
		for i := range 300 {
			for _, lane := range []string{"a", "b", "c"} {
				s.enqueueInLane(lane, fmt.Sprintf("%s %03d", lane, i), 1)
			}
			s.enqueue(fmt.Sprintf("p %03d", i))
		}
		share := map[string]int{}
		for number := 1; number <= 130; number++ {
			_, ids, err := s.claim(number, time.Now().Unix()+1000, 1+number%9, false)
			require.NoError(t, err)
			for _, id := range ids {
				share[id[:1]]++
			}
		}
		for _, taken := range share {
			assert.InDelta(t, share["p"], taken, 1, "%v", share)
		}
		assert.Greater(t, share["p"], 150)
	})
}

// enqueueIn adds tasks to a lane, as a producer does, but for the nudge.
func (w *worker) enqueueIn(lane string, ids ...string) {
	w.t.Helper()
	for _, id := range ids {
		_, err := w.queue.Enqueue(asynq.NewTask("work", []byte(id)), asynq.TaskID(id), asynq.MaxRetry(1000), asynq.Group(lane))
		require.NoError(w.t, err)
	}
}

func TestALaneWakesAnIdleQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rdb, _ := redistest.InBubble(t)
		called := make(chan time.Time, 10)
		w := newWorker(t, rdb, 2).serve(func(context.Context, *asynq.Task) error { called <- time.Now(); return nil })
		time.Sleep(3 * time.Second)
		w.enqueueIn("a", "1")
		require.NoError(t, envelope.Nudge(t.Context(), rdb, "default"))
		enqueued := time.Now()
		require.Less(t, (<-called).Sub(enqueued), 5*time.Millisecond)

		time.Sleep(3 * time.Second)
		w.enqueueIn("a", "2", "3", "4")
		enqueued = time.Now()
		for range 3 {
			require.Less(t, (<-called).Sub(enqueued), 1100*time.Millisecond, "its producer has died before the nudge")
		}

		time.Sleep(3 * time.Second)
		require.NoError(t, asynq.NewInspectorFromRedisClient(rdb).PauseQueue("default"))
		w.enqueueIn("a", "5", "6")
		require.NoError(t, envelope.Nudge(t.Context(), rdb, "default"))
		time.Sleep(5 * time.Second)
		require.Empty(t, called, "the queue is paused")
		require.NoError(t, asynq.NewInspectorFromRedisClient(rdb).UnpauseQueue("default"))
		<-called
		<-called
		w.shutdown()
		assert.True(t, w.idle())
		assert.Zero(t, rdb.Exists(t.Context(), key("groups"), key("g:a"), key("forebay:turn")).Val(), "nothing is left behind")
	})
}

func TestARetryGoesBackToItsLane(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rdb, _ := redistest.InBubble(t)
		seen := &record{}
		w := newWorker(t, rdb, 1)
		failed := false
		handler := func(ctx context.Context, task *asynq.Task) error {
			_ = seen.handler(ctx, task)
			if string(task.Payload()) == "a-1" && !failed {
				failed = true
				return asynq.ErrLeaseExpired // any error
			}
			time.Sleep(3 * time.Second)
			return nil
		}
		w.enqueueIn("a", "a-1", "a-2", "a-3", "a-4")
		w.enqueueIn("b", "b-1", "b-2", "b-3", "b-4")
		w.serve(handler, func(c *asynq.Config) {
			c.RetryDelayFunc = func(int, error, *asynq.Task) time.Duration { return time.Second }
		})
		time.Sleep(8 * time.Second)
		info, err := asynq.NewInspectorFromRedisClient(rdb).GetTaskInfo("default", "a-1")
		require.NoError(t, err)
		assert.Equal(t, asynq.TaskStateAggregating, info.State)
		time.Sleep(40 * time.Second)
		order := strings.Join(seen.all(), " ")
		assert.Equal(t, "b-1 a-1 b-2 a-2 b-3 a-3 b-4 a-4 a-1", order, "a-1 was moved to pending, so it is b's turn")
		w.shutdown()
		assert.True(t, w.idle())
	})
}

func TestAnEmptyLaneIsNamedAgainByARetry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rdb, _ := redistest.InBubble(t)
		seen := &record{}
		w := newWorker(t, rdb, 1)
		w.enqueueIn("a", "1")
		w.serve(func(ctx context.Context, task *asynq.Task) error {
			if _ = seen.handler(ctx, task); len(seen.all()) < 3 {
				return asynq.ErrLeaseExpired // any error
			}
			return nil
		}, func(c *asynq.Config) {
			c.RetryDelayFunc = func(int, error, *asynq.Task) time.Duration { return 10 * time.Second }
		})
		time.Sleep(2 * time.Second)
		require.Zero(t, rdb.Exists(t.Context(), key("groups")).Val())
		time.Sleep(25 * time.Second)
		assert.Equal(t, []string{"1", "1", "1"}, seen.all())
		w.shutdown()
		assert.True(t, w.idle())
	})
}

func TestWhatWasClaimedFromALaneIsPutBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rdb, _ := redistest.InBubble(t)
		w := newWorker(t, rdb, 4)
		w.enqueueIn("a", "a-1", "a-2", "a-3", "a-4", "a-5", "a-6")
		require.NoError(t, envelope.Nudge(t.Context(), rdb, "default"))
		require.Equal(t, "a-1", w.dequeue())
		w.client.Stop()
		assert.Equal(t, []string{"a-2", "a-3", "a-4", "a-5"}, w.list("pending"), "its next, in their order")
		assert.Equal(t, []string{"a-1"}, w.list("active"))
		assert.Equal(t, []string{"a-6"}, rdb.ZRange(t.Context(), key("g:a"), 0, -1).Val())
		assert.Equal(t, "pending", rdb.HGet(t.Context(), key("t:a-2"), "state").Val())
	})
}

// A cluster refuses a script whose keys lie in several slots.
func TestLanesOnACluster(t *testing.T) {
	t.Parallel()
	cluster, _ := redistest.Cluster(t)
	w := newWorker(t, cluster, 8)
	w.enqueueIn("a", "a-1", "a-2", "a-3", "a-4", "a-5", "a-6")
	w.enqueueIn("b", "b-1")
	require.NoError(t, envelope.Nudge(t.Context(), cluster, "default"))
	var ids []string
	for range 7 {
		ids = append(ids, w.dequeue())
	}
	require.ElementsMatch(t, []string{"a-1", "b-1", "a-2", "a-3", "a-4", "a-5", "a-6"}, ids)
	w.client.Stop()
}

// The header of every script is its contract, and the body keeps to it.
func TestScriptsKeepTheirForm(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.lua")
	require.NoError(t, err)
	require.Len(t, files, 6)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		header, body, found := strings.Cut(string(text), "\n\n")
		require.True(t, found, file)
		assert.True(t, strings.HasPrefix(header, "-- "+strings.TrimSuffix(file, ".lua")+": "), file)
		for _, part := range []string{"KEYS[1]", "ARGV[1]", "RETURNS", "CLOCK", "WRITES"} {
			assert.Contains(t, header, "-- "+part, file)
		}
		aliased := regexp.MustCompile(`(?:KEYS|ARGV)\[\d+\]`)
		for _, name := range aliased.FindAllString(body, -1) {
			assert.Contains(t, header, name, "%s: not in the header", file)
		}
		for line := range strings.SplitSeq(body, "\n") {
			if aliased.MatchString(line) {
				assert.True(t, strings.HasPrefix(line, "local "), "%s: stands bare in %q", file, line)
			}
		}
	}
}
