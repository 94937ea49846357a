package asynqredis_test

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks/redistest"
	"github.com/forebay-queue/forebay/worker/internal/asynqredis"
	"github.com/forebay-queue/forebay/worker/internal/slots"
)

// start is a way to run one server for the queue "default" with 100 slots.
type start func(b *testing.B, rdb redis.UniversalClient, handler asynq.Handler) (shutdown func())

func bare(b *testing.B, rdb redis.UniversalClient, handler asynq.Handler) func() {
	server := asynq.NewServerFromRedisClient(rdb, asynq.Config{Concurrency: 100, Logger: silent{}})
	require.NoError(b, server.Start(handler))
	return server.Shutdown
}

func wrapped(b *testing.B, rdb redis.UniversalClient, handler asynq.Handler) func() {
	client, err := asynqredis.New(asynqredis.Config{
		Client: rdb, Queue: "default", Lane: slots.New(100).Queue("default", 3), Log: zerolog.New(io.Discard),
	})
	require.NoError(b, err)
	config := asynqredis.ServerConfig("default", 100)
	config.Logger = silent{}
	server := asynq.NewServerFromRedisClient(client, config)
	require.NoError(b, server.Start(client.Handler(handler)))
	return func() { client.Stop(); server.Shutdown() }
}

// BenchmarkThroughput works off 20,000 queued tasks per round, with asynq as it is and with this package in turn, and
// reports both rates and their ratio. Run with -benchtime=3x.
func BenchmarkThroughput(b *testing.B) {
	result := []byte(strings.Repeat("r", 1024))
	for name, handle := range map[string]asynq.HandlerFunc{
		"no-op": func(context.Context, *asynq.Task) error { return nil },
		"1KB-result": func(_ context.Context, task *asynq.Task) error {
			_, err := task.ResultWriter().Write(result)
			return err
		},
	} {
		b.Run(name, func(b *testing.B) {
			rdb, _ := redistest.Real(b)
			rates := map[string][]float64{}
			for b.Loop() {
				rates["bare"] = append(rates["bare"], round(b, rdb, bare, handle))
				rates["wrapped"] = append(rates["wrapped"], round(b, rdb, wrapped, handle))
			}
			before, after := median(rates["bare"]), median(rates["wrapped"])
			b.ReportMetric(before, "bare-tasks/s")
			b.ReportMetric(after, "tasks/s")
			b.ReportMetric(after/before, "ratio")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func round(b *testing.B, rdb *redis.Client, begin start, handle asynq.HandlerFunc) float64 {
	const count = 20_000
	require.NoError(b, rdb.FlushAll(b.Context()).Err())
	enqueue(b, rdb, count)
	var done atomic.Int64
	finished := make(chan struct{})
	began := time.Now()
	shutdown := begin(b, rdb, asynq.HandlerFunc(func(ctx context.Context, task *asynq.Task) error {
		err := handle(ctx, task)
		if done.Add(1) == count {
			close(finished)
		}
		return err
	}))
	<-finished
	for rdb.LLen(b.Context(), "asynq:{default}:active").Val() > 0 {
		time.Sleep(time.Millisecond)
	}
	took := time.Since(began)
	shutdown()
	return count / took.Seconds()
}

func enqueue(b *testing.B, rdb *redis.Client, count int) {
	client := asynq.NewClientFromRedisClient(rdb)
	payload := []byte(strings.Repeat("p", 1024))
	var group sync.WaitGroup
	for part := range 32 {
		group.Go(func() {
			for i := part; i < count; i += 32 {
				_, err := client.Enqueue(asynq.NewTask("bench", payload), asynq.Retention(time.Hour),
					asynq.TaskID(fmt.Sprint(i)), asynq.MaxRetry(100))
				if err != nil {
					b.Error(err)
				}
			}
		})
	}
	group.Wait()
}

// BenchmarkClaims measures the script of one claim, of one task and of 64: without lanes, and with 1, 10 and 100 of them.
func BenchmarkClaims(b *testing.B) {
	for _, lanes := range []int{0, 1, 10, 100} {
		for _, most := range []int{1, 64} {
			b.Run(fmt.Sprintf("lanes=%d/most=%d", lanes, most), func(b *testing.B) {
				rdb, _ := redistest.Real(b)
				s, ctx := scripts{rdb: rdb, queue: "q"}, b.Context()
				made := 0
				fill := func(count int) {
					_, err := rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
						for range count {
							id := fmt.Sprint(made)
							made++
							if lanes == 0 {
								pipe.HSet(ctx, s.key("t:"+id), "msg", "m"+id, "state", "pending", "pending_since", 1)
								pipe.LPush(ctx, s.key("pending"), id)
								continue
							}
							lane := fmt.Sprint("tenant-", made%lanes)
							pipe.HSet(ctx, s.key("t:"+id), "msg", "m"+id, "state", "aggregating", "group", lane)
							pipe.ZAdd(ctx, s.key("g:"+lane), redis.Z{Score: float64(made), Member: id})
							pipe.SAdd(ctx, s.key("groups"), lane)
						}
						return nil
					})
					require.NoError(b, err)
				}
				number, left := 0, 0
				for b.Loop() {
					if left < most {
						b.StopTimer()
						fill(20_000)
						left += 20_000
						b.StartTimer()
					}
					number++
					_, ids, err := s.claim(number, time.Now().Unix()+1000, most, false)
					require.NoError(b, err)
					left -= len(ids)
				}
				b.ReportMetric(scriptTime(b, rdb), "redis-us/op")
			})
		}
	}
}

// scriptTime is how long Redis takes for a script, in microseconds.
func scriptTime(b *testing.B, rdb *redis.Client) float64 {
	stats, err := rdb.Info(b.Context(), "commandstats").Result()
	require.NoError(b, err)
	_, rest, _ := strings.Cut(stats, "cmdstat_evalsha:")
	_, rest, _ = strings.Cut(rest, "usec_per_call=")
	number, _, _ := strings.Cut(rest, ",")
	took, err := strconv.ParseFloat(number, 64)
	require.NoError(b, err)
	return took
}

// BenchmarkWakeUp measures the time from an enqueue to the handler's call on an idle queue.
func BenchmarkWakeUp(b *testing.B) {
	for name, begin := range map[string]start{"bare": bare, "wrapped": wrapped} {
		b.Run(name, func(b *testing.B) {
			rdb, _ := redistest.Real(b)
			client := asynq.NewClientFromRedisClient(rdb)
			called := make(chan time.Time, 1)
			shutdown := begin(b, rdb, asynq.HandlerFunc(func(context.Context, *asynq.Task) error {
				called <- time.Now()
				return nil
			}))
			defer shutdown()
			var took []float64
			for b.Loop() {
				time.Sleep(20 * time.Millisecond)
				began := time.Now()
				_, err := client.Enqueue(asynq.NewTask("bench", nil))
				require.NoError(b, err)
				took = append(took, float64((<-called).Sub(began).Microseconds())/1000)
			}
			b.ReportMetric(median(took), "median-ms")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

// silent is a logger for asynq that says nothing.
type silent struct{}

func (silent) Debug(...any) {}
func (silent) Info(...any)  {}
func (silent) Warn(...any)  {}
func (silent) Error(...any) {}
func (silent) Fatal(...any) {}
