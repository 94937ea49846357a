package main_test

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// blip is how long a proxy that has cut its connections takes no new ones.
const blip = time.Second

// proxy stands between a worker and Redis. Once, at the first request that the test is waiting for, it cuts every
// connection: before Redis has had the request, or when Redis has done it and its reply is on the way.
type proxy struct {
	addr     string // where the worker reaches it
	target   string
	match    func(request []byte) bool
	loseLate bool // lose the reply, not the request

	listener net.Listener
	cuts     atomic.Int32
	mu       sync.Mutex
	open     map[net.Conn]struct{}
	downTill time.Time
}

func newProxy(t *testing.T, target string, loseReply bool, match func(request []byte) bool) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{
		addr: listener.Addr().String(), target: target, match: match, loseLate: loseReply,
		listener: listener, open: map[net.Conn]struct{}{},
	}
	go p.accept()
	t.Cleanup(func() {
		_ = listener.Close()
		p.cut(time.Hour)
	})
	return p
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.target)
		if err != nil || !p.register(client, server) {
			_ = client.Close()
			if server != nil {
				_ = server.Close()
			}
			continue
		}
		muted := &atomic.Bool{}
		go p.requests(client, server, muted)
		go p.replies(client, server, muted)
	}
}

func (p *proxy) register(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Now().Before(p.downTill) {
		return false
	}
	for _, conn := range conns {
		p.open[conn] = struct{}{}
	}
	return true
}

// requests hands on what the worker says. A request is small, and go-redis writes it in one piece.
func (p *proxy) requests(client, server net.Conn, muted *atomic.Bool) {
	defer p.drop(client, server)
	buffer := make([]byte, 1<<20)
	for {
		n, err := client.Read(buffer)
		if err != nil {
			return
		}
		if p.match(buffer[:n]) && p.cuts.CompareAndSwap(0, 1) {
			if !p.loseLate {
				p.cut(blip)
				return
			}
			muted.Store(true)
		}
		if _, err := server.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// replies hands on what Redis says, until a reply is to be lost.
func (p *proxy) replies(client, server net.Conn, muted *atomic.Bool) {
	defer p.drop(client, server)
	buffer := make([]byte, 1<<20)
	for {
		n, err := server.Read(buffer)
		if err != nil {
			return
		}
		if muted.Load() {
			p.cut(blip)
			return
		}
		if _, err := client.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// cut closes every connection and takes none for a while.
func (p *proxy) cut(duration time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.downTill = time.Now().Add(duration)
	for conn := range p.open {
		_ = conn.Close()
		delete(p.open, conn)
	}
}

func (p *proxy) drop(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range conns {
		_ = conn.Close()
		delete(p.open, conn)
	}
}
