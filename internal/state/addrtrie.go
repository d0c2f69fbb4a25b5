package state

import (
	"iter"
	"math/bits"
	"net/netip"
	"slices"
)

// addrMap is an immutable map from addresses to V. Unlike Map it keeps addresses in the
// order of their bits, four at a time, so it can also go over the addresses below a
// prefix, as the empty non-terminals of a reverse zone need it. Addresses that
// share a prefix share the path to it. The zero addrMap is empty. IPv4 addresses are
// held apart from IPv6 addresses.
type addrMap[V comparable] struct {
	v4 *addrBranch[[4]byte, V]
	v6 *addrBranch[[16]byte, V]
}

// addrBits are the bits of an address of one family.
type addrBits interface{ [4]byte | [16]byte }

// addrBranch has sixteen places, each of which is empty, an entry or a deeper branch. The
// entries and the branches that there are lie densely in the order of their places.
type addrBranch[K addrBits, V comparable] struct {
	// full and deeper tell which places have an entry and which a branch.
	full, deeper uint16
	entries      []addrEntry[K, V]
	branches     []*addrBranch[K, V]
	// by is the author of the branch, who alone may still change it; nil for nobody.
	by *author
}

type addrEntry[K addrBits, V comparable] struct {
	addr  K
	value V
}

// get gives the value of an address, or the zero value. It does not allocate.
func (m addrMap[V]) get(addr netip.Addr) V {
	if addr.Is4() {
		return m.v4.get(0, addr.As4())
	}
	return m.v6.get(0, addr.As16())
}

// set gives a map in which addr has value. What is the author's own is changed in place.
func (m addrMap[V]) set(addr netip.Addr, value V, by *author) addrMap[V] {
	if addr.Is4() {
		m.v4 = m.v4.with(0, addrEntry[[4]byte, V]{addr.As4(), value}, by)
	} else {
		m.v6 = m.v6.with(0, addrEntry[[16]byte, V]{addr.As16(), value}, by)
	}
	return m
}

// delete gives a map without addr. What is the author's own is changed in place.
func (m addrMap[V]) delete(addr netip.Addr, by *author) addrMap[V] {
	if addr.Is4() {
		m.v4 = m.v4.without(0, addr.As4(), by)
	} else {
		m.v6 = m.v6.without(0, addr.As16(), by)
	}
	return m
}

// in goes over the addresses in a prefix, whose length must be a multiple of four, in
// their order.
func (m addrMap[V]) in(prefix netip.Prefix) iter.Seq2[netip.Addr, V] {
	return func(yield func(netip.Addr, V) bool) {
		if addr := prefix.Addr(); addr.Is4() {
			m.v4.eachIn(addr.As4(), prefix, yield)
		} else {
			m.v6.eachIn(addr.As16(), prefix, yield)
		}
	}
}

// get gives the value of an address below a branch at a depth.
func (b *addrBranch[K, V]) get(depth int, addr K) (none V) {
	for ; b != nil; depth++ {
		bit := placeOf(addr, depth)
		if b.full&bit != 0 {
			if e := &b.entries[rank(b.full, bit)]; e.addr == addr {
				return e.value
			}
			return none
		}
		b = b.at(bit)
	}
	return none
}

// at gives the branch at a place, nil if there is none.
func (b *addrBranch[K, V]) at(bit uint16) *addrBranch[K, V] {
	if b.deeper&bit == 0 {
		return nil
	}
	return b.branches[rank(b.deeper, bit)]
}

// eachIn goes over the entries in a prefix that begins with the bits of addr.
func (b *addrBranch[K, V]) eachIn(addr K, prefix netip.Prefix, yield func(netip.Addr, V) bool) {
	for depth := 0; b != nil && depth < prefix.Bits()/4; depth++ {
		bit := placeOf(addr, depth)
		if b.full&bit != 0 {
			e := &b.entries[rank(b.full, bit)]
			if found := addrOf(e.addr); prefix.Contains(found) {
				yield(found, e.value)
			}
			return
		}
		b = b.at(bit)
	}
	b.each(yield)
}

func (b *addrBranch[K, V]) each(yield func(netip.Addr, V) bool) bool {
	if b == nil {
		return true
	}
	for bit := uint16(1); bit != 0; bit <<= 1 {
		if b.full&bit != 0 {
			e := &b.entries[rank(b.full, bit)]
			if !yield(addrOf(e.addr), e.value) {
				return false
			}
		} else if !b.at(bit).each(yield) {
			return false
		}
	}
	return true
}

func (b *addrBranch[K, V]) with(depth int, entry addrEntry[K, V], by *author) *addrBranch[K, V] {
	bit, own := placeOf(entry.addr, depth), b.ownOf(by)
	i := rank(own.full, bit)
	switch {
	case own.deeper&bit != 0:
		below := &own.branches[rank(own.deeper, bit)]
		*below = (*below).with(depth+1, entry, by)
	case own.full&bit == 0:
		own.full, own.entries = own.full|bit, slices.Insert(own.entries, i, entry)
	case own.entries[i].addr == entry.addr:
		own.entries[i] = entry
	default:
		below := (*addrBranch[K, V])(nil).with(depth+1, own.entries[i], by).with(depth+1, entry, by)
		own.full, own.entries = own.full&^bit, slices.Delete(own.entries, i, i+1)
		own.deeper, own.branches = own.deeper|bit, slices.Insert(own.branches, rank(own.deeper, bit), below)
	}
	return own
}

// without gives nil when the last entry goes.
func (b *addrBranch[K, V]) without(depth int, addr K, by *author) *addrBranch[K, V] {
	var none V
	if b.get(depth, addr) == none {
		return b
	}
	bit, own := placeOf(addr, depth), b.ownOf(by)
	i := rank(own.full, bit)
	if own.full&bit != 0 {
		own.full, own.entries = own.full&^bit, slices.Delete(own.entries, i, i+1)
		return own.orNil()
	}
	at := rank(own.deeper, bit)
	below := own.branches[at].without(depth+1, addr, by)
	if below != nil && (len(below.entries) != 1 || below.deeper != 0) {
		own.branches[at] = below
		return own
	}
	own.deeper, own.branches = own.deeper&^bit, slices.Delete(own.branches, at, at+1)
	if below != nil { // the one entry left moves up
		own.full, own.entries = own.full|bit, slices.Insert(own.entries, i, below.entries[0])
	}
	return own.orNil()
}

func (b *addrBranch[K, V]) orNil() *addrBranch[K, V] {
	if b.full|b.deeper == 0 {
		return nil
	}
	return b
}

// ownOf gives the branch itself if it is the author's, else a copy that is.
func (b *addrBranch[K, V]) ownOf(by *author) *addrBranch[K, V] {
	switch {
	case b == nil:
		return &addrBranch[K, V]{by: by}
	case by != nil && b.by == by:
		return b
	}
	return &addrBranch[K, V]{
		full: b.full, deeper: b.deeper, entries: slices.Clone(b.entries), branches: slices.Clone(b.branches), by: by,
	}
}

// placeOf gives the bit of the place that the four bits of an address at a depth name.
func placeOf[K addrBits](addr K, depth int) uint16 {
	octet := addr[depth/2]
	if depth%2 == 0 {
		octet >>= 4
	}
	return 1 << (octet & 15)
}

// rank gives how many of the places before one are taken.
func rank(taken, bit uint16) int { return bits.OnesCount16(taken & (bit - 1)) }

func addrOf[K addrBits](bits K) netip.Addr {
	var octets [16]byte
	for i := range len(bits) {
		octets[i] = bits[i]
	}
	addr, _ := netip.AddrFromSlice(octets[:len(bits)])
	return addr
}
