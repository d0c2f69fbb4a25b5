package ipvs

import (
	"encoding/binary"
	"iter"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/proxy/plan"
)

// attributes goes over the attributes in some octets, up to where they are cut off.
func attributes(data []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(data) >= unix.NLA_HDRLEN {
			length := int(binary.NativeEndian.Uint16(data))
			kind := binary.NativeEndian.Uint16(data[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
			if length < unix.NLA_HDRLEN || length > len(data) || !yield(kind, data[unix.NLA_HDRLEN:length]) {
				return
			}
			data = data[min((length+attributeAlign-1)&^(attributeAlign-1), len(data)):]
		}
	}
}

// nested gives the octets of an attribute of a message; nil if it has none.
func nested(payload []byte, kind uint16) []byte {
	if len(payload) < genericHeaderBytes {
		return nil
	}
	for k, data := range attributes(payload[genericHeaderBytes:]) {
		if k == kind {
			return data
		}
	}
	return nil
}

// number reads a number of the machine's order, however many octets it has.
func number(data []byte) uint64 {
	switch len(data) {
	case 2:
		return uint64(binary.NativeEndian.Uint16(data))
	case 4:
		return uint64(binary.NativeEndian.Uint32(data))
	case 8:
		return binary.NativeEndian.Uint64(data)
	}
	return 0
}

func port(data []byte) uint16 {
	if len(data) != 2 {
		return 0
	}
	return binary.BigEndian.Uint16(data)
}

// address reads an address from the room that the kernel has for either family.
func address(data []byte, ipv6 bool) netip.Addr {
	if !ipv6 && len(data) > 4 {
		data = data[:4]
	}
	addr, _ := netip.AddrFromSlice(data)
	return addr
}

// decodeService reads a virtual server; it is false if that has no address.
func decodeService(payload []byte) (plan.Key, plan.Value, bool) {
	key, value := plan.Key{Kind: plan.VirtualServer}, plan.Value{}
	var where []byte
	ipv6, mark := false, uint32(0)
	for kind, data := range attributes(nested(payload, attributeService)) {
		switch kind {
		case serviceFamily:
			ipv6 = number(data) == unix.AF_INET6
		case serviceProtocol:
			key.Protocol = model.Protocol(number(data))
		case serviceAddress:
			where = data
		case servicePort:
			key.Port = port(data)
		case serviceMark:
			mark = uint32(number(data))
		case serviceScheduler:
			value.Scheduler = unix.ByteSliceToString(data)
		case serviceFlags:
			if len(data) >= 4 {
				value.Flags = binary.NativeEndian.Uint32(data) &^ flagHashed
			}
		case serviceTimeout:
			value.Persistence = uint32(number(data))
		}
	}
	if mark != 0 {
		return plan.MarkKey(plan.VirtualServer, mark, ipv6), value, true
	}
	key.Addr = address(where, ipv6)
	return key, value, key.Addr.IsValid()
}

// decodeDest reads a real server of a virtual server; it is false if that has no address.
func decodeDest(payload []byte, virtual plan.Key) (key plan.Key, value plan.Value, holds Connections, ok bool) {
	var where []byte
	ipv6, number16 := virtual.IPv6(), uint16(0)
	for kind, data := range attributes(nested(payload, attributeDest)) {
		switch kind {
		case destFamily:
			ipv6 = number(data) == unix.AF_INET6
		case destAddress:
			where = data
		case destPort:
			number16 = port(data)
		case destForward:
			value.Forward = plan.Forward(number(data) & forwardMask)
		case destWeight:
			value.Weight = uint32(number(data))
		case destActive:
			holds.Active = uint32(number(data))
		case destInactive:
			holds.Inactive = uint32(number(data))
		case destCounters:
			holds.Counters = decodeCounters(data)
		}
	}
	addr := address(where, ipv6)
	key = virtual
	key.Kind, key.Endpoint = plan.RealServer, netip.AddrPortFrom(addr, number16)
	return key, value, holds, addr.IsValid()
}

func decodeCounters(data []byte) (c Counters) {
	for kind, data := range attributes(data) {
		switch kind {
		case counterConnections:
			c.Connections = number(data)
		case counterPacketsIn:
			c.PacketsIn = number(data)
		case counterPacketsOut:
			c.PacketsOut = number(data)
		case counterBytesIn:
			c.BytesIn = number(data)
		case counterBytesOut:
			c.BytesOut = number(data)
		}
	}
	return c
}
