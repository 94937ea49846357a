//go:build unix

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

const (
	// durableStart bounds the start of Redis, which reads all that is kept first.
	durableStart = 2 * time.Minute
	// durableEnd is how long it may take to end.
	durableEnd = 10 * time.Second
	// longestSocket is what the path of a socket may have everywhere.
	longestSocket = 100
)

// startDurable starts a redis-server of the sandbox's own, which keeps what it has in Config.Data. It is reached by a
// socket in a folder that is its user's alone, writes every change to its append-only file at once, and has that written
// to the disk every second: what was accepted survives the death of any process, but for the last second the power.
func (s *Sandbox) startDurable(ctx context.Context) error {
	server, err := redisServer()
	if err != nil {
		return err
	}
	dir, err := s.lockData()
	if err != nil {
		return err
	}
	socket, err := s.socketIn(dir)
	if err != nil {
		return err
	}
	client := redis.NewClient(&redis.Options{
		Network: "unix", Addr: socket, PoolSize: Connections(s.config.Workers, s.config.Slots, s.config.Shards),
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	if err := endOrphan(ctx, client, dir); err != nil {
		_ = client.Close()
		return err
	}
	log := filepath.Join(dir, "redis.log")
	started := s.runRedis(exec.Command(server, //nolint:noctx // it ends with Close, after everything else
		"--port", "0", "--unixsocket", socket, "--unixsocketperm", "700", "--dir", dir, "--daemonize", "no",
		"--appendonly", "yes", "--appendfsync", "everysec", "--aof-load-truncated", "yes", "--save", "",
		"--maxmemory-policy", "noeviction", "--logfile", log,
	), log)
	s.onClose(func(context.Context) error { return client.Close() })
	s.Redis, s.RedisURL, s.Durable = client, "unix://"+socket, true
	return awaitRedis(ctx, client, started, log)
}

// redisServer is the program that is installed.
func redisServer() (string, error) {
	for _, name := range []string{"redis-server", "valkey-server"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("keeping jobs needs a redis-server, and none is installed: install it (apt install redis-server, brew install redis), or leave out --data")
}

// CanKeep tells whether Config.Data can be used on this machine: whether a redis-server is installed.
func CanKeep() bool {
	_, err := redisServer()
	return err == nil
}

// lockData takes the folder for this process. The lock ends with the process, however that ends.
func (s *Sandbox) lockData() (string, error) {
	data, err := filepath.Abs(s.config.Data)
	if err != nil {
		return "", fmt.Errorf("find the folder %s: %w", s.config.Data, err)
	}
	dir := filepath.Join(data, "redis")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make the folder for the jobs: %w; name another with --data", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil { //nolint:gosec // a folder needs its x
		return "", fmt.Errorf("keep the folder for the jobs to its user: %w; name another with --data", err)
	}
	file, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return "", fmt.Errorf("lock the folder for the jobs: %w; name another with --data", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		holder := make([]byte, 20)
		n, _ := file.Read(holder)
		_ = file.Close()
		return "", fmt.Errorf("%s is in use by another process (%s); end that one, or name another folder with --data", data, strings.TrimSpace(string(holder[:n])))
	}
	s.onClose(func(context.Context) error { return file.Close() })
	if err := errors.Join(file.Truncate(0), writeAt(file, strconv.Itoa(os.Getpid())+"\n")); err != nil {
		return "", fmt.Errorf("lock the folder for the jobs: %w", err)
	}
	return dir, nil
}

func writeAt(file *os.File, text string) error {
	_, err := file.WriteAt([]byte(text), 0)
	return err
}

// socketIn is where Redis listens: in its folder, or where that has too long a path, in a temporary one.
func (s *Sandbox) socketIn(dir string) (string, error) {
	if socket := filepath.Join(dir, "redis.sock"); len(socket) <= longestSocket {
		return socket, nil
	}
	short, err := os.MkdirTemp("", "forebay-")
	if err != nil {
		return "", fmt.Errorf("make a folder for the socket of Redis: %w", err)
	}
	s.onClose(func(context.Context) error { return os.RemoveAll(short) }) // a folder of its own
	return filepath.Join(short, "redis.sock"), nil
}

// endOrphan ends a redis-server whose process was killed before it could: this one has the lock, so it is nobody's.
func endOrphan(ctx context.Context, client *redis.Client, dir string) error {
	for deadline := time.Now().Add(durableEnd); client.Ping(ctx).Err() == nil; time.Sleep(20 * time.Millisecond) {
		_ = client.Shutdown(ctx) // its connection breaks
		if time.Now().After(deadline) {
			return fmt.Errorf("a redis-server that an earlier process has left in %s does not end; end it by hand", dir)
		}
	}
	return ctx.Err()
}

// child is a redis-server that runs.
type child struct {
	ended chan struct{}
	err   error // why, once it has ended
}

// runRedis runs a redis-server until Close.
func (s *Sandbox) runRedis(command *exec.Cmd, log string) *child {
	command.SysProcAttr = childOf() // Ctrl-C is this process's, which ends it last
	c, started, closing := &child{ended: make(chan struct{})}, make(chan error, 1), make(chan struct{})
	go func() {
		defer close(c.ended)
		// The child ends with the thread that has started it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := command.Start()
		if started <- err; err == nil {
			err = command.Wait()
		}
		if err == nil {
			err = errors.New("exit status 0")
		}
		c.err = fmt.Errorf("redis-server has ended by itself: %w; see %s", err, log)
		select {
		case <-closing:
		case s.failed <- c.err:
		default: // nobody needs to be told twice
		}
	}()
	if <-started != nil {
		return c
	}
	s.onClose(func(context.Context) error {
		close(closing)
		_ = command.Process.Signal(syscall.SIGTERM) // it may have ended
		select {
		case <-c.ended:
		case <-time.After(durableEnd):
			_ = command.Process.Kill()
			<-c.ended
		}
		return nil
	})
	return c
}

// awaitRedis waits until all that is kept has been read.
func awaitRedis(ctx context.Context, client *redis.Client, server *child, log string) error {
	limit := time.NewTimer(durableStart)
	defer limit.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for client.Ping(ctx).Err() != nil {
		select {
		case <-server.ended:
			return server.err
		case <-ctx.Done():
			return ctx.Err()
		case <-limit.C:
			return fmt.Errorf("redis-server does not answer within %s; see %s", durableStart, log)
		case <-tick.C:
		}
	}
	return nil
}
