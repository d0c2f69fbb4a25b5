// Package address tells when the addresses of the host change.
package address

import (
	"context"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
)

// errClosed says that the kernel's messages have been lost, most likely because there were more
// than fit into the socket.
var errClosed = errors.New("the kernel's messages have been lost")

// Watch calls changed once when it has begun to listen, and then whenever an address has come or
// gone in the network namespace of the calling thread, until ctx ends; it returns nil then.
// After an error something may have been missed: look at all addresses and call it again.
func Watch(ctx context.Context, changed func()) error {
	updates, done := make(chan netlink.AddrUpdate, 64), make(chan struct{})
	failed := make(chan error, 1)
	report := func(err error) {
		select {
		case failed <- err:
		default:
		}
	}
	if err := netlink.AddrSubscribeWithOptions(updates, done, netlink.AddrSubscribeOptions{ErrorCallback: report}); err != nil {
		return fmt.Errorf("addresses: %w", err)
	}
	defer drain(updates)
	defer close(done)
	changed()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return fmt.Errorf("addresses: %w", err)
		case _, open := <-updates:
			if !open {
				return fmt.Errorf("addresses: %w", errClosed)
			}
			changed()
		}
	}
}

// drain waits until the sender has seen that nobody listens any more; it may be sending.
func drain(updates <-chan netlink.AddrUpdate) {
	for range updates {
		continue
	}
}
