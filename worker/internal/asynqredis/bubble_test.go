package asynqredis_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/forebay-queue/forebay/tasks/redistest"
)

// wire counts what is sent with a text in it, and breaks the connection of the first before its reply comes.
type wire struct {
	text string
	sent atomic.Int64
}

// inBubbleOnWire is redistest.InBubble with a wire.
func inBubbleOnWire(t testing.TB, text string) (*redis.Client, *wire) {
	t.Helper()
	plain, _ := redistest.InBubble(t)
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
