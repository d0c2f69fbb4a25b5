package nft

import (
	"encoding/binary"
	"fmt"
	"net/netip"

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
	default:
		element := append(key.Addr.AsSlice(), byte(key.Protocol), 0, 0, 0)
		return append(binary.BigEndian.AppendUint16(element, key.Port), 0, 0)
	}
}

// decode gives the object of a set element.
func decode(kind plan.Kind, f family, element []byte) (plan.Key, error) {
	if len(element) != elementBytes(kind, f) {
		return plan.Key{}, fmt.Errorf("set %s: element %x of %d bytes", listName(kind, f), element, len(element))
	}
	addr, _ := netip.AddrFromSlice(element[:f.bytes])
	rest := element[f.bytes:]
	switch kind {
	case plan.Hairpin:
		return plan.Key{Kind: kind, Endpoint: netip.AddrPortFrom(addr, 0)}, nil
	case plan.ServiceCIDR, plan.PodCIDR:
		return plan.Key{Kind: kind, Addr: addr, Bits: uint8(binary.NativeEndian.Uint32(rest))}, nil
	default:
		port := binary.BigEndian.Uint16(rest[register:])
		return plan.Key{Kind: kind, Addr: addr, Protocol: model.Protocol(rest[0]), Port: port}, nil
	}
}

func elementBytes(kind plan.Kind, f family) int {
	switch kind {
	case plan.Hairpin:
		return 2 * f.bytes
	case plan.ServiceCIDR, plan.PodCIDR:
		return f.bytes + register
	default:
		return f.bytes + 2*register
	}
}
