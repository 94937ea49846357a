package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

const (
	// chaosHands is how many hand jobs in side by side, and read results.
	chaosHands = 8
	// chaosPatience is how long the deployment may stand still before what is open counts as stranded.
	chaosPatience = 90 * time.Second
)

// load hands jobs in while everything is killed, and remembers what was accepted.
type load struct {
	c      *chaos
	client *http.Client
	redis  *redis.Client

	mu       sync.Mutex
	accepted map[string]acceptance
	tries    int
	refused  []string // answers that no kill explains
	first    map[string]tasks.Result
	group    sync.WaitGroup
}

// acceptance is how a job was taken in.
type acceptance struct {
	inbox bool
	sent  time.Time // the request that was answered
	at    time.Time // its answer
}

func (c *chaos) startLoad() *load {
	l := &load{
		c: c, client: &http.Client{Timeout: 10 * time.Second}, redis: redis.NewClient(redistest.Options(c.server.Addr)),
		accepted: map[string]acceptance{}, first: map[string]tasks.Result{},
	}
	c.t.Cleanup(func() {
		l.group.Wait()
		_ = l.redis.Close()
		l.client.CloseIdleConnections()
	})
	began, span := time.Now(), c.plan.span()
	for hand := range chaosHands {
		l.group.Go(func() {
			dice := rand.New(rand.NewPCG(c.plan.seed, uint64(100+hand)))
			for n := hand; n < c.plan.jobs; n += chaosHands {
				due := began.Add(span * time.Duration(n) / time.Duration(c.plan.jobs))
				select {
				case <-time.After(time.Until(due)):
				case <-c.t.Context().Done():
					return
				}
				l.handIn(n, dice)
			}
		})
	}
	return l
}

// finish waits until all jobs are accepted.
func (l *load) finish() { l.group.Wait() }

// handIn repeats one job until it is accepted.
func (l *load) handIn(n int, dice *rand.Rand) {
	job := tasks.Job{
		ID: fmt.Sprintf("chaos-%d-%d", l.c.plan.seed, n), TaskType: "fast_summary", Input: text,
		Priority: []tasks.Priority{tasks.PriorityCritical, tasks.PriorityDefault, tasks.PriorityBulk}[dice.IntN(3)],
	}
	l.c.receiver.listen(&job, dice)
	body, err := tasks.Encode(job)
	if err != nil {
		l.refuse("job cannot be written: %v", err)
		return
	}
	inbox, again := dice.IntN(10) == 0, dice.IntN(10) == 0
	for l.c.t.Context().Err() == nil {
		a := acceptance{inbox: inbox, sent: time.Now()}
		if inbox {
			err = l.add(body)
		} else {
			err = l.post(job.ID, body, l.c.addrs[dice.IntN(len(l.c.addrs))])
		}
		a.at = time.Now()
		l.mu.Lock()
		l.tries++
		if _, known := l.accepted[job.ID]; err == nil && !known {
			l.accepted[job.ID] = a
		}
		l.mu.Unlock()
		switch {
		case err != nil:
			time.Sleep(50 * time.Millisecond)
		case again: // as a client does that was cut off before it read the answer
			again = false
		default:
			l.read(job.ID, dice)
			return
		}
	}
}

func (l *load) refuse(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refused = append(l.refused, fmt.Sprintf(format, args...))
}

// add writes the job into the inbox.
func (l *load) add(body []byte) error {
	ctx, cancel := context.WithTimeout(l.c.t.Context(), 5*time.Second)
	defer cancel()
	return l.redis.XAdd(ctx, &redis.XAddArgs{Stream: "forebay:inbox", Values: []any{"job", body}}).Err()
}

// post hands the job to a producer.
func (l *load) post(id string, body []byte, addr string) error {
	request, err := http.NewRequestWithContext(l.c.t.Context(), http.MethodPost, "http://"+addr+"/v1/jobs", bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	answer, err := l.client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	told, err := io.ReadAll(answer.Body)
	switch {
	case err != nil:
		return err
	case answer.StatusCode == http.StatusCreated || answer.StatusCode == http.StatusOK:
		return nil
	case answer.StatusCode < http.StatusInternalServerError:
		l.refuse("job %s: HTTP %d: %s", id, answer.StatusCode, told)
	}
	return fmt.Errorf("HTTP %d: %s", answer.StatusCode, told)
}

// get reads a job over HTTP through whichever producer answers. Found is false for one that is not there.
func (l *load) get(ctx context.Context, id string) (result tasks.Result, found bool, err error) {
	for try := 0; ctx.Err() == nil; try++ {
		var status int
		if result, status, err = l.getFrom(ctx, l.c.addrs[try%len(l.c.addrs)], id); err == nil {
			return result, status == http.StatusOK, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return result, false, err
}

func (l *load) getFrom(ctx context.Context, addr, id string) (result tasks.Result, status int, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/v1/jobs/"+id, http.NoBody)
	if err != nil {
		return result, 0, err
	}
	answer, err := l.client.Do(request)
	if err != nil {
		return result, 0, err
	}
	defer answer.Body.Close()
	switch answer.StatusCode {
	case http.StatusNotFound:
		return result, answer.StatusCode, nil
	case http.StatusOK:
		return result, answer.StatusCode, json.NewDecoder(answer.Body).Decode(&result)
	}
	return result, answer.StatusCode, fmt.Errorf("HTTP %d", answer.StatusCode)
}

// read looks at a job that was accepted before, and keeps the first result of it that anybody was shown.
func (l *load) read(than string, dice *rand.Rand) {
	l.mu.Lock()
	id := than
	for other := range l.accepted { // any: maps are in no order
		if _, seen := l.first[other]; !seen && dice.IntN(4) == 0 {
			id = other
			break
		}
	}
	l.mu.Unlock()
	result, status, err := l.getFrom(l.c.t.Context(), l.c.addrs[dice.IntN(len(l.c.addrs))], id)
	if err != nil || status != http.StatusOK || !result.Status.Ended() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.first[id] = result
}

// await reads every accepted job until it has ended, and returns the results. Those that no producer knows are missing.
func (l *load) await() map[string]tasks.Result {
	l.c.t.Helper()
	ended := map[string]tasks.Result{}
	var open []string
	for id := range l.accepted {
		open = append(open, id)
	}
	slices.Sort(open)
	for last, pause := time.Now(), time.Duration(0); len(open) > 0 && time.Since(last) < chaosPatience; pause = 100 * time.Millisecond {
		time.Sleep(pause)
		still, missing := l.sift(open, ended)
		if len(still) < len(open) {
			last = time.Now()
		}
		open = still
		// An inbox that has been read through brings none of the missing any more.
		left, err := l.redis.XLen(l.c.t.Context(), "forebay:inbox").Result()
		if missing == len(open) && err == nil && left == 0 && time.Since(last) > 2*time.Second {
			break
		}
	}
	return ended
}

// sift reads jobs side by side, and returns those that have not ended, and how many of these nobody knows.
func (l *load) sift(open []string, ended map[string]tasks.Result) (still []string, missing int) {
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(l.c.t.Context())
	group.SetLimit(chaosHands)
	for _, id := range open {
		group.Go(func() error {
			result, found, err := l.get(ctx, id)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil && found && result.Status.Ended():
				ended[id] = result
				return nil
			case err == nil && !found:
				missing++
			}
			still = append(still, id)
			return nil
		})
	}
	_ = group.Wait()
	return still, missing
}
