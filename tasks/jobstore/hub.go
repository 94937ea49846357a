package jobstore

import (
	"context"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// resubscribeAfter is how long the hub waits after a subscription that failed.
	resubscribeAfter = time.Second
	// hearEvery is how often the hub makes its connection answer, and doubtAfter how old the last answer may be.
	hearEvery  = 10 * time.Second
	doubtAfter = 2 * hearEvery
)

// hub shares one subscribed connection between all waits of a Store. A waiter is poked when something was published
// on its channel, and whenever its channel has been subscribed (again): in between, a message may have been lost.
//
// A connection may be dead without anybody being told, and the client's own pings wait for no answer. The hub therefore
// subscribes a channel of nobody again and again: what is published before the answer has come before it, too. On a Cluster, where messages may be lost between nodes, that says nothing.
//
// The connection is opened by the first waiter. Only the goroutine in follow talks to it, so that nobody waits for
// the network to join or to leave.
type hub struct {
	client redis.UniversalClient
	// changed says that waiters came or went. closing is closed with the hub.
	changed chan struct{}
	closing chan struct{}
	stopped sync.WaitGroup

	silence string
	// single tells that one server publishes and tells.
	single bool

	mu      sync.Mutex
	heard   time.Time // when anything came over the connection
	closed  bool
	started bool
	waiters map[string]map[chan struct{}]struct{}
}

func newHub(client redis.UniversalClient, silence string) *hub {
	_, single := client.(*redis.Client)
	return &hub{
		client:  client,
		silence: silence,
		single:  single,
		changed: make(chan struct{}, 1),
		closing: make(chan struct{}),
		waiters: map[string]map[chan struct{}]struct{}{},
	}
}

// join returns a channel that is poked, and the function that ends it.
func (h *hub) join(channel string) (poke <-chan struct{}, leave func(), err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, nil, ErrClosed
	}
	if !h.started {
		h.started = true
		h.stopped.Go(h.follow)
	}
	waiter := make(chan struct{}, 1)
	if h.waiters[channel] == nil {
		h.waiters[channel] = map[chan struct{}]struct{}{}
		signal(h.changed)
	}
	h.waiters[channel][waiter] = struct{}{}
	return waiter, func() { h.leave(channel, waiter) }, nil
}

func (h *hub) leave(channel string, waiter chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.waiters[channel], waiter)
	if len(h.waiters[channel]) == 0 {
		delete(h.waiters, channel)
		signal(h.changed)
	}
}

func (h *hub) close() {
	h.mu.Lock()
	if !h.closed {
		h.closed = true
		close(h.closing)
	}
	h.mu.Unlock()
	h.stopped.Wait()
}

// follow keeps the subscriptions of the connection equal to the waiters' channels.
func (h *hub) follow() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	pubsub := h.client.Subscribe(ctx)
	events := pubsub.ChannelWithSubscriptions()
	h.stopped.Go(func() { h.deliver(events) })
	defer func() { _ = pubsub.Close() }()
	h.stopped.Go(func() { // a dial that hangs must not hold up close
		<-h.closing
		cancel()
	})

	subscribed := map[string]bool{}
	hear := time.NewTicker(hearEvery)
	defer hear.Stop()
	for {
		select {
		case <-h.closing:
			return
		case <-hear.C:
			if len(subscribed) > 0 {
				_ = pubsub.Subscribe(ctx, h.silence) // what fails here is not answered
			}
			continue
		case <-h.changed:
		}
		come, gone := h.difference(subscribed)
		if len(gone) > 0 {
			_ = pubsub.Unsubscribe(ctx, gone...) // what fails here is left out when the client connects again
			for _, channel := range gone {
				delete(subscribed, channel)
			}
		}
		if len(come) > 0 {
			if err := pubsub.Subscribe(ctx, come...); err != nil {
				// The client subscribes by itself once it is connected again. Asking once more does no harm.
				time.AfterFunc(resubscribeAfter, func() { signal(h.changed) })
				continue
			}
			for _, channel := range come {
				subscribed[channel] = true
			}
		}
	}
}

func (h *hub) difference(subscribed map[string]bool) (come, gone []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for channel := range h.waiters {
		if !subscribed[channel] {
			come = append(come, channel)
		}
	}
	for channel := range subscribed {
		if h.waiters[channel] == nil {
			gone = append(gone, channel)
		}
	}
	return come, gone
}

// deliver pokes waiters until the connection is closed.
func (h *hub) deliver(events <-chan any) {
	for event := range events {
		h.mu.Lock()
		h.heard = time.Now()
		h.mu.Unlock()
		switch event := event.(type) {
		case *redis.Message:
			h.poke(event.Channel)
		case *redis.Subscription:
			if event.Kind == "subscribe" {
				h.poke(event.Channel)
			}
		}
	}
}

// doubtful tells that what was published may have been lost.
func (h *hub) doubtful() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.single || time.Since(h.heard) > doubtAfter
}

func (h *hub) poke(channel string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for waiter := range h.waiters[channel] {
		signal(waiter)
	}
}

// signal pokes a channel of one place, which stays poked until it is looked at.
func signal(channel chan struct{}) {
	select {
	case channel <- struct{}{}:
	default:
	}
}
