package nft

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/google/nftables"

	"github.com/mooring-project/mooring/proxy/plan"
)

// cover gives the prefixes that contain all others: prefixes either nest or are
// apart, so these cover the same addresses without overlap.
func cover(prefixes []netip.Prefix) []netip.Prefix {
	sorted := slices.Clone(prefixes)
	slices.SortFunc(sorted, netip.Prefix.Compare)
	var result []netip.Prefix
	for _, p := range sorted {
		if n := len(result); n > 0 && result[n-1].Contains(p.Addr()) {
			continue
		}
		result = append(result, p)
	}
	return result
}

// interval gives the elements of an interval set that stand for a prefix: its first
// address, and the first one after it marked as the end. A prefix that reaches the
// end of the address space has no end element.
func interval(p netip.Prefix) []nftables.SetElement {
	elements := []nftables.SetElement{{Key: p.Addr().AsSlice()}}
	if end := after(p); end.IsValid() {
		elements = append(elements, nftables.SetElement{Key: end.AsSlice(), IntervalEnd: true})
	}
	return elements
}

// after gives the first address behind a prefix, or none.
func after(p netip.Prefix) netip.Addr {
	addr, _ := netip.AddrFromSlice(last(p))
	return addr.Next()
}

// last gives the last address of a prefix.
func last(p netip.Prefix) []byte {
	addr := p.Addr().AsSlice()
	for bit := p.Bits(); bit < len(addr)*8; bit++ {
		addr[bit/8] |= 0x80 >> (bit % 8)
	}
	return addr
}

// admitted gives the elements of the interval set of all FirewallAllows of a family: one
// for each Service port and prefix that no other one of that port contains.
func admitted(p plan.Plan, f family) []nftables.SetElement {
	sources := map[plan.Key][]netip.Prefix{}
	for key := range p {
		if key.Kind == plan.FirewallAllow && key.IPv6() == f.ipv6 {
			port := key.VirtualServerKey()
			port.Bits = 0
			sources[port] = append(sources[port], key.Prefix())
		}
	}
	var result []nftables.SetElement
	for _, port := range slices.SortedFunc(maps.Keys(sources), plan.Key.Compare) {
		for _, prefix := range cover(sources[port]) {
			begin := encodePort(port)
			result = append(result, nftables.SetElement{
				Key: append(begin, prefix.Addr().AsSlice()...), KeyEnd: append(encodePort(port), last(prefix)...),
			})
		}
	}
	return result
}
