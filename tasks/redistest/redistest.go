// Package redistest starts Redis servers for tests: the embedded one, for fast tests, and real
// redis-server processes, for whatever depends on Redis as it is (persistence, scripts, kill -9).
package redistest

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Options returns client options for the server at addr. Maintenance notifications, which neither server
// knows, are off.
func Options(addr string) *redis.Options {
	return &redis.Options{
		Addr:                     addr,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
}

// Embedded starts an embedded Redis that ends with the test, and a client for it.
func Embedded(t testing.TB) (*redis.Client, *miniredis.Miniredis) {
	t.Helper()
	server := miniredis.RunT(t)
	client := redis.NewClient(Options(server.Addr()))
	t.Cleanup(func() { _ = client.Close() })
	return client, server
}

// InBubble starts an embedded Redis without a network, for tests inside a testing/synctest bubble: the client
// dials it through memory, and the server's TIME and expiries follow the bubble's clock.
func InBubble(t testing.TB) (*redis.Client, *miniredis.Miniredis) {
	t.Helper()
	server := miniredis.NewMiniRedis()
	server.ClockTTL(true)
	options := Options("embedded:6379")
	options.Dialer = func(context.Context, string, string) (net.Conn, error) {
		conn, err := server.Dial()
		if err != nil {
			return nil, err
		}
		return newBufferedConn(conn), nil
	}
	// Nobody waits for a connection: go-redis keeps the timers of such waits for the whole process, and one that was made in
	// a bubble is fatal outside of it.
	options.PoolSize = 1000
	client := redis.NewClient(options)
	t.Cleanup(func() {
		_ = client.Close()
		server.Close()
	})
	return client, server
}

// Server is a redis-server process.
type Server struct {
	// Addr is its address on loopback, host:port.
	Addr string

	t    testing.TB
	dir  string
	args []string
	cmd  *exec.Cmd
}

// Real starts a redis-server process that ends with the test, and a client for it. The arguments are added to
// its command line (such as "--appendonly", "yes"). It fails the test when no redis-server is installed:
// a skipped test would count as done.
func Real(t testing.TB, args ...string) (*redis.Client, *Server) {
	t.Helper()
	server := &Server{Addr: freeAddr(t), t: t, dir: t.TempDir(), args: args}
	server.Start()
	t.Cleanup(server.Kill)
	client := redis.NewClient(Options(server.Addr))
	t.Cleanup(func() { _ = client.Close() })
	return client, server
}

// Start starts the process (again) on the same address and data, and waits until it answers.
func (s *Server) Start() {
	s.t.Helper()
	binary, err := exec.LookPath("redis-server")
	if err != nil {
		s.t.Fatal("redis-server is not installed: run `make test`, which installs it, or install the package redis-server")
	}
	_, port, _ := net.SplitHostPort(s.Addr)
	args := append([]string{
		"--port", port, "--bind", "127.0.0.1", "--dir", s.dir, "--save", "",
		"--logfile", filepath.Join(s.dir, "redis.log"),
	}, s.args...)
	s.cmd = exec.Command(binary, args...)
	var output bytes.Buffer
	s.cmd.Stderr = &output
	if err := s.cmd.Start(); err != nil {
		s.t.Fatalf("start redis-server: %v", err)
	}
	client := redis.NewClient(Options(s.Addr))
	defer func() { _ = client.Close() }()
	for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if client.Ping(context.Background()).Err() == nil {
			return
		}
	}
	s.t.Fatalf("redis-server on %s did not answer within 15s: %s", s.Addr, output.String())
}

// Kill ends the process as kill -9 does. It may be started again.
func (s *Server) Kill() {
	if s.cmd == nil || s.cmd.Process == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	s.cmd = nil
}

// Pause stops the process with SIGSTOP, as a frozen machine or a cut network looks to its clients.
func (s *Server) Pause() { _ = s.cmd.Process.Signal(syscall.SIGSTOP) }

// Resume continues a paused process.
func (s *Server) Resume() { _ = s.cmd.Process.Signal(syscall.SIGCONT) }

// URL is the server's address as a Redis URL.
func (s *Server) URL() string { return fmt.Sprintf("redis://%s/0", s.Addr) }

func freeAddr(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(listener.Addr().(*net.TCPAddr).Port))
}
