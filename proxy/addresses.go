package proxy

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// nodeAddresses gives the host's addresses on which NodePorts are served: those in one of the
// allowed prefixes, or all if there is none, without loopback and link-local ones.
func nodeAddresses(allowed []netip.Prefix) ([]netip.Addr, error) {
	found, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("addresses of the node: %w", err)
	}
	return selectAddresses(found, allowed), nil
}

func selectAddresses(found []net.Addr, allowed []netip.Prefix) []netip.Addr {
	var selected []netip.Addr
	for _, address := range found {
		prefix, err := netip.ParsePrefix(address.String())
		if err != nil {
			continue // not an IP address
		}
		ip := prefix.Addr().Unmap()
		within := func(p netip.Prefix) bool { return p.Contains(ip) }
		if ip.IsGlobalUnicast() && (len(allowed) == 0 || slices.ContainsFunc(allowed, within)) {
			selected = append(selected, ip)
		}
	}
	slices.SortFunc(selected, netip.Addr.Compare)
	return slices.Compact(selected)
}
