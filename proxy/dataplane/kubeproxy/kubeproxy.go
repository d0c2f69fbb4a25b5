// Package kubeproxy finds what kube-proxy has left in the kernel, and takes it away.
//
// It runs no program and touches nothing that is not named to it. What it finds and is told to
// remove are values of takeover, which decides. Sockets belong to the network namespace of the
// calling thread.
package kubeproxy

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/mooring-project/mooring/proxy/takeover"
)

// Look finds everything but virtual servers. Some addresses are held already.
func Look(ctx context.Context, held []netip.Addr) (takeover.Found, error) {
	found := takeover.Found{Held: held}
	for _, look := range []struct {
		what string
		at   func(context.Context, *takeover.Found) error
	}{
		{"addresses", lookAtDevices},
		{"sockets", lookAtSockets},
		{"nftables", lookAtTables},
		{"ipsets", lookAtSets},
		{"iptables-legacy", lookAtLegacy},
	} {
		if err := look.at(ctx, &found); err != nil {
			return found, fmt.Errorf("what kube-proxy has left: %s: %w", look.what, err)
		}
	}
	return found, nil
}

// Remove takes away the device, if it is to go, then rules and chains, then the sets these refer to.
// Addresses that are to be kept are put on our device before. It goes on after what goes wrong.
func Remove(ctx context.Context, steps takeover.Steps) error {
	var errs []error
	if steps.Device {
		errs = append(errs, moveAddresses(steps.Held()))
	}
	errs = append(errs, removeChains(ctx, steps), removeSets(ctx, steps.Sets))
	return errors.Join(errs...)
}

func moveAddresses(addresses []netip.Addr) error {
	if err := Hold(addresses); err != nil {
		return err
	}
	return RemoveDevice(takeover.Device)
}

// removalTimeout bounds the removal of one table's chains, of which mode iptables has tens of
// thousands in a large cluster.
const removalTimeout = time.Minute

// unmap gives an address of 4 octets for one that is IPv4 in IPv6's clothes.
func unmap(octets []byte) (netip.Addr, bool) {
	address, ok := netip.AddrFromSlice(octets)
	return address.Unmap(), ok
}
