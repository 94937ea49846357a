package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/forebay-queue/forebay/producer/httpapi"
)

// ListenOff as Config.Listen has nobody listened for.
const ListenOff = "off"

// CheckListen refuses an address that others than this machine could reach: nobody is asked for a password there yet.
// Empty is the default, ListenOff is no address.
func CheckListen(address string) error {
	if address == "" || address == ListenOff {
		return nil
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("the address %q cannot be read: write a host and a port, such as 127.0.0.1:8080", address)
	}
	if ip, err := netip.ParseAddr(host); host != "localhost" && (err != nil || !ip.IsLoopback()) {
		return fmt.Errorf("the address %q is not on loopback, and nobody is asked for a password there yet: listen on 127.0.0.1, and reach it from elsewhere through a tunnel", address)
	}
	return nil
}

// listen takes the address before anything else is started.
func (s *Sandbox) listen(ctx context.Context) error {
	if s.config.Listen == ListenOff {
		return nil
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", s.config.Listen)
	if err != nil {
		var network *net.OpError
		if errors.As(err, &network) {
			err = network.Err
		}
		return fmt.Errorf("cannot listen on %s: %w; choose another address, or port 0 for a free one", s.config.Listen, err)
	}
	s.listener = listener
	s.onClose(func(context.Context) error {
		_ = listener.Close() // its server has closed it, if it came to that
		return nil
	})
	return nil
}

// serveHTTP serves /healthz, /readyz and /v1/jobs/{id}.
func (s *Sandbox) serveHTTP(context.Context) error {
	if s.listener == nil {
		return nil
	}
	handler, err := httpapi.Handler(httpapi.Config{Client: s.Client})
	if err != nil {
		return err
	}
	s.HTTPURL = "http://" + s.listener.Addr().String()
	s.serve("the HTTP interface", s.listener, handler, nil)
	return nil
}
