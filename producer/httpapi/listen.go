package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
)

// ListenOff in the place of an address is no address.
const ListenOff = "off"

// CheckListen refuses an address that cannot be read, and one that others than this machine could reach where nobody
// is asked for a key there: guarded says that somebody is. Empty and ListenOff are no address.
func CheckListen(address string, guarded bool) error {
	if address == "" || address == ListenOff {
		return nil
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("the address %q cannot be read: write a host and a port, such as 127.0.0.1:8080", address)
	}
	if guarded || host == "localhost" {
		return nil
	}
	if ip, err := netip.ParseAddr(host); err != nil || !ip.IsLoopback() {
		return fmt.Errorf("the address %q is not on loopback, and nobody is asked for a key there: listen on 127.0.0.1, and reach it from elsewhere through a tunnel", address)
	}
	return nil
}

// Listen takes an address that CheckListen allows.
func Listen(ctx context.Context, address string, guarded bool) (net.Listener, error) {
	if err := CheckListen(address, guarded); err != nil {
		return nil, err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		var network *net.OpError
		if errors.As(err, &network) {
			err = network.Err
		}
		return nil, fmt.Errorf("cannot listen on %s: %w; choose another address, or port 0 for a free one", address, err)
	}
	return listener, nil
}
