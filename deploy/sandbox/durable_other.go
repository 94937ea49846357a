//go:build !unix

package sandbox

import (
	"context"
	"errors"
)

// startDurable needs sockets and locks that this system does not have.
func (s *Sandbox) startDurable(context.Context) error {
	return errors.New("keeping jobs is not available on this system; leave out --data, and give a Redis of your own with --redis")
}

// CanKeep tells whether Config.Data can be used on this machine.
func CanKeep() bool { return false }
