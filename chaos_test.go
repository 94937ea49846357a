package main_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/deploy/simulator"
)

// chaosPlan is what a chaos run does. FOREBAY_CHAOS_<NAME> in the environment sets a number of it; `make chaos` sets the
// long form.
type chaosPlan struct {
	seed uint64
	// jobs are accepted in all, some through the inbox and the others over HTTP, evenly until the last kill.
	jobs int
	// kills are those of processes: half of them workers, a quarter each schedulers and producers. redisKills come on top.
	kills, redisKills int
	// every is the mean time between two kills.
	every time.Duration
	// redelivery is how long it may take, at the 99th percentile, until what a killed worker had in hand is called again.
	redelivery time.Duration
	// disk is how many megabytes are written and flushed at a time beside it all, over and over, so that Redis has to wait
	// for the disk.
	disk int
	// cut is up to how many kilobytes of the end of Redis's append-only file are lost with each of its kills, as with a loss
	// of power.
	cut int

	workers, schedulers, producers, slots int
}

func readChaosPlan(t *testing.T) chaosPlan {
	t.Helper()
	number := func(name string, usual int) int {
		text := os.Getenv("FOREBAY_CHAOS_" + name)
		if text == "" {
			return usual
		}
		n, err := strconv.Atoi(text)
		require.NoError(t, err, "FOREBAY_CHAOS_%s", name)
		return n
	}
	return chaosPlan{
		seed:       uint64(number("SEED", int(time.Now().UnixNano()%1_000_000))),
		jobs:       number("JOBS", 200),
		kills:      number("KILLS", 6),
		redisKills: number("REDIS_KILLS", 2),
		every:      time.Duration(number("EVERY_MS", 1000)) * time.Millisecond,
		// 20s are promised. The short form runs beside other tests on a machine that is busy with them.
		redelivery: time.Duration(number("REDELIVERY_MS", 30_000)) * time.Millisecond,
		disk:       number("DISK_MB", 0),
		cut:        number("CUT_KB", 0),
		workers:    3, schedulers: 2, producers: 2, slots: 16,
	}
}

// String is the command that repeats the run: the same kills at the same times, for jobs that are made alike.
func (p chaosPlan) String() string {
	return fmt.Sprintf("make chaos SEED=%d JOBS=%d KILLS=%d REDIS_KILLS=%d EVERY_MS=%d REDELIVERY_MS=%d DISK_MB=%d CUT_KB=%d",
		p.seed, p.jobs, p.kills, p.redisKills, p.every.Milliseconds(), p.redelivery.Milliseconds(), p.disk, p.cut)
}

// span is how long jobs are handed in and processes killed.
func (p chaosPlan) span() time.Duration { return time.Duration(p.kills+p.redisKills+1) * p.every }

// blow is one thing that is done to the deployment.
type blow struct {
	at    time.Duration // since the first job
	what  string        // one of the chaos kinds
	which int           // of the processes of that kind
	down  time.Duration // how long it is away
	cut   int64         // bytes of Redis's file
}

const (
	chaosWorker    = "worker"
	chaosScheduler = "scheduler"
	chaosProducer  = "producer"
	chaosRedis     = "redis"
	chaosRedisUp   = "redis is started"
)

// blows says what is killed and when, by the seed.
func (p chaosPlan) blows() []blow {
	dice := rand.New(rand.NewPCG(p.seed, 1))
	var list []blow
	moment := func() time.Duration { return p.every/2 + time.Duration(dice.Float64()*float64(p.span()-3*p.every/2)) }
	away := func(most time.Duration) time.Duration { return time.Duration(dice.Float64() * float64(most)) }
	for i := range p.kills {
		what, of, at := chaosWorker, p.workers, moment()
		switch i % 4 {
		case 0:
			if i == 0 { // the last of all, so that what it had in hand is given to others undisturbed
				at = p.span() - p.every/4
			}
		case 1:
			what, of = chaosScheduler, p.schedulers
		case 3:
			what, of = chaosProducer, p.producers
		}
		list = append(list, blow{at: at, what: what, which: dice.IntN(of), down: away(2 * time.Second)})
	}
	// A server that is killed twice within a moment would be one that is killed once.
	slot := (p.span() - p.every) / time.Duration(max(p.redisKills, 1))
	for i := range p.redisKills {
		down := away(min(2*time.Second, slot/3))
		at := time.Duration(i)*slot + time.Duration(dice.Float64()*float64(slot-down-slot/10))
		list = append(list, blow{at: at, what: chaosRedis, cut: dice.Int64N(int64(p.cut)<<10 + 1)}, blow{at: at + down, what: chaosRedisUp, down: down})
	}
	slices.SortStableFunc(list, func(a, b blow) int { return int(a.at - b.at) })
	return list
}

// TestChaos kills workers, schedulers, producers and Redis at random moments under load, and checks from the outside what
// Forebay promises: over HTTP, by the deliveries that a receiver gets, and by what the provider was asked.
func TestChaos(t *testing.T) {
	t.Parallel()
	plan := readChaosPlan(t)
	t.Log("to repeat this run: " + plan.String())
	t.Cleanup(func() {
		if t.Failed() {
			t.Log("to repeat this run: " + plan.String())
		}
	})
	c := newChaos(t, plan)
	began := time.Now()
	load := c.startLoad()
	for _, b := range plan.blows() {
		time.Sleep(time.Until(began.Add(b.at)))
		c.strike(b)
	}
	load.finish()
	found := c.examine(load)
	found.figures.add("the run took", time.Since(began).Round(100*time.Millisecond))
	t.Logf("seed %d\n%s", plan.seed, found.figures)
	found.check(t)
}

// chaosLatency is the provider's: long enough that calls are out whenever something dies.
var chaosLatency = simulator.Distribution{Min: 200 * time.Millisecond, Max: 1500 * time.Millisecond}
