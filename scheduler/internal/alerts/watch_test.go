package alerts

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/tasks/alerts"
	"github.com/forebay-queue/forebay/tasks/catalog"
	"github.com/forebay-queue/forebay/tasks/jobstore"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

// term is a leader's, which ends when a test says so.
type term struct {
	number int64
	over   atomic.Bool
}

func (l *term) Err() error {
	if l.over.Load() {
		return errors.New("it is over")
	}
	return nil
}
func (l *term) Number() int64                      { return l.number }
func (l *term) Above(context.Context, int64) error { return errors.New("it is another's") }

// provider answers for all channels without a network, which a bubble has not.
type provider struct {
	mutex  sync.Mutex
	posts  map[string]int // taken, by the channel
	bodies []string       // those of the channel one
	asked  map[string]int
	status map[string]int
	after  string
	takes  time.Duration
}

func (p *provider) RoundTrip(r *http.Request) (*http.Response, error) {
	if p.takes > 0 {
		time.Sleep(p.takes)
	}
	p.mutex.Lock()
	defer p.mutex.Unlock()
	name := strings.Trim(r.URL.Path, "/")
	p.asked[name]++
	status := p.status[name]
	if status == 0 {
		status = http.StatusOK
		p.posts[name]++
		if body, err := io.ReadAll(r.Body); err == nil && name == "one" {
			p.bodies = append(p.bodies, strings.ToLower(string(body)))
		}
	}
	header := http.Header{}
	header.Set("Retry-After", p.after)
	return &http.Response{StatusCode: status, Header: header, Body: io.NopCloser(strings.NewReader("ok")), Request: r}, nil
}

func (p *provider) set(channel string, status int) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.status[channel] = status
}

// counts are how often a channel was asked, and what it took.
func (p *provider) counts(channel string) (asked, taken int) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return p.asked[channel], p.posts[channel]
}

// bench is a deployment of whose workers a test says how many there are.
type bench struct {
	t        *testing.T
	client   redis.UniversalClient
	store    *jobstore.Store
	provider *provider
	settings alerts.Settings
	workers  atomic.Int64
	terms    int64
}

func inBubble(t *testing.T, test func(b *bench)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client, _ := redistest.InBubble(t)
		store, err := jobstore.New(jobstore.Config{Redis: client})
		require.NoError(t, err)
		defer store.Close()
		b := &bench{t: t, client: client, store: store, settings: alerts.DefaultSettings(), provider: &provider{
			posts: map[string]int{}, asked: map[string]int{}, status: map[string]int{},
		}}
		for _, name := range []string{"one", "two"} {
			b.settings.Channels = append(b.settings.Channels, alerts.Channel{
				Name: name, Type: alerts.Slack, URL: given(map[string]string{"URL": "http://hooks.test/" + name}, "URL"),
			})
		}
		b.workers.Store(1)
		test(b)
	})
}

// lead runs a Watch for a new term. The function ends it and waits.
func (b *bench) lead() (end func()) {
	b.t.Helper()
	b.terms++
	mine := &term{number: b.terms}
	known := &catalog.Catalog{
		Accounts:  map[string]*catalog.Account{"a": {}, "b": {}},
		Endpoints: map[string]*catalog.Endpoint{"first": {Account: "a", URL: "http://127.0.0.1:1/v1", Priority: 1, Auth: catalog.AuthNone}, "second": {Account: "b", URL: "http://127.0.0.1:2/v1", Priority: 2, Auth: catalog.AuthNone}},
		Models:    map[string]*catalog.Model{"m": {Output: new(1.0)}},
		Tiers:     []catalog.Tier{{Name: "low", Models: []string{"m"}}},
	}
	require.NoError(b.t, known.Validate())
	ctx, cancel := context.WithCancel(b.t.Context())
	watch := New(Config{
		Redis: b.client, Store: b.store, Catalog: known, Settings: b.settings, Term: mine, Log: zerolog.Nop(), Sent: NewSent(nil),
		Workers: func(context.Context) (int, error) { return int(b.workers.Load()), nil },
		Sender:  &Sender{client: &http.Client{Transport: b.provider}, now: time.Now},
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		watch.Run(ctx)
	}()
	return func() {
		mine.over.Store(true)
		cancel()
		<-done
	}
}

func (b *bench) requireTaken(want int, channels ...string) {
	b.t.Helper()
	for _, channel := range channels {
		_, taken := b.provider.counts(channel)
		require.Equal(b.t, want, taken, channel)
	}
}

func (b *bench) events() (kinds []string) {
	for _, entry := range b.client.XRange(b.t.Context(), b.store.Keys().Events(), "-", "+").Val() {
		kind, _ := entry.Values["type"].(string)
		kinds = append(kinds, kind)
	}
	return kinds
}

func TestLeadersComeAndGoAndNothingIsToldTwice(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.workers.Store(0)
		for range 60 { // a new leader every five seconds, for five minutes
			end := b.lead()
			time.Sleep(5 * time.Second)
			end()
		}
		b.requireTaken(1, "one", "two")
		b.workers.Store(1)
		for range 60 {
			end := b.lead()
			time.Sleep(5 * time.Second)
			end()
		}
		b.requireTaken(2, "one", "two")
		require.Equal(b.t, []string{"alert.firing", "alert.resolved"}, b.events())
		firing, err := alerts.Firing(b.t.Context(), b.client, b.store.Keys())
		require.NoError(b.t, err)
		require.Empty(b.t, firing)
	})
}

func TestABadChannelHoldsUpNoOther(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.settings.GiveUpAfter = time.Hour
		b.workers.Store(0)
		b.provider.set("one", http.StatusInternalServerError)
		end := b.lead()
		time.Sleep(2 * time.Minute)
		b.requireTaken(1, "two")
		b.requireTaken(0, "one")
		asked, _ := b.provider.counts("one")
		require.Greater(b.t, asked, 2, "it is tried again")
		require.Less(b.t, asked, 10, "not too often")
		b.provider.set("one", 0)
		time.Sleep(6 * time.Minute)
		b.requireTaken(1, "one", "two")
		// It is given up after a while, with an event.
		b.provider.set("one", http.StatusInternalServerError)
		b.workers.Store(1)
		time.Sleep(2 * time.Hour)
		b.requireTaken(2, "two")
		b.requireTaken(1, "one")
		require.Equal(b.t, []string{"alert.firing", "alert.resolved", "alert.undelivered"}, b.events())
		waiting, err := alerts.New(b.client, b.store.Keys()).Outbox(b.t.Context())
		require.NoError(b.t, err)
		require.Empty(b.t, waiting)
		end()
	})
}

// A channel that was away is told in order: not that something is over before it has heard of it, and never of what is over
// as the last thing.
func TestAChannelThatWasAwayIsToldInOrder(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.workers.Store(0)
		b.provider.set("one", http.StatusInternalServerError)
		defer b.lead()()
		time.Sleep(10 * time.Minute) // its message rests for minutes by now
		b.workers.Store(1)
		time.Sleep(2 * time.Minute)
		b.requireTaken(2, "two")
		b.provider.set("one", 0)
		time.Sleep(10 * time.Minute)
		b.requireTaken(2, "one")
		require.Contains(b.t, b.provider.bodies[0], "firing")
		require.Contains(b.t, b.provider.bodies[1], "over")
		require.NotContains(b.t, b.provider.bodies[1], "firing")
	})
}

func TestAChannelIsLeftAloneAsLongAsItAsks(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.workers.Store(0)
		b.provider.after = "600"
		b.provider.set("one", http.StatusTooManyRequests)
		defer b.lead()()
		time.Sleep(10 * time.Minute)
		asked, _ := b.provider.counts("one")
		require.Equal(b.t, 1, asked)
		b.provider.set("one", 0)
		time.Sleep(5 * time.Minute)
		b.requireTaken(1, "one", "two")
	})
}

// A leader that loses its term while a message is on its way sends it to the end and says so; the next one waits for that.
func TestWhatIsOnItsWayIsNotSentAgain(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.workers.Store(0)
		b.provider.takes = 6 * time.Second
		end := b.lead()
		b.untilBegun()
		stopped := make(chan struct{})
		go func() {
			end()
			close(stopped)
		}()
		defer b.lead()()
		<-stopped
		time.Sleep(5 * time.Minute)
		b.requireTaken(1, "one", "two")
	})
}

// untilBegun waits until a message is on its way.
func (b *bench) untilBegun() {
	b.t.Helper()
	for range 10_000 {
		if b.client.HLen(b.t.Context(), b.store.Keys().AlertsTries()).Val() > 0 {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	b.t.Fatal("nothing is sent")
}

func TestAChannelThatIsNoMoreIsGivenUp(t *testing.T) {
	inBubble(t, func(b *bench) {
		b.workers.Store(0)
		b.provider.set("two", http.StatusInternalServerError)
		end := b.lead()
		time.Sleep(2 * time.Minute)
		end()
		b.settings.Channels = b.settings.Channels[:1]
		defer b.lead()()
		time.Sleep(10 * time.Minute)
		require.Equal(b.t, []string{"alert.firing", "alert.undelivered"}, b.events())
	})
}
