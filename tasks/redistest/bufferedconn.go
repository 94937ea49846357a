package redistest

import (
	"net"
	"os"
	"sync"
)

// bufferedConn is one end of a net.Pipe whose writes do not wait for the other end, as those of a socket do not. A
// pipeline of commands would hang without it: the server writes its first reply before it has read the last command.
type bufferedConn struct {
	net.Conn
	mutex  sync.Mutex
	filled *sync.Cond
	buffer []byte
	closed bool
}

func newBufferedConn(conn net.Conn) *bufferedConn {
	c := &bufferedConn{Conn: conn}
	c.filled = sync.NewCond(&c.mutex)
	go c.pump()
	return c
}

// Write never blocks.
func (c *bufferedConn) Write(data []byte) (int, error) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.closed {
		return 0, os.ErrClosed
	}
	c.buffer = append(c.buffer, data...)
	c.filled.Signal()
	return len(data), nil
}

// Close drops what has not been read.
func (c *bufferedConn) Close() error {
	c.mutex.Lock()
	c.closed = true
	c.filled.Signal()
	c.mutex.Unlock()
	return c.Conn.Close()
}

func (c *bufferedConn) pump() {
	for {
		c.mutex.Lock()
		for len(c.buffer) == 0 && !c.closed {
			c.filled.Wait()
		}
		data := c.buffer
		c.buffer = nil
		c.mutex.Unlock()
		if len(data) == 0 {
			return
		}
		if _, err := c.Conn.Write(data); err != nil {
			_ = c.Close()
			return
		}
	}
}
