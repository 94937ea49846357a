package simulator

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"
)

// Listener takes connections to a simulator in memory. Its DialContext fits into an http.Transport; which host and
// port a URL names does not matter there, its path names the region: http://simulated/apac/v1.
type Listener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
	server *http.Server
}

// Listen begins to serve the simulator in memory, until Close of either. Inside a testing/synctest bubble it must be
// called, and closed, within the bubble, as must New.
func (s *Simulator) Listen() *Listener {
	l := &Listener{conns: make(chan net.Conn), closed: make(chan struct{})}
	l.server = &http.Server{Handler: s, ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: time.Minute}
	go func() { _ = l.server.Serve(pipeListener{l}) }() // ends with net.ErrClosed
	go func() {
		select {
		case <-s.closed:
			_ = l.Close()
		case <-l.closed:
		}
	}()
	return l
}

// DialContext opens a connection; network and address are ignored.
func (l *Listener) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.closed:
		return nil, &net.OpError{Op: "dial", Net: "memory", Addr: memoryAddr{}, Err: errors.New("the simulated provider is closed")}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Transport returns a new transport that reaches the simulator and nothing else.
func (l *Listener) Transport() *http.Transport {
	return &http.Transport{DialContext: l.DialContext, MaxIdleConnsPerHost: 100}
}

// Close breaks all connections off. It may be called again.
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.server.Close()
}

// pipeListener is the server's side of a Listener, as net.Listener wants it.
type pipeListener struct{ l *Listener }

func (p pipeListener) Accept() (net.Conn, error) {
	select {
	case <-p.l.closed:
		return nil, net.ErrClosed
	default:
	}
	select {
	case conn := <-p.l.conns:
		return conn, nil
	case <-p.l.closed:
		return nil, net.ErrClosed
	}
}

func (p pipeListener) Close() error {
	p.l.once.Do(func() { close(p.l.closed) })
	return nil
}

func (p pipeListener) Addr() net.Addr { return memoryAddr{} }

type memoryAddr struct{}

func (memoryAddr) Network() string { return "memory" }
func (memoryAddr) String() string  { return "simulator" }
