package httpapi

import (
	"net"
	"net/http"
	"net/netip"
)

// crossOrigin knows browsers' requests that come from pages of others.
var crossOrigin = http.NewCrossOriginProtection()

// proxyHeaders are what a proxy adds to requests that it hands on.
var proxyHeaders = []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-Ip", "Via"}

// checkOrigin refuses a request of a browser that another site may have had it make. Every browser says with what
// changes something where it comes from; one that does not is none that the cookie was given to.
func checkOrigin(r *http.Request) *apiError {
	said := r.Header.Get("Sec-Fetch-Site") != "" || r.Header.Get("Origin") != ""
	if err := crossOrigin.Check(r); err != nil || !said {
		return errCrossOrigin()
	}
	return nil
}

func errCrossOrigin() *apiError {
	return &apiError{
		status: http.StatusForbidden, code: "cross_origin",
		message: "a browser may change something here from this server's own pages only; programs send `Authorization: Bearer <key>`",
	}
}

// checkLocal is asked where nobody needs a key, because only this machine can reach the server: it refuses those who
// reach it all the same. They are other machines behind a proxy, and pages in a browser of this machine: a page of
// any site may have its own name resolve to 127.0.0.1, and is then told by the name it asks for.
func checkLocal(r *http.Request) *apiError {
	for _, name := range proxyHeaders {
		if r.Header.Get(name) != "" {
			return errNotLocal("came through a proxy")
		}
	}
	if address, err := netip.ParseAddrPort(r.RemoteAddr); err != nil || !address.Addr().Unmap().IsLoopback() {
		return errNotLocal("came from another machine")
	}
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if !isLocalHost(host) {
		return errNotLocal("asked for another host than localhost, 127.0.0.1 or [::1]")
	}
	if crossOrigin.Check(r) != nil {
		return errCrossOrigin()
	}
	return nil
}

func errNotLocal(reason string) *apiError {
	return &apiError{
		status: http.StatusForbidden, code: "key_required",
		message: "the request " + reason + ", and without API keys this machine alone is served: create one with `forebay keys create`",
	}
}

func isLocalHost(host string) bool {
	if host == "localhost" {
		return true
	}
	if len(host) > 2 && host[0] == '[' && host[len(host)-1] == ']' {
		host = host[1 : len(host)-1]
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// Loopback tells whether only this machine can reach an address, host:port.
func Loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	return err == nil && isLocalHost(host)
}
