// Package address tells which addresses the host has, and when they change.
package address

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
)

// errClosed says that the kernel's messages have been lost, most likely because there were more
// than fit into the socket.
var errClosed = errors.New("the kernel's messages have been lost")

// List gives the addresses of all interfaces but some in the network namespace of the calling
// thread, in one exchange however many interfaces there are.
func List(except ...string) ([]net.Addr, error) {
	excepted := map[int]bool{}
	for _, name := range except {
		link, err := netlink.LinkByName(name)
		var none netlink.LinkNotFoundError
		switch {
		case err == nil:
			excepted[link.Attrs().Index] = true
		case !errors.As(err, &none):
			return nil, err
		}
	}
	all, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, err
	}
	addresses := make([]net.Addr, 0, len(all))
	for _, a := range all {
		if !excepted[a.LinkIndex] {
			addresses = append(addresses, a.IPNet)
		}
	}
	return addresses, nil
}

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
			if !open || !skip(updates) {
				return fmt.Errorf("addresses: %w", errClosed)
			}
			changed()
		}
	}
}

// skip takes what else has come already, thousands when kube-proxy's device goes: one look at the
// addresses is enough for all. It is false when the sender has ended.
func skip(updates <-chan netlink.AddrUpdate) bool {
	for {
		select {
		case _, open := <-updates:
			if !open {
				return false
			}
		default:
			return true
		}
	}
}

// drain waits until the sender has seen that nobody listens any more; it may be sending.
func drain(updates <-chan netlink.AddrUpdate) {
	for range updates {
		continue
	}
}
