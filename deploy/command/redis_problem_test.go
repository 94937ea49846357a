package command

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/forebay-queue/forebay/deploy/config"
	"github.com/forebay-queue/forebay/tasks/redistest"
)

// listenAnd answers connections on a free port.
func listenAnd(t *testing.T, answer func(net.Conn)) (address string) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			answer(connection)
		}
	}()
	return listener.Addr().String()
}

// Whatever answers at the address: one line that says what it is and what to do about it.
func TestRedisThatIsNone(t *testing.T) {
	t.Parallel()
	_, server := redistest.Real(t)
	page := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(page.Close)
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	silent := listenAnd(t, func(c net.Conn) { _ = c.Close() })
	for name, test := range map[string]struct{ url, want string }{
		"no such database":    {"redis://" + server.Addr + "/99", server.Addr + "/99: ERR DB index is out of range; choose a database that it has, such as " + server.Addr + "/0, or raise its setting `databases`"},
		"a web server":        {"redis://" + page.Listener.Addr().String(), "/0: what answers there is not Redis; check host and port, or name another with --redis or FOREBAY_REDIS_URL"},
		"no TLS":              {"rediss://" + page.Listener.Addr().String(), "/0: tls: first record does not look like a TLS handshake; there is no TLS there, so write redis:// instead of rediss://, or check host and port"},
		"TLS only":            {"redis://" + secure.Listener.Addr().String(), "/0: it closed the connection without a word; check host and port, and write rediss:// instead of redis:// if it wants TLS"},
		"another's authority": {"rediss://" + secure.Listener.Addr().String(), "x509: certificate signed by unknown authority; check the host's name and its certificate"},
		"silence":             {"redis://" + silent, "/0: it closed the connection without a word; check host and port"},
		"nobody":              {"redis://127.0.0.1:1", "connect: connection refused; start it there, or name another with --redis or FOREBAY_REDIS_URL"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := inProcess(t, "", "status", "--redis", test.url)
			assert.Equal(t, exitFailed, got.status)
			assert.Contains(t, got.stderr, test.want)
			assert.Equal(t, 1, strings.Count(got.stderr, "\n"), got.stderr)
		})
	}
}

// A Redis without TLS hears the handshake as a command that is not complete, and waits for its end.
func TestRemedyForTLSThatNobodyAnswers(t *testing.T) {
	t.Parallel()
	late := fmt.Errorf("dial: %w", context.DeadlineExceeded)
	assert.Contains(t, redisRemedy(&redis.UniversalOptions{TLSConfig: &tls.Config{}}, late), "write redis:// instead of rediss:// if there is no TLS there")
	assert.Contains(t, redisRemedy(&redis.UniversalOptions{}, late), "check host, port and firewall")
	unknown := &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "nowhere", Server: "10.0.0.1:53"}}
	assert.Contains(t, redisRemedy(&redis.UniversalOptions{}, unknown), "check the host's name")
	assert.EqualError(t, redisProblem(unknown), "no such host")
}

func TestErrorsOfScriptsAreCondensed(t *testing.T) {
	t.Parallel()
	client, _ := redistest.Real(t)
	ctx := t.Context()
	require.NoError(t, client.Set(ctx, "text", "a", 0).Err())
	wrongType := client.Eval(ctx, "return redis.call('HGET', KEYS[1], 'a')", []string{"text"}).Err()
	broken := client.Eval(ctx, "return nil + 1", nil).Err()
	require.NoError(t, client.ConfigSet(ctx, "maxmemory", "1").Err())
	full := client.Eval(ctx, "return redis.call('SET', KEYS[1], 'a')", []string{"new"}).Err()
	for _, test := range []struct {
		err  error
		want string
	}{
		{full, "job a was not accepted: OOM command not allowed when used memory > 'maxmemory'; Redis is full, so raise its maxmemory, or shorten retentions and wait"},
		{wrongType, "job a was not accepted: WRONGTYPE Operation against a key holding the wrong kind of value; something else writes under the same prefix, so choose another redis.prefix or clear that one"},
		{broken, "job a was not accepted: ERR attempt to perform arithmetic on a nil value"},
		{io.ErrUnexpectedEOF, "job a was not accepted: unexpected EOF"},
	} {
		require.Error(t, test.err)
		var out strings.Builder
		assert.Equal(t, exitFailed, report(&out, fmt.Errorf("job a was not accepted: %w", test.err)))
		assert.Equal(t, "forebay: "+test.want+"\n", out.String())
	}
	denied := client.Set(ctx, "new", "a", 0).Err()
	assert.Equal(t, "job a: OOM command not allowed when used memory > 'maxmemory'; enqueue it again; "+remedies["OOM"],
		withoutScripts(fmt.Errorf("job a: %w; enqueue it again", denied)))
	// Also where somebody has made a text of the error on its way.
	assert.Equal(t, "a: OOM is all", withoutScripts(fmt.Errorf("a: %s", "OOM is all. script: 2b5e0c1f2b5e0c1f2b5e0c1f2b5e0c1f2b5e0c1f, on @user_script:12.")))
}

// Whatever is asked for is said in one line.
func TestAMasterThatNoSentinelKnows(t *testing.T) {
	t.Parallel()
	addrs, _ := redistest.Sentinel(t)
	got := inProcess(t, "", "status", "--redis", "redis-sentinel://"+strings.Join(addrs, ",")+"/0?master=nobody")
	assert.Equal(t, exitFailed, got.status)
	assert.Equal(t, "forebay: cannot reach Redis at nobody/0 by the Sentinels at "+strings.Join(addrs, ",")+": no Sentinel knows a master of that name; "+
		"check the Sentinels' addresses, and that they watch a master of the name nobody (SENTINEL MASTERS lists them)\n", got.stderr)
}

// A node that takes connections and says nothing keeps nobody from the cluster.
func TestANodeThatHangs(t *testing.T) {
	t.Parallel()
	_, nodes := redistest.Cluster(t)
	hung := listenAnd(t, func(c net.Conn) { go func() { _, _ = io.Copy(io.Discard, c) }() })
	for range 5 { // go-redis begins with any of them
		options, err := parseRedisURL("redis-cluster://"+hung+","+nodes[0].Addr, "the test")
		require.NoError(t, err)
		client, err := openRedis(t.Context(), options, 1)
		require.NoError(t, err)
		require.NoError(t, client.Close())
	}
}

// What the configuration trusts over TLS holds for a URL of the flag, too; its password does not.
func TestTheFlagsRedisIsTrustedAsTheConfigurationSays(t *testing.T) {
	t.Parallel()
	file, err := config.Load(simulatedFile(t))
	require.NoError(t, err)
	file.Redis.TLS.ServerName, file.Redis.PasswordEnv = "redis.internal", "NOBODY_HAS_SET_THIS"
	cmd, _ := newRoot()
	require.NoError(t, cmd.ParseFlags([]string{"--" + flagRedis, "rediss://127.0.0.1:1"}))
	options, err := redisOptions(cmd, file)
	require.NoError(t, err)
	assert.Equal(t, "redis.internal", options.TLSConfig.ServerName)
	assert.Empty(t, options.Password)
}
