package plan

import (
	"math"
	"net/netip"
	"time"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/policy"
)

// Session affinity. IPVS's persistence keeps a client for as long as a connection of its is
// remembered, two minutes after the last one closed at least, and for UDP as long as its flows
// are. So clients are remembered in a map of nftables, whose elements expire to the tick:
// `client . group -> mark`. The mark is that of a virtual server that has one endpoint alone, a
// pin. The first packet of a connection gets it before IPVS, if there is one, and if the
// endpoint still serves that group (Pinned); otherwise the virtual server of the address
// chooses. Behind IPVS the endpoint that was chosen is looked up (Pin), and the client
// remembered, for the group's AffinityTimeout.
//
// A group is all that one port of a Service has in common for its clients: which endpoints may
// be chosen, and how long they are kept. All addresses of the port share it, so a client finds
// its endpoint by whichever it comes. Under a policy Local there are two.
//
// Between the two places the group's number is the packet's priority, since IPVS compares all
// of the mark.

// Masqueraded is the bit that a group's number has while a packet of a connection that is to
// get the node's address is underway in IPVS. It is none of MarkBits.
const Masqueraded = 1 << 7

// affinity plans that clients of some addresses are kept at the endpoint that served them. It
// is false if they are not to be, or if there are no marks left for all endpoints.
func (s fragment) affinity(port model.ServicePort, fronts []front, kind Kind, local bool, selection policy.Selection) bool {
	if s.service.AffinityTimeout <= 0 {
		return false
	}
	ipv6 := fronts[0].key.IPv6()
	v := view{port: port.Name, protocol: port.Protocol, ipv6: ipv6, use: clientsOfAll}
	if local {
		v.use = clientsOfLocal
	}
	group := s.mark(v, keys(fronts, kind))
	pins, complete := s.pins(v, group, selection)
	if group == 0 || !complete {
		return false
	}
	for _, bit := range []uint32{0, Masqueraded} {
		s.plan[MarkKey(AffinityTimeout, group|bit, ipv6)] = Value{Timeout: seconds(s.service.AffinityTimeout)}
	}
	for endpoint, mark := range pins {
		s.pin(group, mark, endpoint)
	}
	for _, f := range fronts {
		s.plan[f.key.as(kind)] = Value{Mark: group}
	}
	return true
}

// pins gives the marks of endpoints, and whether every endpoint has one.
func (s fragment) pins(v view, group uint32, selection policy.Selection) (map[netip.AddrPort]uint32, bool) {
	pins := map[netip.AddrPort]uint32{}
	weights, _, _ := s.weighting(s.service)
	v.use = pin
	for _, verdict := range selection {
		// Whose weight is 0 takes nobody back either.
		if !verdict.Use || weights.of(verdict.Endpoint) == 0 {
			continue
		}
		v.endpoint = verdict.Target
		bearer := MarkKey(Pin, group, v.ipv6)
		bearer.Endpoint = verdict.Target
		mark := s.mark(v, []Key{bearer})
		if mark == 0 {
			return nil, false
		}
		pins[verdict.Target] = mark
	}
	return pins, true
}

// pin plans the virtual server that has one endpoint alone, and that clients are kept there.
func (s fragment) pin(group, mark uint32, endpoint netip.AddrPort) {
	ipv6 := endpoint.Addr().Is6()
	server := MarkKey(VirtualServer, mark, ipv6)
	s.plan[server], _ = s.scheduling(s.service, Value{Scheduler: s.Scheduler, Flags: s.SchedulerFlags})
	s.add(server.OwnedKey())
	real := server.as(RealServer)
	real.Endpoint = endpoint
	s.plan[real] = Value{Weight: 1, Forward: Masq}
	pin, pinned := MarkKey(Pin, group, ipv6), MarkKey(Pinned, group, ipv6)
	pin.Endpoint, pinned.Pin = endpoint, mark
	s.plan[pin] = Value{Mark: mark}
	s.add(pinned)
}

// mark takes a mark and notes it as used.
func (s fragment) mark(v view, bearers []Key) uint32 {
	mark := s.Marks.take(s.service.Key, v, bearers)
	if mark != 0 {
		s.views[v] = mark
	}
	return mark
}

// seconds gives what a set can hold; a day is the most that Kubernetes admits.
func seconds(d time.Duration) uint32 {
	return uint32(min(max(int64(d.Seconds()), 1), math.MaxInt32/1000))
}

// keys gives the objects of a kind of some addresses.
func keys(fronts []front, kind Kind) []Key {
	result := make([]Key, 0, len(fronts))
	for _, f := range fronts {
		result = append(result, f.key.as(kind))
	}
	return result
}
