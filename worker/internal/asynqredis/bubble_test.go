package asynqredis_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks/redistest"
)

// inBubble is redistest.InBubble with connections that buffer what is written. The plain ones are net.Pipes, on which
// a pipeline of many commands deadlocks: the server answers the first before it reads the last.
func inBubble(t testing.TB) (*redis.Client, *miniredis.Miniredis) {
	t.Helper()
	plain, server := redistest.InBubble(t)
	options := *plain.Options()
	dial := options.Dialer
	options.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return newBufferedConn(conn), nil
	}
	client := redis.NewClient(&options)
	t.Cleanup(func() { _ = client.Close() })
	return client, server
}

// wire counts what is sent with a text in it, and breaks the connection of the first before its reply comes.
type wire struct {
	text string
	sent atomic.Int64
}

// inBubbleOnWire is inBubble with a wire.
func inBubbleOnWire(t testing.TB, text string) (*redis.Client, *wire) {
	t.Helper()
	plain, _ := inBubble(t)
	w, options := &wire{text: text}, *plain.Options()
	dial := options.Dialer
	options.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &wiredConn{Conn: conn, wire: w}, nil
	}
	client := redis.NewClient(&options)
	t.Cleanup(func() { _ = client.Close() })
	return client, w
}

type wiredConn struct {
	net.Conn
	wire   *wire
	broken atomic.Bool
}

func (c *wiredConn) Write(p []byte) (int, error) {
	n := int64(bytes.Count(p, []byte(c.wire.text)))
	if n > 0 && c.wire.sent.Add(n) == n {
		c.broken.Store(true)
	}
	return c.Conn.Write(p)
}

func (c *wiredConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p) // the reply has come, so the command was executed
	if c.broken.Load() {
		_ = c.Conn.Close()
		return 0, io.ErrUnexpectedEOF
	}
	return n, err
}

// bufferedConn is a connection whose writes do not wait for the other side.
type bufferedConn struct {
	net.Conn
	mu     sync.Mutex
	filled *sync.Cond
	queue  []byte
	closed bool
}

func newBufferedConn(conn net.Conn) *bufferedConn {
	c := &bufferedConn{Conn: conn}
	c.filled = sync.NewCond(&c.mu)
	go c.flush()
	return c
}

func (c *bufferedConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return 0, net.ErrClosed
	}
	c.queue = append(c.queue, p...)
	c.filled.Signal()
	return len(p), nil
}

func (c *bufferedConn) flush() {
	for {
		c.mu.Lock()
		for len(c.queue) == 0 && !c.closed {
			c.filled.Wait()
		}
		p := c.queue
		c.queue = nil
		c.mu.Unlock()
		if len(p) == 0 {
			return
		}
		if _, err := c.Conn.Write(p); err != nil {
			return
		}
	}
}

func (c *bufferedConn) Close() error {
	c.mu.Lock()
	c.closed = true
	c.filled.Signal()
	c.mu.Unlock()
	return c.Conn.Close()
}
