package nft

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/proxy/plan"
)

// Keys of concatenations are made of registers of four bytes: a shorter field is
// followed by zeroes (nft_set_ext_key, NFT_REG32_SIZE in nf_tables.h).
const register = 4

// encode gives the set element of an object.
func encode(key plan.Key) []byte {
	switch key.Kind {
	case plan.Hairpin:
		addr := key.Endpoint.Addr().AsSlice()
		return append(addr, addr...)
	case plan.ServiceCIDR, plan.PodCIDR:
		return binary.NativeEndian.AppendUint32(key.Addr.AsSlice(), uint32(key.Bits))
	case plan.OwnedMark, plan.AffinityTimeout:
		return binary.NativeEndian.AppendUint32(nil, key.Mark)
	case plan.Pin:
		return encodePin(key)
	case plan.Pinned:
		return binary.NativeEndian.AppendUint32(binary.NativeEndian.AppendUint32(nil, key.Mark), key.Pin)
	case plan.FirewallAllow:
		element := append(encodePort(key), key.Endpoint.Addr().AsSlice()...)
		return binary.NativeEndian.AppendUint32(element, uint32(key.Bits))
	default:
		return encodePort(key)
	}
}

// encodePort gives `address . protocol . port`.
func encodePort(key plan.Key) []byte {
	element := append(key.Addr.AsSlice(), byte(key.Protocol), 0, 0, 0)
	return append(binary.BigEndian.AppendUint16(element, key.Port), 0, 0)
}

// element gives the element of an object with its value.
func element(key plan.Key, value plan.Value) nftables.SetElement {
	e := nftables.SetElement{Key: encode(key)}
	if key.Kind == plan.AffinityTimeout {
		e.VerdictData = remember(key, value)
		return e
	}
	if slices.Contains(mapKinds, key.Kind) {
		e.Val = binary.NativeEndian.AppendUint32(nil, value.Mark)
	}
	return e
}

// value gives the value of an object whose element this is.
func value(kind plan.Kind, e nftables.SetElement) plan.Value {
	if kind == plan.AffinityTimeout {
		return remembered(e.Val)
	}
	if slices.Contains(mapKinds, kind) && len(e.Val) == register {
		return plan.Value{Mark: binary.NativeEndian.Uint32(e.Val)}
	}
	return plan.Value{}
}

// decode gives the object of a set element.
func decode(kind plan.Kind, f family, element []byte) (plan.Key, error) {
	if len(element) != elementBytes(kind, f) {
		return plan.Key{}, fmt.Errorf("set %s: element %x of %d bytes", listName(kind, f), element, len(element))
	}
	switch kind {
	case plan.OwnedMark, plan.AffinityTimeout, plan.Pin, plan.Pinned:
		return decodeMark(kind, f, element), nil
	}
	addr, _ := netip.AddrFromSlice(element[:f.bytes])
	rest := element[f.bytes:]
	switch kind {
	case plan.Hairpin:
		return plan.Key{Kind: kind, Endpoint: netip.AddrPortFrom(addr, 0)}, nil
	case plan.ServiceCIDR, plan.PodCIDR:
		return plan.Key{Kind: kind, Addr: addr, Bits: uint8(binary.NativeEndian.Uint32(rest))}, nil
	}
	key := plan.Key{Kind: kind, Addr: addr, Protocol: model.Protocol(rest[0]), Port: binary.BigEndian.Uint16(rest[register:])}
	if kind == plan.FirewallAllow {
		from, _ := netip.AddrFromSlice(rest[2*register : 2*register+f.bytes])
		key.Endpoint = netip.AddrPortFrom(from, 0)
		key.Bits = uint8(binary.NativeEndian.Uint32(rest[2*register+f.bytes:]))
	}
	return key, nil
}

func elementBytes(kind plan.Kind, f family) int {
	switch kind {
	case plan.Hairpin:
		return 2 * f.bytes
	case plan.ServiceCIDR, plan.PodCIDR:
		return f.bytes + register
	case plan.OwnedMark, plan.AffinityTimeout:
		return register
	case plan.Pinned:
		return 2 * register
	case plan.Pin:
		return f.bytes + 2*register
	case plan.FirewallAllow:
		return 2*f.bytes + 3*register
	default:
		return f.bytes + 2*register
	}
}
