// Package targets says where a request may go whose address a user has chosen, such as that of a webhook: to the public
// Internet, and not to what only this machine or its network can reach.
//
// An address is looked at twice. Check refuses at the way in what can be known then. What decides is the Dialer's look at
// the very address that a connection is made to, after every name was resolved: a name that answers otherwise the second
// time, or a redirect, changes nothing about it.
package targets

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"code.dny.dev/ssrf"
	"golang.org/x/net/idna"
)

// ErrRefused is what every refusal wraps: the address is none that a request may go to.
var ErrRefused = errors.New("refused")

// The ports that a target may have unless a Config says otherwise.
var (
	securePorts = []uint16{443, 8443}
	plainPorts  = []uint16{80, 8080}
)

// longestURL is what browsers and proxies bear.
const longestURL = 2048

// connectWithin bounds a connection and its handshake, each.
const connectWithin = 10 * time.Second

// Config configures a Guard. The zero value allows https to public addresses, at the ports 443 and 8443.
type Config struct {
	// AllowHTTP lets targets be reached without TLS, too, at the ports 80 and 8080.
	AllowHTTP bool
	// Allow are the networks that may be reached although they are not public, at any port.
	Allow []netip.Prefix
	// Ports are those of public targets, in the place of the defaults.
	Ports []uint16
	// Resolver resolves names. Defaults to net.DefaultResolver.
	Resolver *net.Resolver
}

// Guard lets requests through to where they may go. It may be used by any number of goroutines.
type Guard struct {
	config Config
	public *ssrf.Guardian
}

// hosts reads names as browsers do; an underscore may stand in one.
var hosts = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.VerifyDNSLength(true), idna.StrictDomainName(false))

// azure is Azure's platform, which its machines reach at an address that is public by its form.
var azure = netip.MustParsePrefix("168.63.129.16/32")

// New returns a Guard.
func New(config Config) *Guard {
	if len(config.Ports) == 0 {
		config.Ports = slices.Clone(securePorts)
		if config.AllowHTTP {
			config.Ports = append(config.Ports, plainPorts...)
		}
	}
	return &Guard{config, ssrf.New(ssrf.WithDeniedV4Prefixes(azure))}
}

// Check refuses what can be known to be no target without asking anybody: its form, its scheme, its port, and an address
// that stands in it. The error says what is wrong with it, wraps ErrRefused, and does not repeat it: it may hold a secret.
func (g *Guard) Check(target string) error {
	if len(target) > longestURL {
		return refusal("has %d characters; it may have %d", len(target), longestURL)
	}
	parsed, err := url.Parse(target)
	if err != nil || parsed.Opaque != "" || parsed.Hostname() == "" || strings.ContainsAny(target, "\\ \t\r\n") {
		return refusal("is no URL such as https://example.com/hooks")
	}
	switch {
	case parsed.Scheme == "http" && !g.config.AllowHTTP:
		return refusal("must be https; the operator may allow http")
	case parsed.Scheme != "http" && parsed.Scheme != "https":
		return refusal("must begin with https://, not %.20q", parsed.Scheme+":")
	case parsed.User != nil:
		return refusal("has a user or a password in it; use a header or the signature")
	case parsed.Fragment != "":
		return refusal("has a fragment (#...), which no server sees")
	}
	return g.checkHost(parsed)
}

func (g *Guard) checkHost(parsed *url.URL) error {
	host, port := parsed.Hostname(), portOf(parsed)
	if port == 0 {
		return refusal("has no valid port")
	}
	if address, err := netip.ParseAddr(host); err == nil {
		if address.Zone() != "" {
			return refusal("has an address with a zone")
		}
		return g.Allowed(netip.AddrPortFrom(address, port))
	}
	name, err := hosts.ToASCII(strings.TrimSuffix(host, "."))
	if err != nil || name == "" || strings.Contains(host, "%") {
		return refusal("has a host that is no name")
	}
	name = strings.ToLower(name)
	switch {
	case endsInANumber(name):
		// Whatever a resolver takes such a thing for; https://url.spec.whatwg.org/#ends-in-a-number-checker.
		return refusal("has a host that is neither a name nor an address as it is usually written")
	case (name == "localhost" || strings.HasSuffix(name, ".localhost")) && !g.loopback():
		return refusal("is this machine (%s)", name)
	case len(g.config.Allow) == 0 && !slices.Contains(g.config.Ports, port):
		return refusal("has the port %d; it may be %s", port, portsText(g.config.Ports))
	}
	return nil
}

// loopback tells that some of this machine's own addresses may be reached.
func (g *Guard) loopback() bool {
	return slices.ContainsFunc(g.config.Allow, func(p netip.Prefix) bool { return p.Addr().IsLoopback() })
}

// Allowed refuses an address that no connection may be made to.
func (g *Guard) Allowed(to netip.AddrPort) error {
	address := to.Addr().Unmap()
	if slices.ContainsFunc(g.config.Allow, func(p netip.Prefix) bool { return p.Contains(address) }) {
		return nil
	}
	if !slices.Contains(g.config.Ports, to.Port()) {
		return refusal("has the port %d; it may be %s", to.Port(), portsText(g.config.Ports))
	}
	// As it was written: an IPv4 address within an IPv6 one is no public target.
	if err := g.public.SafeAddr(to.Addr()); err != nil {
		return refusal("leads to %s, which is not public; the operator may allow its network", to.Addr())
	}
	return nil
}

// Dialer makes connections to allowed addresses only: it looks at each address that is about to be connected to.
func (g *Guard) Dialer() *net.Dialer {
	return &net.Dialer{
		Timeout: connectWithin, Resolver: g.config.Resolver,
		Control: func(network, address string, _ syscall.RawConn) error {
			to, err := netip.ParseAddrPort(address)
			if err != nil || (network != "tcp4" && network != "tcp6") {
				return refusal("leads to %s %.60q", network, address)
			}
			return g.Allowed(to)
		},
	}
}

// Client makes requests to allowed addresses only, directly: a proxy would connect to what it was told. It follows no
// redirect, reads a header of up to 64 KiB, and keeps no connection for longer than 30s. The timeout is of a whole request.
func (g *Guard) Client(timeout time.Duration) *http.Client {
	return &http.Client{
		Timeout:       timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext: g.Dialer().DialContext, TLSHandshakeTimeout: connectWithin, ForceAttemptHTTP2: true,
			IdleConnTimeout: 30 * time.Second, MaxResponseHeaderBytes: 64 << 10, MaxIdleConnsPerHost: 4,
		},
	}
}

func refusal(format string, args ...any) error {
	return fmt.Errorf("the target is %w: it "+format, append([]any{ErrRefused}, args...)...)
}

// portOf is the port of a URL, also where it names none; 0 for none that is valid.
func portOf(u *url.URL) uint16 {
	text := u.Port()
	if text == "" {
		if strings.HasSuffix(u.Host, ":") {
			return 0
		}
		return map[string]uint16{"http": 80, "https": 443}[u.Scheme]
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || strconv.FormatUint(port, 10) != text {
		return 0
	}
	return uint16(port)
}

// endsInANumber tells that some would take a name for an address: by its last part.
func endsInANumber(name string) bool {
	last := name[strings.LastIndexByte(name, '.')+1:]
	if last == "" {
		return true
	}
	if strings.Trim(last, "0123456789") == "" {
		return true
	}
	digits, hex := strings.CutPrefix(last, "0x")
	return hex && strings.Trim(digits, "0123456789abcdef") == ""
}

func portsText(ports []uint16) string {
	texts := make([]string, len(ports))
	for i, port := range ports {
		texts[i] = strconv.Itoa(int(port))
	}
	return strings.Join(texts, ", ")
}
