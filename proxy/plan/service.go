package plan

import (
	"net/netip"
	"slices"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/policy"
	"github.com/mooring-project/mooring/internal/state"
)

// Context is what a plan depends on besides the Services: the node and the
// configuration. A new Context means planning every Service anew.
type Context struct {
	Place policy.Place
	// NodeAddresses are the addresses on which this node serves NodePorts.
	NodeAddresses []netip.Addr
	// PodCIDRs are the sources that reach cluster addresses unmasqueraded; empty means
	// that nothing is known of pods and no cluster traffic is masqueraded, as
	// kube-proxy does without a local detector.
	PodCIDRs []netip.Prefix
	// Scheduler is the IPVS scheduler of every virtual server.
	Scheduler string
	// SchedulerFlags are the flags of that scheduler (IP_VS_SVC_F_SCHED*, ip_vs.h).
	SchedulerFlags uint32
	// LacksScheduler has the schedulers that the kernel turned out not to have.
	LacksScheduler map[string]bool
	// ProxyName is the service-proxy-name that this proxy answers to; normally empty.
	ProxyName string
	// LocalhostNodePorts has NodePorts answer on the loopback addresses too.
	LocalhostNodePorts bool
	// ExternalIPs has spec.externalIPs served (kube-proxy's gate AllowServiceExternalIPs).
	ExternalIPs bool
	// Marks allots the marks of second views; what it gives is remembered in it.
	Marks *Marks
}

// persistent is IP_VS_SVC_F_PERSISTENT (include/uapi/linux/ip_vs.h).
const persistent = 0x1

// Cluster gives the part of the plan that belongs to no Service.
func (c Context) Cluster(snapshot *state.Snapshot) Plan {
	p := Plan{}
	if c.ProxyName == "" { // else the proxy of the Services without a name says what becomes of the rest
		for _, prefix := range snapshot.ServiceCIDRs() {
			p[PrefixKey(ServiceCIDR, prefix)] = Value{}
		}
	}
	for _, prefix := range c.PodCIDRs {
		p[PrefixKey(PodCIDR, prefix)] = Value{}
	}
	return p
}

// Skip says why a Service is not this proxy's business; empty if it is.
func (c Context) Skip(service *model.Service) string {
	switch {
	case service.ProxyName != c.ProxyName:
		return "left to the proxy named " + service.ProxyName
	case service.Headless:
		return "headless: has no address of its own"
	case service.Type == model.ExternalName:
		return "ExternalName: is an alias in DNS"
	case len(service.ClusterIPs) == 0:
		return "has no ClusterIP yet"
	}
	return ""
}

// Service gives the part of the plan that one Service asks for. When a Service is gone, its
// marks are to be given back: see Marks.Forget.
func (c Context) Service(entry *state.Service) Plan {
	if entry == nil {
		return Plan{}
	}
	s := fragment{Context: c, entry: entry, service: entry.Service, plan: make(Plan, usual(entry)), views: map[view]uint32{}}
	if c.Skip(entry.Service) == "" {
		for _, port := range entry.Service.Ports {
			for _, address := range fit(entry.Service.ClusterIPs, unfitClusterIP) {
				s.internal(port, address)
				s.external(port, address.Is6())
			}
		}
	}
	c.Marks.keep(entry.Service.Key, s.views)
	return s.plan
}

// usual gives how many objects most Services have that have as many endpoints and addresses.
func usual(entry *state.Service) int {
	endpoints := 0
	for _, slice := range entry.Slices {
		endpoints += len(slice.Endpoints)
	}
	return len(entry.Service.Ports) * (3*len(entry.Service.ClusterIPs) + endpoints)
}

// fragment is the plan of one Service in the making.
type fragment struct {
	Context
	entry   *state.Service
	service *model.Service
	plan    Plan
	// views has the marks in use.
	views map[view]uint32
}

// front is an address on which a Service is served. The key is that of its virtual server.
type front struct {
	key Key
	// diverted is true for addresses that are not the node's.
	diverted bool
}

// internal plans one port of one ClusterIP.
func (s fragment) internal(port model.ServicePort, address netip.Addr) {
	f := front{key: Key{Kind: VirtualServer, Protocol: port.Protocol, Port: port.Port, Addr: address}, diverted: true}
	traffic := s.service.InternalTrafficPolicy
	selection := s.selection(port, address.Is6(), traffic)
	switch {
	case selection.Any():
		kept := s.affinity(port, []front{f}, Affinity, traffic == model.Local, selection)
		s.serve(f.key, selection, kept)
		s.lead(f)
	case traffic == model.Local && s.selection(port, address.Is6(), model.Cluster).Any():
		s.add(f.key.as(Drop))
	default:
		s.add(f.key.as(Reject))
	}
}

// external plans one port on the addresses of one family that are for the outside too.
func (s fragment) external(port model.ServicePort, ipv6 bool) {
	fronts := s.fronts(port, ipv6)
	if len(fronts) == 0 {
		return
	}
	s.firewall(port, ipv6)
	all := s.selection(port, ipv6, model.Cluster)
	switch {
	case !all.Any():
		for _, f := range fronts {
			s.add(f.key.as(Reject))
		}
		return
	case s.service.ExternalTrafficPolicy == model.Local:
		s.externalLocal(port, fronts, all)
	default:
		kept := s.affinity(port, fronts, Affinity, false, all)
		for _, f := range fronts {
			s.serve(f.key, all, kept)
			s.lead(f)
			s.add(f.key.as(Masquerade))
		}
	}
	s.relay(port, fronts)
}

// externalLocal plans addresses of externalTrafficPolicy Local: the outside sees the
// endpoints of this node alone, and they see its source; pods and the node see all.
func (s fragment) externalLocal(port model.ServicePort, fronts []front, all policy.Selection) {
	ipv6 := fronts[0].key.IPv6()
	v := view{port: port.Name, protocol: port.Protocol, ipv6: ipv6}
	mark := s.Marks.take(s.service.Key, v, keys(fronts, Split))
	if mark != 0 {
		s.views[v] = mark
		s.serve(MarkKey(VirtualServer, mark, ipv6), all, s.affinity(port, fronts, AffinityInside, false, all))
	}
	local := s.selection(port, ipv6, model.Local)
	kept := local.Any() && s.affinity(port, fronts, Affinity, true, local)
	for _, f := range fronts {
		s.lead(f)
		if mark != 0 {
			s.plan[f.key.as(Split)] = Value{Mark: mark}
		}
		if !local.Any() {
			s.add(f.key.as(DropOutside))
			continue
		}
		s.serve(f.key, local, kept)
		s.add(f.key.as(KeepSource))
	}
}

// fronts gives the addresses of one family on which a port is served to the outside.
func (s fragment) fronts(port model.ServicePort, ipv6 bool) []front {
	var fronts []front
	add := func(addresses []netip.Addr, number uint16, diverted bool) {
		for _, address := range addresses {
			if address.Is6() == ipv6 {
				key := Key{Kind: VirtualServer, Protocol: port.Protocol, Port: number, Addr: address}
				fronts = append(fronts, front{key: key, diverted: diverted})
			}
		}
	}
	if port.NodePort != 0 {
		add(s.NodeAddresses, port.NodePort, false)
	}
	if s.ExternalIPs {
		add(fit(s.service.ExternalIPs, policy.Unfit), port.Port, true)
	}
	add(fit(s.service.LoadBalancerIPs, policy.Unfit), port.Port, true)
	return fronts
}

// firewall plans who may use the addresses of load balancers. Ranges of the other family say
// nothing about this one, as with kube-proxy.
func (s fragment) firewall(port model.ServicePort, ipv6 bool) {
	var ranges []netip.Prefix
	for _, prefix := range s.service.LoadBalancerSourceRanges {
		if prefix.Addr().Is6() == ipv6 {
			ranges = append(ranges, prefix.Masked())
		}
	}
	if slices.ContainsFunc(ranges, func(p netip.Prefix) bool { return p.Bits() == 0 }) {
		return // everybody
	}
	for _, address := range s.service.LoadBalancerIPs {
		if address.Is6() != ipv6 || len(ranges) == 0 {
			continue
		}
		key := Key{Kind: Firewall, Protocol: port.Protocol, Port: port.Port, Addr: address}
		s.add(key)
		for _, prefix := range ranges {
			allow := key.as(FirewallAllow)
			allow.Endpoint, allow.Bits = netip.AddrPortFrom(prefix.Addr(), 0), uint8(prefix.Bits())
			s.add(allow)
		}
	}
}

// relay plans the listener that passes a NodePort on the loopback address on.
func (s fragment) relay(port model.ServicePort, fronts []front) {
	first := fronts[0].key
	if !s.LocalhostNodePorts || fronts[0].diverted || port.Protocol == model.SCTP {
		return
	}
	relay := first.as(Relay)
	relay.Addr, relay.Endpoint = loopback(first.IPv6()), netip.AddrPortFrom(first.Addr, first.Port)
	s.add(relay)
}

// selection decides about the endpoints of one port and family under a policy.
func (s fragment) selection(port model.ServicePort, ipv6 bool, traffic model.TrafficPolicy) policy.Selection {
	return policy.Select(s.entry.Slices, port, ipv6, traffic, s.Place)
}

// serve plans a virtual server with the endpoints that serve. If clients are to be kept, and
// not by pins, IPVS keeps them.
func (s fragment) serve(server Key, selection policy.Selection, kept bool) {
	// What is wrong with an annotation is told by Problems; the default stays then.
	value, _ := s.scheduling(s.service, Value{Scheduler: s.Scheduler, Flags: s.SchedulerFlags})
	if s.service.AffinityTimeout > 0 && !kept {
		value.Flags, value.Persistence = value.Flags|persistent, uint32(s.service.AffinityTimeout.Seconds())
	}
	weights, _, _ := s.weighting(s.service)
	s.plan[server] = value
	s.add(server.OwnedKey())
	for _, v := range selection {
		if !v.Use {
			continue
		}
		real := server.as(RealServer)
		real.Endpoint = v.Target
		s.plan[real] = Value{Weight: weights.of(v.Endpoint), Forward: Masq}
		if v.Endpoint.Node() == s.Place.Node {
			s.add(Key{Kind: Hairpin, Endpoint: netip.AddrPortFrom(v.Endpoint.Addr, 0)})
		}
	}
}

// lead plans that packets to an address that is not the node's reach IPVS.
func (s fragment) lead(f front) {
	if f.diverted {
		s.add(f.key.as(Divert))
	}
}

// add plans an object that has no value.
func (s fragment) add(key Key) { s.plan[key] = Value{} }

// as gives the key of another kind for the same address, port and protocol.
func (k Key) as(kind Kind) Key {
	k.Kind = kind
	return k
}

func loopback(ipv6 bool) netip.Addr {
	if ipv6 {
		return netip.IPv6Loopback()
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1})
}
