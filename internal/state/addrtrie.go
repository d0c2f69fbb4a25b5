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
	v4, v6 *addrBranch[V]
}

// addrBranch holds its slots densely; used tells which of the sixteen places are taken.
type addrBranch[V comparable] struct {
	used  uint16
	slots []addrSlot[V]
}

// addrSlot is either an entry or, with child set, a deeper branch.
type addrSlot[V comparable] struct {
	child *addrBranch[V]
	addr  netip.Addr
	value V
}

func (m *addrMap[V]) root(addr netip.Addr) **addrBranch[V] {
	if addr.Is4() {
		return &m.v4
	}
	return &m.v6
}

// get gives the value of an address, or the zero value. It does not allocate.
func (m addrMap[V]) get(addr netip.Addr) (value V) {
	b := *m.root(addr)
	for depth := 0; b != nil; depth++ {
		i, taken := b.find(nibble(addr, depth))
		if !taken {
			return value
		}
		s := &b.slots[i]
		if s.child == nil {
			if s.addr == addr {
				return s.value
			}
			return value
		}
		b = s.child
	}
	return value
}

// in goes over the addresses in a prefix, whose length must be a multiple of four, in
// their order.
func (m addrMap[V]) in(prefix netip.Prefix) iter.Seq2[netip.Addr, V] {
	return func(yield func(netip.Addr, V) bool) {
		addr := prefix.Addr()
		b := *m.root(addr)
		for depth := 0; b != nil && depth < prefix.Bits()/4; depth++ {
			i, taken := b.find(nibble(addr, depth))
			if !taken {
				return
			}
			if s := &b.slots[i]; s.child == nil {
				if prefix.Contains(s.addr) {
					yield(s.addr, s.value)
				}
				return
			}
			b = b.slots[i].child
		}
		b.each(yield)
	}
}

func (b *addrBranch[V]) each(yield func(netip.Addr, V) bool) bool {
	if b == nil {
		return true
	}
	for i := range b.slots {
		s := &b.slots[i]
		if s.child != nil {
			if !s.child.each(yield) {
				return false
			}
		} else if !yield(s.addr, s.value) {
			return false
		}
	}
	return true
}

// set gives a map in which addr has value.
func (m addrMap[V]) set(addr netip.Addr, value V) addrMap[V] {
	root := m.root(addr)
	*root = (*root).with(0, addrSlot[V]{addr: addr, value: value})
	return m
}

// delete gives a map without addr.
func (m addrMap[V]) delete(addr netip.Addr) addrMap[V] {
	root := m.root(addr)
	*root = (*root).without(0, addr)
	return m
}

// compact gives an equal map whose branches have been made in one go: those that were made
// entry by entry lie scattered among the branches they took the place of, which keeps the
// collector from giving memory back.
func (m addrMap[V]) compact() addrMap[V] {
	return addrMap[V]{v4: m.v4.copied(), v6: m.v6.copied()}
}

func (b *addrBranch[V]) copied() *addrBranch[V] {
	if b == nil {
		return nil
	}
	slots := slices.Clone(b.slots)
	for i := range slots {
		slots[i].child = slots[i].child.copied()
	}
	return &addrBranch[V]{used: b.used, slots: slots}
}

// nibble gives the four bits of an address at a depth.
func nibble(addr netip.Addr, depth int) uint {
	var octet byte
	if addr.Is4() {
		bytes := addr.As4()
		octet = bytes[depth/2]
	} else {
		bytes := addr.As16()
		octet = bytes[depth/2]
	}
	if depth%2 == 0 {
		octet >>= 4
	}
	return uint(octet & 15)
}

func (b *addrBranch[V]) find(place uint) (index int, taken bool) {
	bit := uint16(1) << place
	return bits.OnesCount16(b.used & (bit - 1)), b.used&bit != 0
}

func (b *addrBranch[V]) with(depth int, entry addrSlot[V]) *addrBranch[V] {
	place := nibble(entry.addr, depth)
	if b == nil {
		return &addrBranch[V]{used: 1 << place, slots: []addrSlot[V]{entry}}
	}
	i, taken := b.find(place)
	if !taken {
		slots := make([]addrSlot[V], len(b.slots)+1)
		copy(slots, b.slots[:i])
		slots[i] = entry
		copy(slots[i+1:], b.slots[i:])
		return &addrBranch[V]{used: b.used | 1<<place, slots: slots}
	}
	old := b.slots[i]
	if old.child == nil && old.addr != entry.addr {
		old.child = (*addrBranch[V])(nil).with(depth+1, old)
	}
	if old.child != nil {
		entry = addrSlot[V]{child: old.child.with(depth+1, entry)}
	}
	return b.replace(i, entry)
}

func (b *addrBranch[V]) without(depth int, addr netip.Addr) *addrBranch[V] {
	if b == nil {
		return nil
	}
	place := nibble(addr, depth)
	i, taken := b.find(place)
	if !taken {
		return b
	}
	s := b.slots[i]
	if s.child == nil {
		if s.addr != addr {
			return b
		}
		return b.remove(i, place)
	}
	child := s.child.without(depth+1, addr)
	switch {
	case child == s.child:
		return b
	case child == nil:
		return b.remove(i, place)
	case len(child.slots) == 1 && child.slots[0].child == nil:
		return b.replace(i, child.slots[0]) // the one entry left moves up
	}
	return b.replace(i, addrSlot[V]{child: child})
}

func (b *addrBranch[V]) replace(i int, entry addrSlot[V]) *addrBranch[V] {
	slots := slices.Clone(b.slots)
	slots[i] = entry
	return &addrBranch[V]{used: b.used, slots: slots}
}

// remove gives nil when the last slot goes.
func (b *addrBranch[V]) remove(i int, place uint) *addrBranch[V] {
	if len(b.slots) == 1 {
		return nil
	}
	return &addrBranch[V]{used: b.used &^ (1 << place), slots: slices.Concat(b.slots[:i], b.slots[i+1:])}
}
