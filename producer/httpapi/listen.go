package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net"
)

// ListenOff in the place of an address is no address.
const ListenOff = "off"

// CheckListen refuses an address that cannot be read. Empty and ListenOff are no address. Whether it may be one that
// other machines can reach is NewAuth's to say.
func CheckListen(address string) error {
	if address == "" || address == ListenOff {
		return nil
	}
	if _, _, err := net.SplitHostPort(address); err != nil {
		return fmt.Errorf("the address %q cannot be read: write a host and a port, such as 127.0.0.1:8080", address)
	}
	return nil
}

// Listen takes an address.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	if err := CheckListen(address); err != nil {
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
