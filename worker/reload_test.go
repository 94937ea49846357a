package worker_test

import (
	"context"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/fleet"
	"github.com/forebay-queue/forebay/worker"
)

// dials counts the connections that are open, by the test's dial.
type dials struct {
	mutex sync.Mutex
	open  int
	made  int
}

type countedConn struct {
	net.Conn
	closed func()
}

func (c *countedConn) Close() error {
	c.closed()
	return c.Conn.Close()
}

func (d *dials) counting(dial func(context.Context, string, string) (net.Conn, error)) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		d.mutex.Lock()
		defer d.mutex.Unlock()
		d.open, d.made = d.open+1, d.made+1
		return &countedConn{conn, sync.OnceFunc(func() {
			d.mutex.Lock()
			defer d.mutex.Unlock()
			d.open--
		})}, nil
	}
}

func (d *dials) counted() (open, made int) {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	return d.open, d.made
}

// A delivery ends by the catalog with which it began, its price included; the next has the other. The connections of an
// endpoint that is gone last until the call on them is over, those of one that has not changed stay.
func TestReload(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		var d dials
		b.dial = d.counting(b.dial)
		w := b.newWorker()
		before := b.job()
		calling := make(chan error, 1)
		go func() { calling <- b.deliverTo(w, before) }()
		time.Sleep(50 * time.Millisecond) // it is at a-1, which takes 100ms
		synctest.Wait()

		next := testCatalog(t, func(c *catalog.Catalog) {
			dear := 7.0
			delete(c.Endpoints, "a-1")
			c.Models["small"].Output = &dear
		})
		require.NoError(t, w.Reload(next))
		open, _ := d.counted()
		assert.Equal(t, 1, open, "the call that is out keeps its connection")
		after := b.job()
		require.NoError(t, b.deliverTo(w, after))
		require.NoError(t, <-calling)
		synctest.Wait()

		first, second := b.result(before), b.result(after)
		assert.Equal(t, "a-1", first.Endpoint)
		assert.Equal(t, "a-2", second.Endpoint)
		require.Equal(t, tasks.StatusSucceeded, first.Status)
		assert.InDelta(t, 7, second.CostUSD/first.CostUSD, 0.5, "each has the price of its own catalog")
		open, made := d.counted()
		assert.Equal(t, 2, made)
		assert.Equal(t, 1, open, "that to a-1 is closed")

		same := testCatalog(t, func(c *catalog.Catalog) { delete(c.Endpoints, "a-1"); c.Retry.TryBackoff = time.Second })
		require.NoError(t, w.Reload(same))
		require.NoError(t, b.deliverTo(w, b.job()))
		open, made = d.counted()
		assert.Equal(t, []int{1, 2}, []int{open, made}, "an endpoint that has not changed keeps its connection")
	})
}

// Limits hold anew for the calls that are asked for after a Reload, and waiters of the old one are not forgotten.
func TestReloadOfLimits(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		one := b.newWorker()
		slow, waiting := b.job(), b.job()
		ended := make(chan error, 2)
		go func() { ended <- b.deliverTo(one, slow) }()
		time.Sleep(10 * time.Millisecond)
		go func() { ended <- b.deliverTo(one, waiting) }()
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
		require.NoError(t, one.Reload(testCatalog(t, oneEndpoint(catalog.Limits{Concurrency: 5}))))
		started := time.Now()
		quick := b.job()
		require.NoError(t, b.deliverTo(one, quick))
		assert.Less(t, time.Since(started), 150*time.Millisecond, "five at once may call now")
		require.NoError(t, <-ended)
		require.NoError(t, <-ended)
		for _, id := range []string{slow, waiting, quick} {
			assert.Equal(t, tasks.StatusSucceeded, b.result(id).Status)
		}
	}, oneEndpoint(catalog.Limits{Concurrency: 1}))
}

// Whatever runs while catalogs come and go ends well, and no connection is left behind.
func TestReloadsUnderLoad(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		var d dials
		w, err := worker.New(worker.Config{Redis: b.redis, Catalog: b.catalog, Dial: d.counting(b.dial)})
		require.NoError(t, err)
		const each = 25
		ids := make([]string, 8*each)
		for i := range ids {
			ids[i] = b.job()
		}
		var deliveries sync.WaitGroup
		for batch := range slices.Chunk(ids, each) {
			deliveries.Go(func() {
				for _, id := range batch {
					assert.NoError(t, b.deliverTo(w, id))
				}
			})
		}
		without := []string{"a-1", "a-2", "b-1"}
		for i := range 100 {
			time.Sleep(23 * time.Millisecond)
			require.NoError(t, w.Reload(testCatalog(t, func(c *catalog.Catalog) {
				delete(c.Endpoints, without[i%len(without)])
			})))
		}
		deliveries.Wait()
		for _, id := range ids {
			assert.Equal(t, tasks.StatusSucceeded, b.result(id).Status)
		}
		require.NoError(t, w.Shutdown(t.Context()))
		synctest.Wait()
		open, made := d.counted()
		assert.Zero(t, open)
		assert.Positive(t, made)
	})
}

func TestReloadRefuses(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		require.ErrorContains(t, b.worker.Reload(nil), "catalog is missing")
		w, err := worker.New(worker.Config{Redis: b.redis, Catalog: b.catalog, Dial: b.dial})
		require.NoError(t, err)
		require.NoError(t, w.Shutdown(t.Context()))
		require.ErrorContains(t, w.Reload(b.catalog), "stopping")
	})
}

// A worker is in the fleet while it lives, under the id by which its calls are known.
func TestWorkerIsInTheFleet(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		require.NoError(t, b.worker.Start(t.Context()))
		time.Sleep(time.Minute)
		found, err := fleet.Read(t.Context(), b.redis, b.store.Keys())
		require.NoError(t, err)
		require.Len(t, found, 1)
		assert.Equal(t, b.worker.ID(), found[0].ID)
		assert.Equal(t, fleet.Worker, found[0].Kind)
		require.NoError(t, b.worker.Shutdown(t.Context()))
		found, err = fleet.Read(t.Context(), b.redis, b.store.Keys())
		require.NoError(t, err)
		assert.Empty(t, found)
	})
}
