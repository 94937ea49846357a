package command

import (
	"bufio"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// A Redis that was started a moment ago still loads its data, and is asked again.
func TestConnectingWaitsForARedisThatLoads(t *testing.T) {
	t.Parallel()
	server, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer server.Close()
	var pings atomic.Int64
	go func() {
		for {
			conn, err := server.Accept()
			if err != nil {
				return
			}
			go answerPings(conn, func() string {
				if pings.Add(1) < 4 {
					return "-LOADING Redis is loading the dataset in memory\r\n"
				}
				return "+PONG\r\n"
			})
		}
	}()
	options, err := parseRedisURL("redis://"+server.Addr().String()+"/0?protocol=2", "the test")
	require.NoError(t, err)
	client, err := openRedis(t.Context(), options, 1)
	require.NoError(t, err)
	require.NoError(t, client.Close())
	require.Equal(t, int64(4), pings.Load())
}

// answerPings answers every PING, and everything else that a client says at first with an error.
func answerPings(conn net.Conn, pong func() string) {
	defer conn.Close()
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		word := strings.ToLower(lines.Text())
		var answer string
		switch word {
		case "ping":
			answer = pong()
		case "hello", "client":
			answer = "-ERR unknown command\r\n"
		default:
			continue
		}
		if _, err := io.WriteString(conn, answer); err != nil {
			return
		}
	}
}
