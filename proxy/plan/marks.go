package plan

import (
	"fmt"
	"hash/fnv"
	"net/netip"

	"github.com/mooring-project/mooring/internal/model"
)

// Marks of second views. IPVS compares the whole mark of a packet with that of a virtual
// server, so from our rule before IPVS to the one behind it a packet has nothing but this
// number as its mark. The bits are those that the usual neighbours leave alone: Cilium and
// portmap, kube-proxy and ourselves take some of 8 to 15, Calico allots its bits from 16
// upwards, Tailscale has 16 to 23, the VPC CNI of AWS bit 7. What remains is 24 to 31, never
// all zero so that hand-made virtual servers by small marks are not met, and 0 to 6, of
// which the lowest two say the protocol: the kernel does not note it for such servers.
const (
	markShift     = 24
	slotBits      = 5
	slotShift     = 2
	protocolMask  = 1<<slotShift - 1
	numberOfSlots = 255 << slotBits
)

// MarkBits are the bits that marks of second views may have: no other mark of ours may be
// one of them.
const MarkBits = 0xff<<markShift | (1<<(slotBits+slotShift) - 1)

var markProtocols = [...]model.Protocol{1: model.TCP, 2: model.UDP, 3: model.SCTP}

// slotMark gives the mark of a slot, for a protocol.
func slotMark(slot uint32, protocol model.Protocol) uint32 {
	mark := (1+slot>>slotBits)<<markShift | slot%(1<<slotBits)<<slotShift
	for i, p := range markProtocols {
		if i > 0 && p == protocol {
			mark |= uint32(i)
		}
	}
	return mark
}

// MarkKey gives the key of an object of kind VirtualServer or OwnedMark for a mark. Its
// protocol is the one that marks of ours say.
func MarkKey(kind Kind, mark uint32, ipv6 bool) Key {
	key := Key{Kind: kind, Mark: mark, Addr: netip.IPv4Unspecified(), Protocol: markProtocols[mark&protocolMask]}
	if ipv6 {
		key.Addr = netip.IPv6Unspecified()
	}
	return key
}

// Marks allots firewall marks to second views, one to a port of a Service and family, and
// numbers from the same range to what affinity.go needs. Where
// a mark is put depends on the names alone unless two of them meet; then also on who came
// first, so that a mark once given stays, also across a restart: see Adopt.
//
// A nil *Marks gives marks that depend on the names alone, and two may meet. A Marks is not
// safe for concurrent use.
type Marks struct {
	views   map[model.ServiceKey]map[view]uint32
	taken   map[Key]struct{}
	adopted map[Key]uint32
	// reserved are the adopted marks.
	reserved map[Key]struct{}
}

// view is one port of a Service in one family, and what of it has the mark.
type view struct {
	port     string
	protocol model.Protocol
	ipv6     bool
	use      use
	// endpoint is that of a pin.
	endpoint netip.AddrPort
}

// use is what a mark is for.
type use uint8

const (
	secondView use = iota
	// clientsOfAll and clientsOfLocal are groups of clients: of all endpoints, or of those
	// of this node.
	clientsOfAll
	clientsOfLocal
	pin
)

// NewMarks gives Marks of which none is taken.
func NewMarks() *Marks {
	return &Marks{
		views: map[model.ServiceKey]map[view]uint32{}, taken: map[Key]struct{}{},
		adopted: map[Key]uint32{}, reserved: map[Key]struct{}{},
	}
}

// Adopt notes the marks of what has been observed, so that the same addresses get them again.
func (m *Marks) Adopt(observed Plan) {
	for key, value := range observed {
		switch key.Kind {
		case Split, Pin, Affinity, AffinityInside:
			m.adopted[key] = value.Mark
			m.reserved[MarkKey(VirtualServer, value.Mark, key.IPv6())] = struct{}{}
		}
	}
}

// Forget gives the marks of a Service back.
func (m *Marks) Forget(service model.ServiceKey) { m.keep(service, nil) }

// keep gives back the marks of a Service that are not among those in use.
func (m *Marks) keep(service model.ServiceKey, used map[view]uint32) {
	if m == nil {
		return
	}
	for v, mark := range m.views[service] {
		if _, still := used[v]; !still {
			delete(m.taken, MarkKey(VirtualServer, mark, v.ipv6))
		}
	}
	delete(m.views, service)
	if len(used) > 0 {
		m.views[service] = used
	}
}

// take gives the mark of a view; 0 if all are taken. The given objects would have it from
// before a restart.
func (m *Marks) take(service model.ServiceKey, v view, bearers []Key) uint32 {
	slot := preferred(service, v)
	if m == nil {
		return slotMark(slot, v.protocol)
	}
	if mark, has := m.views[service][v]; has {
		return mark
	}
	mark := m.inherited(v, bearers)
	if mark == 0 {
		mark = m.free(slot, v)
	}
	if mark == 0 {
		return 0
	}
	m.taken[MarkKey(VirtualServer, mark, v.ipv6)] = struct{}{}
	if m.views[service] == nil {
		m.views[service] = map[view]uint32{}
	}
	m.views[service][v] = mark
	return mark
}

// inherited gives the mark that one of some objects had before a restart.
func (m *Marks) inherited(v view, bearers []Key) uint32 {
	for _, bearer := range bearers {
		mark := m.adopted[bearer]
		key := MarkKey(VirtualServer, mark, v.ipv6)
		if _, taken := m.taken[key]; mark != 0 && !taken && key.Protocol == v.protocol {
			return mark
		}
	}
	return 0
}

// free gives a mark that nobody has, if possible one that nobody had before a restart.
func (m *Marks) free(first uint32, v view) uint32 {
	fallback := uint32(0)
	for i := range uint32(numberOfSlots) {
		mark := slotMark((first+i)%numberOfSlots, v.protocol)
		key := MarkKey(VirtualServer, mark, v.ipv6)
		if _, taken := m.taken[key]; taken {
			continue
		}
		if _, reserved := m.reserved[key]; !reserved {
			return mark
		}
		if fallback == 0 {
			fallback = mark
		}
	}
	return fallback
}

// preferred gives the slot in which to look for a mark first.
func preferred(service model.ServiceKey, v view) uint32 {
	hash := fnv.New32a()
	fmt.Fprintf(hash, "%s/%s/%d/%t", service, v.port, v.protocol, v.ipv6)
	if v.use != secondView {
		fmt.Fprintf(hash, "/%d/%s", v.use, v.endpoint)
	}
	return hash.Sum32() % numberOfSlots
}
