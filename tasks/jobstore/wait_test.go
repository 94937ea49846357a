package jobstore

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

func TestWait(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t := b.t
		_, err := b.Wait(t.Context(), "absent")
		require.ErrorIs(t, err, ErrNotFound)

		const waiters, jobs = 300, 30
		ids := make([]string, jobs)
		for i := range ids {
			ids[i], _ = b.running(t)
		}
		var group sync.WaitGroup
		errs := make(chan error, waiters)
		for i := range waiters {
			group.Go(func() {
				record, err := b.Wait(t.Context(), ids[i%jobs])
				if err == nil && record.Status != tasks.StatusSucceeded {
					err = fmt.Errorf("job %s is %s", record.ID, record.Status)
				}
				errs <- err
			})
		}
		for _, id := range ids {
			_, err := b.Commit(t.Context(), success(id, 1, nil))
			require.NoError(t, err)
		}
		group.Wait()
		close(errs)
		for err := range errs {
			require.NoError(t, err)
		}
		record, err := b.Wait(t.Context(), ids[0])
		require.NoError(t, err)
		require.Equal(t, "short", record.Result().Text)
		require.Empty(t, b.hub.waiters, "everybody has left")
	})
}

func TestWaitIsToldOfACancel(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t := b.t
		id := b.created(t)
		done := make(chan tasks.Status, 1)
		go func() {
			record, err := b.Wait(t.Context(), id)
			if err == nil {
				done <- record.Status
			}
			close(done)
		}()
		_, err := b.Cancel(t.Context(), id, "")
		require.NoError(t, err)
		require.Equal(t, tasks.StatusCancelled, <-done)
	})
}

func TestWaitEndsWithItsContextAndItsStore(t *testing.T) {
	t.Parallel()
	onBoth(t, func(b bundle) {
		t := b.t
		id := b.created(t)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		_, err := b.Wait(ctx, id)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, id)

		ended := make(chan error)
		go func() {
			_, err := b.Wait(t.Context(), id)
			ended <- err
		}()
		require.Eventually(t, func() bool {
			b.hub.mu.Lock()
			defer b.hub.mu.Unlock()
			return len(b.hub.waiters) == 1
		}, 5*time.Second, time.Millisecond)
		require.NoError(t, b.Close())
		require.ErrorIs(t, <-ended, ErrClosed)
		_, err = b.Wait(t.Context(), id)
		require.ErrorIs(t, err, ErrClosed)
		require.NoError(t, b.Close())
	})
}

// The server dies and comes back with its data while somebody waits: the end that was published meanwhile is found.
func TestWaitOutlivesItsConnection(t *testing.T) {
	t.Parallel()
	client, server := redistest.Real(t, "--appendonly", "yes", "--appendfsync", "always")
	b := newBundle(t, client)
	id, _ := b.running(t)
	done := make(chan error, 1)
	go func() {
		_, err := b.Wait(t.Context(), id)
		done <- err
	}()
	key := b.Keys().JobDone(id)
	require.Eventually(t, func() bool {
		return client.PubSubNumSub(t.Context(), key).Val()[key] == 1
	}, 10*time.Second, 5*time.Millisecond)

	server.Kill()
	server.Start()
	require.Eventually(t, func() bool {
		committed, err := b.Commit(t.Context(), success(id, 1, nil))
		return err == nil && committed.Committed
	}, 10*time.Second, 10*time.Millisecond)
	select {
	case err := <-done:
		require.NoError(t, err)
	case <-time.After(15 * time.Second):
		t.Fatal("the wait has not noticed the end of its job")
	}
}

// Pub/Sub loses messages: an end that nobody published is found by the next reading. That comes late while the
// connection answers, and soon where its answers say nothing, as on a Cluster.
func TestWaitReadsAgain(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		single bool
		after  time.Duration
	}{"single": {true, rereadAnyway}, "cluster": {false, reread}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				client, _ := redistest.InBubble(t)
				b := newBundle(t, client)
				b.hub.single = test.single
				id, _ := b.running(t)
				begun := time.Now()
				go func() {
					time.Sleep(10 * time.Second)
					client.HSet(context.Background(), b.Keys().Job(id), "status", "succeeded")
				}()
				record, err := b.Wait(t.Context(), id)
				require.NoError(t, err)
				require.Equal(t, tasks.StatusSucceeded, record.Status)
				require.InDelta(t, test.after.Seconds(), time.Since(begun).Seconds(), considerEvery.Seconds())
			})
		})
	}
}

// A connection that answers no more is doubted, and so is one that has never answered.
func TestASilentConnectionIsDoubted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client, _ := redistest.InBubble(t)
		b := newBundle(t, client)
		require.True(t, b.hub.doubtful())
		id, _ := b.running(t)
		waiting, leave := context.WithCancel(t.Context())
		go func() { _, _ = b.Wait(waiting, id) }()
		for range 6 {
			time.Sleep(hearEvery)
			synctest.Wait()
			require.False(t, b.hub.doubtful(), "it answers while somebody waits")
		}
		leave() // nobody makes it answer any more
		time.Sleep(doubtAfter + time.Second)
		require.True(t, b.hub.doubtful())
	})
}
