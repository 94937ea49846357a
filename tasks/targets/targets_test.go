package targets

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/net/dns/dnsmessage"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// privates are addresses that no request may reach: each is tried as it is, mapped into IPv6, behind NAT64 and 6to4, and
// as what a name resolves to.
var privates = []string{
	"127.0.0.1", "127.1.2.3", "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.254", "192.168.0.1",
	"192.168.255.255", "169.254.169.254", "169.254.170.2", "100.64.0.1", "100.100.100.200", "100.127.255.255", "192.0.0.1", "192.0.0.192",
	"192.0.2.1", "198.51.100.7", "203.0.113.9", "198.18.0.1", "198.19.255.255", "192.88.99.1", "224.0.0.1", "239.255.255.250",
	"240.0.0.1", "255.255.255.255", "168.63.129.16", "192.31.196.1", "192.52.193.1", "192.175.48.1",
}

// private6 are such addresses of IPv6.
var private6 = []string{
	"::1", "::", "fe80::1", "fec0::1", "fc00::1", "fd00:ec2::254", "fd12:3456:789a::1", "ff02::1", "ff05::1:3", "2001:db8::1", "3fff::1",
	"2001::1", "2001:0:7f00:1::", "2001:10::1", "2001:20::1", "100::1", "5f00::1", "64:ff9b:1::1", "::ffff:0:127.0.0.1", "::127.0.0.1",
	"2620:4f:8000::1",
}

// hostile are targets that a part of some program would take for one of them.
var hostile = []string{
	"http://2130706433/", "http://017700000001/", "http://0x7f000001/", "http://0x7F.1/", "http://127.1/", "http://127.0.1/", "http://0177.0.0.1/",
	"http://0x7f.0x0.0x0.0x1/", "http://127.0.0.1./", "http://127.0.0.01/", "http://127.0.0.0x1/", "http://3232235521/", "http://0/", "http://00/",
	"http://1/", "http://0x/", "http://0xa9fea9fe/", "http://169.254.43518/", "http://0251.0376.0251.0376/", "http://2852039166/", "http://169.16689662/",
	"http://425.510.425.510/", "http://256.0.0.1/", "http://1.2.3.4.5/", "http://１２７.０.０.１/", "http://127。0。0。1/", "http://①②⑦.⓪.⓪.①/",
	"http://localhost/", "http://LOCALHOST./", "http://a.localhost/", "http://ｌｏｃａｌｈｏｓｔ/", "http://localhost:80/",
	"http://user@example.com/", "http://user:pass@example.com/", "http://example.com@127.0.0.1/", "http://127.0.0.1@example.com/", "http://@example.com/",
	"http://example.com#@127.0.0.1/", "http://example.com\\@127.0.0.1/", "http:\\\\127.0.0.1\\", "http:///127.0.0.1/", "http://", "http:127.0.0.1",
	"//127.0.0.1/", "/hooks", "example.com/hooks", "", " http://example.com/", "http://example.com /", "http://exa mple.com/", "http://example.com\r\nx: y/",
	"http://example.com\t/", "http://[::1/", "http://[fe80::1%25eth0]/", "http://[::1%25lo]/", "http://[127.0.0.1]/", "http://[v1.x]/", "http://[]/",
	"http://%31%32%37.0.0.1/", "http://127.0.0.1%00.example.com/", "http://example.com%2f@127.0.0.1/", "http://./", "http://../", "http://..example.com/",
	"http://example.com:0/", "http://example.com:/", "http://example.com:080/", "http://example.com:99999/", "http://example.com:22/", "http://example.com:6379/",
	"http://example.com:25/", "http://example.com:9200/", "http://example.com:-1/", "http://8.8.8.8:6379/", "http://example.com:http/",
	"ftp://example.com/", "file:///etc/passwd", "gopher://example.com/", "dict://example.com:11211/", "ldap://example.com/", "unix:///var/run/docker.sock",
	"javascript:alert(1)", "data:text/plain,x", "jar:http://example.com!/", "HTTP+unix://example.com/", "ws://example.com/", "redis://example.com/",
	"http://" + strings.Repeat("a", 2048) + ".com/", "http://" + strings.Repeat("a", 64) + ".com/", "http://xn--/", "http://\u202eexample.com/", "http://exam\u00adple\u2024.com:81/",
}

// names answers every name by what it is told.
type names struct {
	answers func(asked int64) netip.Addr
	asked   atomic.Int64
}

// resolver asks a server of names on loopback.
func (n *names) resolver(t *testing.T) *net.Resolver {
	t.Helper()
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		buffer := make([]byte, 1500)
		for {
			count, from, err := server.ReadFrom(buffer)
			if err != nil {
				return
			}
			if reply, ok := n.reply(buffer[:count]); ok {
				_, _ = server.WriteTo(reply, from)
			}
		}
	}()
	t.Cleanup(func() { _ = server.Close(); <-done })
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", server.LocalAddr().String())
	}}
}

func (n *names) reply(question []byte) ([]byte, bool) {
	var message dnsmessage.Message
	if message.Unpack(question) != nil || len(message.Questions) == 0 {
		return nil, false
	}
	asked := message.Questions[0]
	message.Response, message.Authoritative, message.Additionals = true, true, nil
	header := dnsmessage.ResourceHeader{Name: asked.Name, Class: dnsmessage.ClassINET, TTL: 0}
	address := n.answers(n.asked.Load())
	switch {
	case asked.Type == dnsmessage.TypeA && address.Is4():
		n.asked.Add(1)
		message.Answers = []dnsmessage.Resource{{Header: header, Body: &dnsmessage.AResource{A: address.As4()}}}
	case asked.Type == dnsmessage.TypeAAAA && address.Is6():
		n.asked.Add(1)
		message.Answers = []dnsmessage.Resource{{Header: header, Body: &dnsmessage.AAAAResource{AAAA: address.As16()}}}
	}
	reply, err := message.Pack()
	return reply, err == nil
}

// everyForm is an address and those that lead to it.
func everyForm(address string) []netip.Addr {
	four := netip.MustParseAddr(address)
	bytes := four.As4()
	nat64 := netip.MustParseAddr(fmt.Sprintf("64:ff9b::%02x%02x:%02x%02x", bytes[0], bytes[1], bytes[2], bytes[3]))
	sixToFour := netip.MustParseAddr(fmt.Sprintf("2002:%02x%02x:%02x%02x::1", bytes[0], bytes[1], bytes[2], bytes[3]))
	return []netip.Addr{four, netip.AddrFrom16(four.As16()), nat64, sixToFour}
}

// No hostile target is reached: not as it is written, and not as what a name leads to.
func TestHostileTargets(t *testing.T) {
	t.Parallel()
	guard := New(Config{AllowHTTP: true})
	tried := 0
	for _, target := range hostile {
		err := guard.Check(target)
		require.ErrorIs(t, err, ErrRefused, "%q", target)
		require.NotContains(t, err.Error(), "user:pass")
		tried++
	}
	var addresses []netip.Addr
	for _, address := range privates {
		addresses = append(addresses, everyForm(address)...)
	}
	for _, address := range private6 {
		addresses = append(addresses, netip.MustParseAddr(address))
	}
	var current atomic.Pointer[netip.Addr]
	leads := &names{answers: func(int64) netip.Addr { return *current.Load() }}
	guard = New(Config{AllowHTTP: true, Resolver: leads.resolver(t)})
	client := guard.Client(10 * time.Second)
	defer client.CloseIdleConnections()
	for _, address := range addresses {
		target := "http://" + netip.AddrPortFrom(address, 80).String() + "/"
		require.ErrorIs(t, guard.Check(target), ErrRefused, target)
		require.ErrorIs(t, get(t, client, target), ErrRefused, target)
		require.ErrorIs(t, guard.Allowed(netip.AddrPortFrom(address, 443)), ErrRefused, target)
		tried++
		if address.Is4In6() {
			continue // no server of names answers so
		}
		current.Store(&address)
		require.ErrorIs(t, get(t, client, "http://receiver.example/"), ErrRefused, "what leads to %s", address)
		tried++
	}
	require.Greater(t, tried, 300)
	t.Logf("%d hostile targets, none reached", tried)
}

func get(t *testing.T, client *http.Client, target string) error {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, target, strings.NewReader("x"))
	require.NoError(t, err)
	answer, err := client.Do(request)
	if err == nil {
		_ = answer.Body.Close()
	}
	return err
}

// Ordinary public targets are not refused.
func TestPublicTargets(t *testing.T) {
	t.Parallel()
	guard := New(Config{AllowHTTP: true})
	for _, target := range []string{
		"https://example.com", "https://example.com/", "https://hooks.example.com/a/b?c=d&e=%20f", "https://example.com:443/x", "https://example.com:8443/",
		"http://example.com/", "http://example.com:8080/", "HTTPS://EXAMPLE.COM/", "https://example.com./x", "https://xn--bcher-kva.example/", "https://bücher.example/",
		"https://例え.テスト/", "https://8.8.8.8/", "https://1.1.1.1:8443/", "https://[2606:4700:4700::1111]/", "https://[2001:4860:4860::8888]:8443/",
		"https://a-b.c--d.example/", "https://1password.com/", "https://3com.com/", "https://localhost.example/", "https://notlocalhost/", "https://127.0.0.1.nip.example/",
		"https://0xdeadbeef.example/", "https://x.y.z.example/~u/;p=1", "https://172.15.0.1/", "https://172.32.0.1/", "https://100.63.255.255/", "https://100.128.0.1/",
		"https://9.255.255.255/", "https://11.0.0.1/", "https://198.17.0.1/", "https://198.20.0.1/", "https://223.255.255.254/", "https://192.0.1.1/", "https://169.253.0.1/",
		"https://[2a00:1450:4001:81b::200e]/", "https://[2400:cb00::1]/", "https://192.167.1.1/", "https://168.63.129.17/", "https://126.255.255.255/", "https://128.0.0.1/",
	} {
		require.NoError(t, guard.Check(target), target)
	}
	for _, address := range []string{"8.8.8.8", "1.1.1.1", "93.184.215.14", "2606:4700:4700::1111", "172.15.255.255", "100.128.0.1"} {
		require.NoError(t, guard.Allowed(netip.AddrPortFrom(netip.MustParseAddr(address), 443)))
	}
}

func TestOnlyHTTPSUnlessAllowed(t *testing.T) {
	t.Parallel()
	guard := New(Config{})
	require.ErrorContains(t, guard.Check("http://example.com/"), "must be https")
	require.ErrorContains(t, guard.Check("https://example.com:80/"), "it may be 443, 8443")
	require.NoError(t, guard.Check("https://example.com/"))
	guard = New(Config{Ports: []uint16{9443}})
	require.Error(t, guard.Check("https://example.com/"))
	require.NoError(t, guard.Check("https://example.com:9443/"))
	require.Error(t, guard.Allowed(netip.MustParseAddrPort("8.8.8.8:443")))
}

// What the operator allows is reached, at any port, and nothing beside it.
func TestAllowedNetworks(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://169.254.169.254/latest/meta-data/", http.StatusFound)
	}))
	defer server.Close()
	guard := New(Config{AllowHTTP: true, Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}})
	require.NoError(t, guard.Check(server.URL))
	require.NoError(t, guard.Check(strings.Replace(server.URL, "127.0.0.1", "localhost", 1)))
	require.NoError(t, guard.Check("http://receiver:9000/"), "it may be one of the allowed ones")
	require.Error(t, guard.Check("http://127.0.0.2:9000/"))
	require.Error(t, guard.Check("http://10.0.0.1/"))
	client := guard.Client(10 * time.Second)
	defer client.CloseIdleConnections()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, nil)
	require.NoError(t, err)
	answer, err := client.Do(request)
	require.NoError(t, err)
	_ = answer.Body.Close()
	require.Equal(t, http.StatusFound, answer.StatusCode, "a redirect is an answer, and not followed")
}

// A name that led to a public address when it was checked, and leads elsewhere when it is dialled.
func TestRebinding(t *testing.T) {
	t.Parallel()
	var reached atomic.Bool
	inside := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Store(true) }))
	defer inside.Close()
	flips := &names{answers: func(asked int64) netip.Addr {
		return netip.MustParseAddr([]string{"8.8.8.8", "127.0.0.1"}[min(asked, 1)])
	}}
	resolver := flips.resolver(t)
	_, port, err := net.SplitHostPort(inside.Listener.Addr().String())
	require.NoError(t, err)
	var at uint16
	_, err = fmt.Sscan(port, &at)
	require.NoError(t, err)
	guard := New(Config{AllowHTTP: true, Resolver: resolver, Ports: []uint16{at}})
	target := "http://rebinding.example:" + port + "/"
	require.NoError(t, guard.Check(target))
	first, err := resolver.LookupNetIP(t.Context(), "ip4", "rebinding.example")
	require.NoError(t, err)
	require.NoError(t, guard.Allowed(netip.AddrPortFrom(first[0], at)), "what a check before the call sees")
	client := guard.Client(10 * time.Second)
	defer client.CloseIdleConnections()
	require.ErrorIs(t, get(t, client, target), ErrRefused)
	require.False(t, reached.Load())
}

// Whatever is checked neither panics nor passes with an address inside.
func FuzzCheck(f *testing.F) {
	for _, target := range hostile {
		f.Add(target)
	}
	guard := New(Config{AllowHTTP: true})
	f.Fuzz(func(t *testing.T, target string) {
		if err := guard.Check(target); err != nil {
			require.ErrorIs(t, err, ErrRefused)
			return
		}
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
		require.NoError(t, err, "what passes is a request")
		if address, err := netip.ParseAddr(request.URL.Hostname()); err == nil {
			require.True(t, address.IsGlobalUnicast() && !address.IsPrivate() && !address.IsLoopback())
		}
	})
}
