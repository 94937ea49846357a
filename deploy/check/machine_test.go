package check_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestUnits has systemd read the units and judge how much they may: 0 is nothing, 10 everything.
func TestUnits(t *testing.T) {
	t.Parallel()
	analyze := tool(t, "systemd-analyze")
	dir := t.TempDir()
	units, err := filepath.Glob(filepath.Join(root, "deploy/systemd/*.service"))
	require.NoError(t, err)
	require.Len(t, units, 3)
	var names []string
	for _, unit := range units {
		content, err := os.ReadFile(unit)
		require.NoError(t, err)
		name := strings.Replace(filepath.Base(unit), "@.", "@9471.", 1)
		// verify wants the program to be there.
		text := strings.ReplaceAll(string(content), "/usr/local/bin/forebay", "/bin/true")
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
		names = append(names, "./"+name)
		for _, want := range []string{"User=forebay", "ProtectSystem=strict", "NoNewPrivileges=yes", "Restart=always"} {
			assert.Contains(t, text, "\n"+want+"\n", name)
		}
	}
	run := func(args ...string) {
		command := exec.CommandContext(t.Context(), analyze, append(args, names...)...)
		command.Dir = dir
		out, err := command.CombinedOutput()
		require.NoError(t, err, "%s %s: %s", analyze, args, out)
		if args[0] == "verify" {
			assert.Empty(t, string(out))
		}
	}
	run("verify", "--man=no")
	run("security", "--offline=true", "--threshold=20") // 2.0
}

// TestRedisConf starts a redis-server with the file, on a socket, and asks it what it has understood.
func TestRedisConf(t *testing.T) {
	t.Parallel()
	server := tool(t, "redis-server")
	dir, err := os.MkdirTemp("", "redis") // t.TempDir is too long for a socket
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	conf, err := filepath.Abs(filepath.Join(root, "deploy/redis/redis.conf"))
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	socket := filepath.Join(dir, "s")
	command := exec.CommandContext(ctx, server, conf, "--port", "0", "--unixsocket", socket, "--dir", dir)
	var log strings.Builder
	command.Stdout, command.Stderr = &log, &log
	require.NoError(t, command.Start())
	defer func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	}()
	var conn net.Conn
	for conn == nil {
		if conn, err = (&net.Dialer{}).DialContext(ctx, "unix", socket); err != nil {
			conn = nil
			select {
			case <-ctx.Done():
				require.FailNow(t, "redis-server does not start with redis.conf", "%s", log.String())
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	defer conn.Close()
	reply := bufio.NewScanner(conn)
	for name, want := range map[string]string{
		"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction", "maxmemory": "1073741824",
		"no-appendfsync-on-rewrite": "no", "timeout": "0",
	} {
		fmt.Fprintf(conn, "CONFIG GET %s\r\n", name)
		var lines []string
		for len(lines) < 5 && reply.Scan() {
			lines = append(lines, strings.TrimSpace(reply.Text()))
		}
		require.Len(t, lines, 5)
		assert.Equal(t, want, lines[4], name)
	}
}
