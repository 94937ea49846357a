package worker_test

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/deploy/simulator"
	"github.com/forebay-queue/forebay/tasks"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/jobstore"
	"github.com/forebay-queue/forebay/tasks/redistest"
	"github.com/forebay-queue/forebay/tasks/webhooks"
	"github.com/forebay-queue/forebay/worker"
)

// publicAddress is where receivers are unless a test says otherwise.
var publicAddress = netip.MustParseAddr("93.184.215.14")

// delivery is one POST as a receiver saw it.
type delivery struct {
	at     time.Time
	host   string
	header http.Header
	body   []byte
}

func (d delivery) id() string { return d.header.Get("Webhook-Id") }

// receivers are those of a test, by their hosts, reached through memory. Which addresses their names lead to is the
// test's to say; the catalog's guard looks at each before it is dialled, as the client that it makes does.
type receivers struct {
	t       *testing.T
	guard   interface{ Allowed(to netip.AddrPort) error }
	conns   chan net.Conn
	closed  chan struct{}
	web     *http.Server
	client  *http.Client
	signers []*standardwebhooks.Webhook

	mutex    sync.Mutex
	handlers map[string]http.HandlerFunc
	resolve  func(host string) netip.Addr
	down     map[string]bool
	seen     []delivery
	dialled  []string
}

func newReceivers(t *testing.T, c *catalog.Catalog) *receivers {
	t.Helper()
	r := &receivers{
		t: t, guard: c.WebhookGuard(), conns: make(chan net.Conn), closed: make(chan struct{}),
		handlers: map[string]http.HandlerFunc{}, down: map[string]bool{},
		resolve: func(string) netip.Addr { return publicAddress },
	}
	keys, err := c.WebhookKeys("default", "")
	require.NoError(t, err)
	for _, key := range keys {
		signer, err := standardwebhooks.NewWebhook(key)
		require.NoError(t, err)
		r.signers = append(r.signers, signer)
	}
	r.web = &http.Server{Handler: r, ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Minute}
	go func() { _ = r.web.Serve(r) }()
	r.client = c.WebhookGuard().Client(c.Webhooks.Timeout)
	transport, _ := r.client.Transport.(*http.Transport)
	transport.DialContext = r.dial
	t.Cleanup(func() {
		r.client.CloseIdleConnections()
		_ = r.web.Close()
	})
	return r
}

// dial connects to a host as the guard's own client does.
func (r *receivers) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, err
	}
	r.mutex.Lock()
	to := netip.AddrPortFrom(r.resolve(host), uint16(number))
	down := r.down[host]
	r.mutex.Unlock()
	if err := r.guard.Allowed(to); err != nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: err}
	}
	if down {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
	}
	r.mutex.Lock()
	r.dialled = append(r.dialled, to.String())
	r.mutex.Unlock()
	ours, theirs := net.Pipe()
	select {
	case r.conns <- theirs:
		return ours, nil
	case <-r.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept, Close and Addr make them a net.Listener.
func (r *receivers) Accept() (net.Conn, error) {
	select {
	case conn := <-r.conns:
		return conn, nil
	case <-r.closed:
		return nil, net.ErrClosed
	}
}

func (r *receivers) Close() error {
	close(r.closed)
	return nil
}

func (r *receivers) Addr() net.Addr { return &net.TCPAddr{} }

// ServeHTTP writes down what came, and answers as the host's handler does: 204 without one. What does not verify by the
// specification's own library fails the test.
func (r *receivers) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(request.Body)
	if err != nil {
		return
	}
	for _, signer := range r.signers {
		if err := signer.Verify(body, request.Header); err != nil {
			r.t.Errorf("a delivery to %s does not verify: %v", request.Host, err)
		}
	}
	r.mutex.Lock()
	r.seen = append(r.seen, delivery{time.Now(), request.Host, request.Header.Clone(), body})
	handler := r.handlers[request.Host]
	r.mutex.Unlock()
	if handler == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	handler(w, request)
}

// answer has a host answer by a handler, from now on.
func (r *receivers) answer(host string, handler http.HandlerFunc) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.handlers[host] = handler
}

// setDown has a host refuse connections, or take them again.
func (r *receivers) setDown(host string, down bool) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.down[host] = down
}

// at are the deliveries that a host has seen.
func (r *receivers) at(host string) []delivery {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	var seen []delivery
	for _, d := range r.seen {
		if d.host == host {
			seen = append(seen, d)
		}
	}
	return seen
}

// hookBench is workers with receivers, in fake time.
type hookBench struct {
	*bench
	*receivers
	t       *testing.T
	workers []*worker.Worker
	hooks   *webhooks.Store
	made    int
}

// newHookBench starts so many workers. Their schedule is short: 5s, 30s, 1m, 2m, 5m and 10m.
func newHookBench(t *testing.T, workers int, change ...func(*catalog.Catalog)) *hookBench {
	t.Helper()
	client, server := redistest.InBubble(t)
	server.ClockTTL(false) // it looks at all keys with every command, and nothing that expires is waited for
	sim, err := simulator.New(simulator.Config{Regions: threeRegions()})
	require.NoError(t, err)
	listener := sim.Listen()
	t.Cleanup(func() {
		_ = sim.Close()
		_ = listener.Close()
	})
	c := testCatalog(t, append([]func(*catalog.Catalog){hookCatalog(t)}, change...)...)
	b := &hookBench{
		bench:     &bench{t: t, redis: client, server: server, sim: sim, catalog: c, dial: listener.DialContext},
		receivers: newReceivers(t, c), t: t,
	}
	b.store, err = jobstore.New(jobstore.Config{Redis: client})
	require.NoError(t, err)
	t.Cleanup(func() { _ = b.store.Close() })
	b.hooks = b.store.Webhooks()
	for range workers {
		b.start()
	}
	return b
}

// start starts one more worker.
func (b *hookBench) start() *worker.Worker {
	b.t.Helper()
	w := b.newWorker()
	w.SendWebhooksBy(b.client)
	require.NoError(b.t, w.Start(b.t.Context()))
	b.workers = append(b.workers, w)
	return w
}

// hookCatalog is what the tests' catalog says of webhooks: one secret, of two keys.
func hookCatalog(t *testing.T) func(*catalog.Catalog) {
	t.Helper()
	return func(c *catalog.Catalog) {
		c.Webhooks.AllowHTTP = true
		c.Webhooks.Schedule = []time.Duration{5 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute}
		var sources []catalog.SecretSource
		for _, name := range []string{"new", "old"} {
			path := filepath.Join(t.TempDir(), name)
			secret := "whsec_" + base64.StdEncoding.EncodeToString([]byte(name+"-0123456789abcdefghijklmnop"))
			require.NoError(t, os.WriteFile(path, []byte(secret), 0o600))
			sources = append(sources, catalog.SecretSource{File: path})
		}
		c.Webhooks.Secrets = []catalog.WebhookSecret{{Keys: sources}}
	}
}

// hook makes a webhook that tries a host, and returns its id.
func (b *hookBench) hook(host string) string {
	b.t.Helper()
	b.made++
	w := webhooks.Webhook{
		ID: webhooks.ID("test", strconv.Itoa(b.made)), Event: tasks.EventTest, Tenant: "default", At: time.Now(),
		To: tasks.Webhook{URL: "http://" + host + "/hook?n=" + strconv.Itoa(b.made)},
	}
	require.NoError(b.t, b.hooks.Create(b.t.Context(), w))
	return w.ID
}

// hooksTo makes so many.
func (b *hookBench) hooksTo(host string, count int) []string {
	b.t.Helper()
	ids := make([]string, count)
	for i := range ids {
		ids[i] = b.hook(host)
	}
	return ids
}

func (b *hookBench) webhook(id string) *webhooks.Record {
	b.t.Helper()
	record, err := b.hooks.Get(b.t.Context(), id, "")
	require.NoError(b.t, err)
	return record
}

// awaitAll waits until all of these have ended, and tells how long that took, in steps of 10 s.
func (b *hookBench) awaitAll(most time.Duration, ids ...string) time.Duration {
	b.t.Helper()
	for waited := time.Duration(0); waited < most; waited += 10 * time.Second {
		if !slices.ContainsFunc(ids, func(id string) bool { return !b.webhook(id).State.Ended() }) {
			return waited
		}
		time.Sleep(10 * time.Second)
	}
	return most
}

// delivered requires that all of these were delivered, each by the last of its attempts, and none under another id.
func (b *hookBench) delivered(host string, ids ...string) {
	b.t.Helper()
	known := map[string]bool{}
	for _, id := range ids {
		record := b.webhook(id)
		require.Equal(b.t, webhooks.Delivered, record.State, "%s: %s %s %+v", id, record.Reason, record.Waiting, record.History)
		known[id] = true
	}
	seen := map[string]bool{}
	for _, d := range b.at(host) {
		require.True(b.t, known[d.id()], "%s came under the id %s", host, d.id())
		seen[d.id()] = true
	}
	require.Len(b.t, seen, len(ids))
}

// tasks is how many tasks are in the webhooks' queue.
func (b *hookBench) tasks() int {
	b.t.Helper()
	info, err := asynq.NewInspectorFromRedisClient(redis.UniversalClient(b.redis)).GetQueueInfo("webhooks")
	require.NoError(b.t, err)
	return info.Size
}
