package plan

import (
	"bytes"
	"encoding/binary"
	"iter"
	"net/netip"
	"slices"

	"github.com/mooring-project/mooring/internal/model"
)

// There are very many objects, and a Key with its Value has 112 octets in which most fields are
// unused. Here they are packed into 24, for IPv4, without pointers, so that the garbage collector
// need not look at them.

// short is a Key of IPv4, or with a mark; long is any other one.
type (
	short [16]byte
	long  [48]byte
)

// Flags of a packed Key.
const (
	hasAddr = 1 << iota
	hasAddr6
	hasEndpoint
	hasEndpoint6
	hasMark
	hasPin
)

// pack gives the short form of a key, or the long one if it has no short one.
func pack(k Key) (s short, l long, isShort bool) {
	flags := flagsOf(k)
	s[0], s[1], s[2], s[3] = byte(k.Kind), flags, byte(k.Protocol), k.Bits
	binary.BigEndian.PutUint16(s[4:], k.Port)
	binary.BigEndian.PutUint16(s[6:], k.Endpoint.Port())
	if fits(k, flags) {
		if flags&hasMark != 0 {
			binary.BigEndian.PutUint32(s[8:], k.Mark)
		} else if flags&hasAddr != 0 {
			a := k.Addr.As4()
			copy(s[8:], a[:])
		}
		if flags&hasPin != 0 {
			binary.BigEndian.PutUint32(s[12:], k.Pin)
		} else if flags&hasEndpoint != 0 {
			a := k.Endpoint.Addr().As4()
			copy(s[12:], a[:])
		}
		return s, l, true
	}
	copy(l[:8], s[:8])
	binary.BigEndian.PutUint32(l[8:], k.Mark)
	binary.BigEndian.PutUint32(l[12:], k.Pin)
	putAddr(l[16:32], k.Addr)
	putAddr(l[32:], k.Endpoint.Addr())
	return s, l, false
}

func flagsOf(k Key) (flags byte) {
	set := func(is bool, flag byte) {
		if is {
			flags |= flag
		}
	}
	endpoint := k.Endpoint.Addr()
	set(k.Addr.IsValid(), hasAddr)
	set(k.Addr.Is6(), hasAddr6)
	set(endpoint.IsValid(), hasEndpoint)
	set(endpoint.Is6(), hasEndpoint6)
	set(k.Mark != 0, hasMark)
	set(k.Pin != 0, hasPin)
	return flags
}

// fits tells whether a key has a short form: a mark stands in the place of the address, which is
// unspecified then, and a pin in that of the endpoint.
func fits(k Key, flags byte) bool {
	switch {
	case flags&hasEndpoint6 != 0, flags&hasPin != 0 && flags&hasEndpoint != 0:
		return false
	case flags&hasMark != 0:
		return k.Addr.IsUnspecified()
	}
	return flags&hasAddr6 == 0
}

func putAddr(room []byte, addr netip.Addr) {
	if addr.IsValid() {
		a := addr.As16()
		copy(room, a[:])
	}
}

// header reads what both forms begin with.
func header(b []byte) (k Key, flags byte, port uint16) {
	k.Kind, k.Protocol, k.Bits, k.Port = Kind(b[0]), model.Protocol(b[2]), b[3], binary.BigEndian.Uint16(b[4:])
	return k, b[1], binary.BigEndian.Uint16(b[6:])
}

func (s *short) key() Key {
	k, flags, port := header(s[:])
	switch {
	case flags&hasMark != 0:
		k.Mark, k.Addr = binary.BigEndian.Uint32(s[8:]), netip.IPv4Unspecified()
		if flags&hasAddr6 != 0 {
			k.Addr = netip.IPv6Unspecified()
		}
	case flags&hasAddr != 0:
		k.Addr = netip.AddrFrom4([4]byte(s[8:12]))
	}
	var endpoint netip.Addr
	switch {
	case flags&hasPin != 0:
		k.Pin = binary.BigEndian.Uint32(s[12:])
	case flags&hasEndpoint != 0:
		endpoint = netip.AddrFrom4([4]byte(s[12:]))
	}
	k.Endpoint = netip.AddrPortFrom(endpoint, port)
	return k
}

func (l *long) key() Key {
	k, flags, port := header(l[:])
	k.Mark, k.Pin = binary.BigEndian.Uint32(l[8:]), binary.BigEndian.Uint32(l[12:])
	k.Addr = getAddr(l[16:32], flags&hasAddr != 0, flags&hasAddr6 != 0)
	k.Endpoint = netip.AddrPortFrom(getAddr(l[32:], flags&hasEndpoint != 0, flags&hasEndpoint6 != 0), port)
	return k
}

func getAddr(b []byte, is, is6 bool) netip.Addr {
	switch addr := netip.AddrFrom16([16]byte(b)); {
	case !is:
		return netip.Addr{}
	case is6:
		return addr
	default:
		return addr.Unmap()
	}
}

// A table is a map of Keys in little memory.
type table[V any] struct {
	short map[short]V
	long  map[long]V
}

func newTable[V any]() table[V] { return table[V]{make(map[short]V), make(map[long]V)} }

func (t table[V]) len() int { return len(t.short) + len(t.long) }

func (t table[V]) get(key Key) (value V, is bool) {
	s, l, isShort := pack(key)
	if isShort {
		value, is = t.short[s]
	} else {
		value, is = t.long[l]
	}
	return value, is
}

func (t table[V]) set(key Key, value V) {
	if s, l, isShort := pack(key); isShort {
		t.short[s] = value
	} else {
		t.long[l] = value
	}
}

func (t table[V]) delete(key Key) {
	if s, l, isShort := pack(key); isShort {
		delete(t.short, s)
	} else {
		delete(t.long, l)
	}
}

// each goes over the keys of some kinds, or of all if none is given.
func (t table[V]) each(kinds ...Kind) iter.Seq2[Key, V] {
	of := func(kind byte) bool { return len(kinds) == 0 || slices.Contains(kinds, Kind(kind)) }
	return func(yield func(Key, V) bool) {
		for s, value := range t.short {
			if of(s[0]) && !yield(s.key(), value) {
				return
			}
		}
		for l, value := range t.long {
			if of(l[0]) && !yield(l.key(), value) {
				return
			}
		}
	}
}

// packedValue is a Value: which field it has, in the upper octet, and that field; or the number of
// one that has several.
type packedValue uint64

const (
	packedZero = iota << 56
	packedWeight
	packedMark
	packedTimeout
	packedOther
	packedField = 1<<56 - 1
)

// values number the Values that have several fields, of which there are few. They are never
// forgotten.
type values struct {
	numbers map[Value]packedValue
	list    []Value
}

func (v *values) pack(value Value) packedValue {
	switch value {
	case Value{}:
		return packedZero
	case Value{Weight: value.Weight}:
		return packedWeight | packedValue(value.Weight)
	case Value{Mark: value.Mark}:
		return packedMark | packedValue(value.Mark)
	case Value{Timeout: value.Timeout}:
		return packedTimeout | packedValue(value.Timeout)
	}
	number, known := v.numbers[value]
	if !known {
		if v.numbers == nil {
			v.numbers = make(map[Value]packedValue)
		}
		number = packedOther | packedValue(len(v.list))
		v.numbers[value] = number
		v.list = append(v.list, value)
	}
	return number
}

func (v *values) value(p packedValue) Value {
	field := uint32(p & packedField)
	switch p &^ packedField {
	case packedZero:
		return Value{}
	case packedWeight:
		return Value{Weight: field}
	case packedMark:
		return Value{Mark: field}
	case packedTimeout:
		return Value{Timeout: field}
	}
	return v.list[field]
}

// packed is a small plan: records sorted by their keys.
type packed struct {
	short []record[short]
	long  []record[long]
}

type record[K any] struct {
	key   K
	value packedValue
}

func newPacked(p Plan, v *values) packed {
	var result packed
	shorts := 0
	for key := range p {
		if fits(key, flagsOf(key)) {
			shorts++
		}
	}
	if shorts > 0 {
		result.short = make([]record[short], 0, shorts)
	}
	if len(p) > shorts {
		result.long = make([]record[long], 0, len(p)-shorts)
	}
	for key, value := range p {
		if s, l, isShort := pack(key); isShort {
			result.short = append(result.short, record[short]{s, v.pack(value)})
		} else {
			result.long = append(result.long, record[long]{l, v.pack(value)})
		}
	}
	slices.SortFunc(result.short, func(a, b record[short]) int { return bytes.Compare(a.key[:], b.key[:]) })
	slices.SortFunc(result.long, func(a, b record[long]) int { return bytes.Compare(a.key[:], b.key[:]) })
	return result
}

func (p packed) get(key Key) (packedValue, bool) {
	s, l, isShort := pack(key)
	if isShort {
		i, is := slices.BinarySearchFunc(p.short, s, func(r record[short], s short) int { return bytes.Compare(r.key[:], s[:]) })
		if !is {
			return 0, false
		}
		return p.short[i].value, true
	}
	i, is := slices.BinarySearchFunc(p.long, l, func(r record[long], l long) int { return bytes.Compare(r.key[:], l[:]) })
	if !is {
		return 0, false
	}
	return p.long[i].value, true
}

// all goes over the keys and values.
func (p packed) all() iter.Seq2[Key, packedValue] {
	return func(yield func(Key, packedValue) bool) {
		for i := range p.short {
			if !yield(p.short[i].key.key(), p.short[i].value) {
				return
			}
		}
		for i := range p.long {
			if !yield(p.long[i].key.key(), p.long[i].value) {
				return
			}
		}
	}
}
