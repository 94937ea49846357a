package asynqredis_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/forebay-queue/forebay/tasks/redistest"
	"github.com/forebay-queue/forebay/worker/internal/asynqredis"
)

// onBoth runs a test on the embedded and on a real Redis.
func onBoth(t *testing.T, test func(*testing.T, *redis.Client)) {
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		rdb, _ := redistest.Embedded(t)
		test(t, rdb)
	})
	t.Run("real", func(t *testing.T) {
		t.Parallel()
		rdb, _ := redistest.Real(t)
		test(t, rdb)
	})
}

// scripts runs claim.lua and putback.lua bare, for one queue.
type scripts struct {
	rdb   *redis.Client
	queue string
}

func (s scripts) key(name string) string { return "asynq:{" + s.queue + "}:" + name }

func (s scripts) enqueue(id string) {
	ctx := context.Background()
	s.rdb.HSet(ctx, s.key("t:"+id), "msg", "m"+id, "state", "pending", "pending_since", 1)
	s.rdb.LPush(ctx, s.key("pending"), id)
}

// enqueueInLane adds a task as asynq adds one to a group.
func (s scripts) enqueueInLane(lane, id string, arrived int64) {
	ctx := context.Background()
	s.rdb.HSet(ctx, s.key("t:"+id), "msg", "m"+id, "state", "aggregating", "group", lane)
	s.rdb.ZAdd(ctx, s.key("g:"+lane), redis.Z{Score: float64(arrived), Member: id})
	s.rdb.SAdd(ctx, s.key("groups"), lane)
}

func (s scripts) lane(name string) []string {
	return s.rdb.ZRange(context.Background(), s.key("g:"+name), 0, -1).Val()
}

// claim returns the verdict and the ids.
func (s scripts) claim(number int, expiry int64, most int, again bool) (string, []string, error) {
	reply, err := redis.NewScript(asynqredis.OwnSources[0]).Run(context.Background(), s.rdb,
		[]string{
			s.key("pending"), s.key("paused"), s.key("active"), s.key("lease"), s.key("forebay:claim:token"),
			s.key("groups"), s.key("forebay:turn"),
		},
		number, expiry, most, s.key("t:"), 60_000, again, s.key("g:")).Slice()
	if err != nil {
		return "", nil, err
	}
	ids := []string{}
	for i := 3; i < len(reply); i += 2 {
		if reply[i+1] != "m"+reply[i].(string) {
			return "", nil, fmt.Errorf("the message of %v is %v", reply[i], reply[i+1])
		}
		ids = append(ids, reply[i].(string))
	}
	return reply[0].(string), ids, nil
}

func (s scripts) putBack(expiry int64, ids []string) (int, error) {
	args := []any{expiry, s.key("t:")}
	for _, id := range ids {
		args = append(args, id)
	}
	return redis.NewScript(asynqredis.OwnSources[1]).Run(context.Background(), s.rdb,
		[]string{s.key("pending"), s.key("active"), s.key("lease")}, args...).Int()
}

func (s scripts) list(name string) []string {
	ids := s.rdb.LRange(context.Background(), s.key(name), 0, -1).Val()
	slices.Reverse(ids)
	return ids
}

func TestAClaimIsOneHoweverOftenItArrives(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, rdb *redis.Client) {
		s, soon := scripts{rdb: rdb, queue: "q"}, time.Now().Unix()+30
		for i := range 6 {
			s.enqueue(strconv.Itoa(i))
		}
		claim := func(number, most int, again bool) []string {
			verdict, ids, err := s.claim(number, soon, most, again)
			require.NoError(t, err)
			return append([]string{verdict}, ids...)
		}
		assert.Equal(t, []string{"claimed", "0", "1"}, claim(7, 2, false))
		assert.Equal(t, []string{"claimed", "0", "1"}, claim(7, 2, true), "asked again")
		assert.Equal(t, []string{"claimed", "2", "3"}, claim(8, 2, false))
		assert.Equal(t, []string{"late"}, claim(7, 2, false), "overtaken on its way")
		require.NoError(t, rdb.Set(t.Context(), s.key("paused"), 1, 0).Err())
		assert.Equal(t, []string{"paused"}, claim(9, 2, true), "asked again before the original arrives")
		require.NoError(t, rdb.Del(t.Context(), s.key("paused")).Err())
		assert.Equal(t, []string{"claimed"}, claim(9, 2, false), "the original takes nothing that nobody waits for")
		assert.Equal(t, []string{"4", "5"}, s.list("pending"))
		verdict, _, err := s.claim(10, time.Now().Unix()-1, 2, false)
		require.NoError(t, err)
		assert.Equal(t, "late", verdict, "its leases would have expired")
		ttl := rdb.PTTL(t.Context(), s.key("forebay:claim:token")).Val()
		assert.InDelta(t, time.Minute, ttl, float64(5*time.Second), "its memory expires by itself")
	})
}

// TestTheScriptsAgainstAModel runs random interleavings of what one client's claims, other workers and users do to a
// queue, and compares the lists with those of a plain model after each step.
func TestTheScriptsAgainstAModel(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, rdb *redis.Client) {
		round := 0
		rapid.Check(t, func(t *rapid.T) {
			round++
			ctx, s := context.Background(), scripts{rdb: rdb, queue: fmt.Sprint("q", round)}
			m := struct {
				pending, active []string // oldest first
				leases          map[string]int64
				paused          bool
				number          int
				expiry          int64
				last            []string
			}{leases: map[string]int64{}, expiry: time.Now().Unix() + 1000}
			enqueued := 0
			t.Repeat(map[string]func(*rapid.T){
				"enqueue": func(*rapid.T) {
					id := fmt.Sprint("id ", enqueued) // ids may hold anything
					enqueued++
					s.enqueue(id)
					m.pending = append(m.pending, id)
				},
				"pause": func(*rapid.T) {
					if m.paused = !m.paused; m.paused {
						rdb.Set(ctx, s.key("paused"), 1, 0)
					} else {
						rdb.Del(ctx, s.key("paused"))
					}
				},
				"claim": func(t *rapid.T) {
					m.number++
					m.expiry++
					most := rapid.IntRange(1, 4).Draw(t, "most")
					verdict, ids, err := s.claim(m.number, m.expiry, most, false)
					require.NoError(t, err)
					if m.paused {
						require.Equal(t, "paused", verdict)
						require.Empty(t, ids)
						m.number-- // nothing was remembered
						m.expiry--
						return
					}
					n := min(most, len(m.pending))
					require.Equal(t, append([]string{}, m.pending[:n]...), ids)
					for _, id := range ids {
						m.leases[id] = m.expiry
					}
					m.active, m.pending = append(m.active, ids...), m.pending[n:]
					if n > 0 {
						m.last = ids
					} else {
						m.number--
						m.expiry--
					}
				},
				"claim again": func(t *rapid.T) {
					if m.number == 0 {
						t.Skip("no claim yet")
					}
					verdict, ids, err := s.claim(m.number, m.expiry, 4, true)
					require.NoError(t, err)
					require.Equal(t, "claimed", verdict)
					mine := []string{}
					for _, id := range m.last {
						if m.leases[id] == m.expiry {
							mine = append(mine, id)
						}
					}
					require.Equal(t, mine, ids)
				},
				"late claim": func(t *rapid.T) {
					if m.number == 0 {
						t.Skip("no claim yet")
					}
					_, ids, err := s.claim(m.number-1, m.expiry, 4, false)
					require.NoError(t, err)
					require.Empty(t, ids)
				},
				"put back": func(t *rapid.T) {
					if len(m.active) == 0 {
						t.Skip("nothing claimed")
					}
					from := rapid.IntRange(0, len(m.last)).Draw(t, "from")
					ids := m.last[from:]
					given, err := s.putBack(m.expiry, ids)
					require.NoError(t, err)
					var mine []string
					for _, id := range ids {
						if m.leases[id] == m.expiry {
							mine = append(mine, id)
							delete(m.leases, id)
							m.active = slices.DeleteFunc(m.active, func(a string) bool { return a == id })
						}
					}
					require.Equal(t, len(mine), given)
					m.pending = append(mine, m.pending...)
				},
				"someone else": func(t *rapid.T) {
					if len(m.active) == 0 {
						t.Skip("nothing claimed")
					}
					id := rapid.SampledFrom(m.active).Draw(t, "id")
					m.leases[id] = m.expiry + 100_000
					rdb.ZAdd(ctx, s.key("lease"), redis.Z{Member: id, Score: float64(m.leases[id])})
				},
				"": func(t *rapid.T) {
					require.Equal(t, append([]string{}, m.pending...), s.list("pending"))
					require.ElementsMatch(t, m.active, s.list("active"))
					leases := map[string]int64{}
					for _, z := range rdb.ZRangeWithScores(ctx, s.key("lease"), 0, -1).Val() {
						leases[z.Member.(string)] = int64(z.Score)
					}
					require.Equal(t, m.leases, leases)
				},
			})
		})
	})
}
