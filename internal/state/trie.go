package state

import (
	"hash/maphash"
	"iter"
	"math/bits"
	"slices"
)

// A Map is an immutable map: set and delete give a new one that shares all but one
// path with the old (a hash array mapped trie, Bagwell 2001). So a commit costs the
// same whether the cluster has ten Services or a hundred thousand, readers need no
// lock, and comparing two maps skips everything they share. The zero Map is empty.
// Values are compared with ==, so pointers serve best.
type Map[K, V comparable] struct {
	root *branch[K, V]
	size int
}

const (
	fanBits  = 4 // sixteen slots a branch: shallow enough, and a path copy stays small
	fanMask  = 1<<fanBits - 1
	hashBits = 64
)

// branch holds its slots densely; used tells which of the sixteen places are taken.
// Below the last bit of the hash a branch is a plain list of colliding keys.
type branch[K, V comparable] struct {
	used  uint16
	slots []slot[K, V]
	// by is the author of the branch, who alone may still change it; nil for nobody.
	by *author
}

// An author is whoever makes many changes that nobody sees before they are all made: the
// branches that are the author's own are changed in place, and not copied for each change.
// It has an octet, since things without size may have equal addresses.
type author struct{ _ byte }

// slot is either an entry or, with child set, a deeper branch.
type slot[K, V comparable] struct {
	child *branch[K, V]
	key   K
	value V
}

var (
	seed = maphash.MakeSeed()
	// hashMask is all ones; tests clear bits of it to make hashes collide.
	hashMask = ^uint64(0)
)

func hashOf[K comparable](key K) uint64 { return maphash.Comparable(seed, key) & hashMask }

// Len gives the number of entries.
func (m Map[K, V]) Len() int { return m.size }

// Get gives the value of a key and whether there is one. It does not allocate.
func (m Map[K, V]) Get(key K) (value V, found bool) {
	hash := hashOf(key)
	b := m.root
	for depth := 0; b != nil; depth += fanBits {
		i, taken := b.find(hash, depth, key)
		if !taken {
			return value, false
		}
		s := &b.slots[i]
		if s.child == nil {
			if s.key != key {
				return value, false
			}
			return s.value, true
		}
		b = s.child
	}
	return value, false
}

// set gives a map in which key has value.
func (m Map[K, V]) set(key K, value V, by *author) Map[K, V] {
	root, added := m.root.with(hashOf(key), 0, slot[K, V]{key: key, value: value}, by)
	if added {
		m.size++
	}
	m.root = root
	return m
}

// delete gives a map without key.
func (m Map[K, V]) delete(key K, by *author) Map[K, V] {
	if _, found := m.Get(key); found {
		m.size--
		m.root = m.root.without(hashOf(key), 0, key, by)
	}
	return m
}

// All goes over the entries in no particular order.
func (m Map[K, V]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) { m.root.each(yield) }
}

// Diff goes over the keys whose values differ between old and m, with both values;
// a missing one is the zero value. It visits only what the maps do not share.
func (m Map[K, V]) Diff(old Map[K, V], visit func(key K, before, after V)) {
	diffBranches(old.root, m.root, 0, visit)
}

// find gives the index at which key's slot is, or would be, and whether it is taken.
func (b *branch[K, V]) find(hash uint64, depth int, key K) (index int, taken bool) {
	if depth >= hashBits {
		i := slices.IndexFunc(b.slots, func(s slot[K, V]) bool { return s.key == key })
		if i < 0 {
			return len(b.slots), false
		}
		return i, true
	}
	bit := uint16(1) << (hash >> depth & fanMask)
	return bits.OnesCount16(b.used & (bit - 1)), b.used&bit != 0
}

func (b *branch[K, V]) with(hash uint64, depth int, entry slot[K, V], by *author) (own *branch[K, V], added bool) {
	own = b.ownOf(by)
	i, taken := own.find(hash, depth, entry.key)
	if !taken {
		own.used, own.slots = own.used|placeBit(hash, depth), slices.Insert(own.slots, i, entry)
		return own, true
	}
	old := own.slots[i]
	switch {
	case old.child != nil:
		entry.child, added = old.child.with(hash, depth+fanBits, entry, by)
		entry = slot[K, V]{child: entry.child}
	case old.key != entry.key:
		below, _ := (*branch[K, V])(nil).with(hashOf(old.key), depth+fanBits, old, by)
		below, _ = below.with(hash, depth+fanBits, entry, by)
		entry, added = slot[K, V]{child: below}, true
	}
	own.slots[i] = entry
	return own, added
}

// without removes a key that is there. It gives nil when the last slot goes.
func (b *branch[K, V]) without(hash uint64, depth int, key K, by *author) *branch[K, V] {
	own := b.ownOf(by)
	i, _ := own.find(hash, depth, key)
	if s := own.slots[i]; s.child != nil {
		child := s.child.without(hash, depth+fanBits, key, by)
		switch {
		case child == nil:
		case len(child.slots) == 1 && child.slots[0].child == nil:
			own.slots[i] = child.slots[0] // the one entry left moves up
			return own
		default:
			own.slots[i].child = child
			return own
		}
	}
	if len(own.slots) == 1 {
		return nil
	}
	own.used, own.slots = own.used&^placeBit(hash, depth), slices.Delete(own.slots, i, i+1)
	return own
}

// ownOf gives the branch itself if it is the author's, else a copy that is.
func (b *branch[K, V]) ownOf(by *author) *branch[K, V] {
	switch {
	case b == nil:
		return &branch[K, V]{by: by}
	case by != nil && b.by == by:
		return b
	}
	return &branch[K, V]{used: b.used, slots: slices.Clone(b.slots), by: by}
}

// placeBit is 0 in a list of colliding keys, which has no places.
func placeBit(hash uint64, depth int) uint16 {
	if depth >= hashBits {
		return 0
	}
	return 1 << (hash >> depth & fanMask)
}

func (b *branch[K, V]) each(yield func(K, V) bool) bool {
	if b == nil {
		return true
	}
	for _, s := range b.slots {
		if s.child != nil {
			if !s.child.each(yield) {
				return false
			}
		} else if !yield(s.key, s.value) {
			return false
		}
	}
	return true
}

// diffBranches compares two branches of the same place in the trie.
func diffBranches[K, V comparable](old, new *branch[K, V], depth int, visit func(K, V, V)) {
	if old == new {
		return
	}
	if old == nil || new == nil || depth >= hashBits {
		diffEntries(old, new, visit)
		return
	}
	for taken := old.used | new.used; taken != 0; taken &= taken - 1 {
		bit := taken & -taken
		before, after := old.at(bit), new.at(bit)
		if len(before) == 1 && len(after) == 1 && before[0].child != nil && after[0].child != nil {
			diffBranches(before[0].child, after[0].child, depth+fanBits, visit)
			continue
		}
		diffEntries(&branch[K, V]{slots: before}, &branch[K, V]{slots: after}, visit)
	}
}

// at gives the slot of one place, as a list of one or none.
func (b *branch[K, V]) at(bit uint16) []slot[K, V] {
	if b.used&bit == 0 {
		return nil
	}
	i := bits.OnesCount16(b.used & (bit - 1))
	return b.slots[i : i+1]
}

// diffEntries compares all entries below two branches, for the few places where the
// shapes of the two differ.
func diffEntries[K, V comparable](old, new *branch[K, V], visit func(K, V, V)) {
	var none V
	before := make(map[K]V)
	old.each(func(k K, v V) bool { before[k] = v; return true })
	new.each(func(k K, after V) bool {
		value, existed := before[k]
		if !existed || value != after {
			visit(k, value, after)
		}
		delete(before, k)
		return true
	})
	for k, value := range before {
		visit(k, value, none)
	}
}
