package slots

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestAQueueAloneUsesEverySlot(t *testing.T) {
	t.Parallel()
	pool := New(10)
	pool.Queue("critical", 6)
	bulk := pool.Queue("bulk", 1)

	n, err := bulk.Acquire(t.Context(), 64)
	require.NoError(t, err)
	assert.Equal(t, 10, n)
	assert.Zero(t, bulk.TryAcquire(1))

	bulk.Release(3)
	assert.Equal(t, 3, bulk.TryAcquire(5))
	assert.Equal(t, Stats{Size: 10, Busy: 10, Lanes: []LaneStats{
		{Name: "critical", Weight: 6}, {Name: "bulk", Weight: 1, Busy: 10},
	}}, pool.Stats())
}

func TestShardsOfAQueueShareItsLane(t *testing.T) {
	t.Parallel()
	pool := New(1)
	first, second := pool.Queue("bulk", 1), pool.Queue("bulk", 1)
	assert.Same(t, first, second)
}

func TestFreedSlotsAreSharedByWeight(t *testing.T) {
	t.Parallel()
	for _, most := range []int{1, 7} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			pool := New(20)
			var work sync.WaitGroup
			served := map[string]*atomic.Int64{}
			for name, weight := range map[string]int{"critical": 6, "default": 3, "bulk": 1} {
				lane, count := pool.Queue(name, weight), new(atomic.Int64)
				served[name] = count
				work.Go(func() { // takes what it gets, works a while on each, and always wants more
					for {
						n, err := lane.Acquire(ctx, most)
						if err != nil {
							return
						}
						for range n {
							d := time.Duration(5+count.Add(1)%11) * time.Millisecond
							work.Go(func() { time.Sleep(d); lane.Release(1) })
						}
					}
				})
			}
			time.Sleep(200 * time.Millisecond)
			for _, count := range served {
				count.Store(0)
			}
			time.Sleep(10 * time.Second)
			critical, ordinary, bulk := served["critical"].Load(), served["default"].Load(), served["bulk"].Load()
			total := float64(critical + ordinary + bulk)
			assert.InDelta(t, 20_000, total, 200, "no slot stands idle")
			assert.InDelta(t, 0.6, float64(critical)/total, 0.01)
			assert.InDelta(t, 0.3, float64(ordinary)/total, 0.01)
			assert.InDelta(t, 0.1, float64(bulk)/total, 0.01)
			cancel()
			work.Wait()
			assert.Zero(t, pool.Stats().Busy)
		})
	}
}

func TestMissedTurnsAreMadeUpButNotHoarded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		pool := New(1)
		critical, bulk := pool.Queue("critical", 6), pool.Queue("bulk", 1)
		served := make(chan *Lane, 1) // holds the lane that has the slot
		compete := func(lane *Lane) {
			for {
				if _, err := lane.Acquire(ctx, 1); err != nil {
					return
				}
				served <- lane
			}
		}
		next := func() *Lane { // lets the holder finish, while every lane waits
			synctest.Wait()
			lane := <-served
			lane.Release(1)
			return lane
		}
		go compete(bulk)
		for range 1000 { // bulk is alone for a long time
			require.Same(t, bulk, next())
		}
		go compete(critical)
		count := map[*Lane]int{}
		for range 100 {
			count[next()]++
		}
		assert.InDelta(t, 85+4, count[critical], 2, "6:1 and the four rounds that may be made up, not a thousand slots")
		cancel()
	})
}

func TestAcquireEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		pool := New(1)
		lane := pool.Queue("default", 3)
		require.Equal(t, 1, lane.TryAcquire(1))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := lane.Acquire(ctx, 1)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		lane.Release(1)
		assert.Equal(t, Stats{Size: 1, Lanes: []LaneStats{{Name: "default", Weight: 3}}}, pool.Stats())
		_, err = lane.Acquire(ctx, 1)
		require.ErrorIs(t, err, context.DeadlineExceeded, "an ended context takes nothing, even when slots are free")
	})
}

func TestMisuseIsRefusedLoudly(t *testing.T) {
	t.Parallel()
	pool := New(2)
	lane := pool.Queue("default", 3)
	assert.PanicsWithValue(t, `slots: queue "default" gives back 1 slots and holds 0`, func() { lane.Release(1) })
	assert.Panics(t, func() { New(0) })
	assert.Panics(t, func() { pool.Queue("other", 0) })
	assert.Panics(t, func() { _, _ = lane.Acquire(t.Context(), 0) })
}

// TestNeverMoreThanSizeAndNoneLost runs random interleavings of acquire, release and cancel, and checks after
// each step that the slots in use are those that callers hold, that they never pass the size, and that no lane
// waits while a slot is free.
func TestNeverMoreThanSizeAndNoneLost(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		pool := New(rapid.IntRange(1, 8).Draw(t, "size"))
		type call struct {
			lane   *Lane
			cancel context.CancelFunc
			got    chan int
		}
		lanes := []*Lane{pool.Queue("critical", 6), pool.Queue("default", 3), pool.Queue("bulk", 1)}
		held := map[*Lane]int{}
		var calls []*call
		settle := func() { // collects the calls that have ended
			open := calls[:0]
			for _, c := range calls {
				select {
				case n := <-c.got:
					held[c.lane] += n
				default:
					open = append(open, c)
				}
			}
			calls = open
		}
		check := func() {
			// Calls end on their own goroutines: wait until those that were served have reported.
			require.Eventually(t, func() bool {
				settle()
				stats, waiting, sum := pool.Stats(), 0, 0
				for i, lane := range lanes {
					waiting += stats.Lanes[i].Waiting
					sum += held[lane]
				}
				require.LessOrEqual(t, stats.Busy, stats.Size)
				if waiting > 0 {
					require.Equal(t, stats.Size, stats.Busy, "a lane waits while a slot is free")
				}
				return sum == stats.Busy && waiting == len(calls)
			}, 5*time.Second, 10*time.Microsecond)
		}
		t.Repeat(map[string]func(*rapid.T){
			"acquire": func(t *rapid.T) {
				lane := rapid.SampledFrom(lanes).Draw(t, "lane")
				ctx, cancel := context.WithCancel(context.Background())
				c := &call{lane: lane, cancel: cancel, got: make(chan int, 1)}
				calls = append(calls, c)
				most := rapid.IntRange(1, 5).Draw(t, "most")
				go func() { n, _ := lane.Acquire(ctx, most); c.got <- n }()
			},
			"try": func(t *rapid.T) {
				lane := rapid.SampledFrom(lanes).Draw(t, "lane")
				held[lane] += lane.TryAcquire(rapid.IntRange(1, 5).Draw(t, "most"))
			},
			"release": func(t *rapid.T) {
				lane := rapid.SampledFrom(lanes).Draw(t, "lane")
				if held[lane] == 0 {
					t.Skip("holds none")
				}
				n := rapid.IntRange(1, held[lane]).Draw(t, "n")
				held[lane] -= n
				lane.Release(n)
			},
			"cancel": func(t *rapid.T) {
				if len(calls) == 0 {
					t.Skip("nobody waits")
				}
				rapid.SampledFrom(calls).Draw(t, "call").cancel()
			},
			"": func(*rapid.T) { check() },
		})
		for _, c := range calls {
			c.cancel()
			held[c.lane] += <-c.got
		}
		for lane, n := range held {
			lane.Release(n)
		}
		require.Zero(t, pool.Stats().Busy, "every slot came back")
	})
}
