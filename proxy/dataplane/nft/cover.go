package nft

import (
	"net/netip"
	"slices"

	"github.com/google/nftables"
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
	last := p.Addr().AsSlice()
	for bit := p.Bits(); bit < len(last)*8; bit++ {
		last[bit/8] |= 0x80 >> (bit % 8)
	}
	addr, _ := netip.AddrFromSlice(last)
	return addr.Next()
}
