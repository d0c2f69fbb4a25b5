package plan

import (
	"net/netip"

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
	// ProxyName is the service-proxy-name that this proxy answers to; normally empty.
	ProxyName string
	// LocalhostNodePorts has NodePorts answer on the loopback addresses too.
	LocalhostNodePorts bool
}

// persistent is IP_VS_SVC_F_PERSISTENT (include/uapi/linux/ip_vs.h).
const persistent = 0x1

// Cluster gives the part of the plan that belongs to no Service.
func (c Context) Cluster(snapshot *state.Snapshot) Plan {
	p := Plan{}
	for _, prefix := range snapshot.ServiceCIDRs() {
		p[PrefixKey(ServiceCIDR, prefix)] = Value{}
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

// Service gives the part of the plan that one Service asks for.
func (c Context) Service(entry *state.Service) Plan {
	p := Plan{}
	if entry == nil || c.Skip(entry.Service) != "" {
		return p
	}
	for _, port := range entry.Service.Ports {
		for _, address := range entry.Service.ClusterIPs {
			c.clusterIP(p, entry, port, address)
			if port.NodePort != 0 {
				c.nodePort(p, entry, port, address.Is6())
			}
		}
	}
	return p
}

// clusterIP plans one port of one ClusterIP.
func (c Context) clusterIP(p Plan, entry *state.Service, port model.ServicePort, address netip.Addr) {
	server := Key{Kind: VirtualServer, Protocol: port.Protocol, Port: port.Port, Addr: address}
	selection := policy.Select(entry.Slices, port, address.Is6(), entry.Service.InternalTrafficPolicy, c.Place)
	if !c.serve(p, entry.Service, server, selection) {
		return
	}
	p[server.as(Divert)] = Value{}
	for _, v := range selection {
		if v.Use && v.Endpoint.Node == c.Place.Node {
			p[Key{Kind: Hairpin, Endpoint: netip.AddrPortFrom(v.Endpoint.Addr, 0)}] = Value{}
		}
	}
}

// nodePort plans one NodePort on the node's addresses of one family, and its relay.
func (c Context) nodePort(p Plan, entry *state.Service, port model.ServicePort, ipv6 bool) {
	traffic := entry.Service.ExternalTrafficPolicy
	selection := policy.Select(entry.Slices, port, ipv6, traffic, c.Place)
	relayed := false
	for _, address := range c.NodeAddresses {
		if address.Is6() != ipv6 {
			continue
		}
		server := Key{Kind: VirtualServer, Protocol: port.Protocol, Port: port.NodePort, Addr: address}
		if !c.serve(p, entry.Service, server, selection) {
			continue
		}
		if traffic == model.Cluster {
			p[server.as(Masquerade)] = Value{}
		}
		if c.LocalhostNodePorts && !relayed && port.Protocol != model.SCTP {
			relay := Key{Kind: Relay, Protocol: port.Protocol, Port: port.NodePort, Addr: loopback(ipv6)}
			relay.Endpoint = netip.AddrPortFrom(address, port.NodePort)
			p[relay] = Value{}
			relayed = true
		}
	}
}

// serve plans a virtual server with the endpoints that serve, or a refusal if none does,
// and tells which.
func (c Context) serve(p Plan, service *model.Service, server Key, selection policy.Selection) bool {
	targets := selection.Targets()
	if len(targets) == 0 {
		p[server.as(Reject)] = Value{}
		return false
	}
	value := Value{Scheduler: c.Scheduler}
	if service.AffinityTimeout > 0 {
		value.Flags, value.Persistence = persistent, uint32(service.AffinityTimeout.Seconds())
	}
	p[server] = value
	p[server.as(Owned)] = Value{}
	for _, target := range targets {
		real := server.as(RealServer)
		real.Endpoint = target
		p[real] = Value{Weight: 1, Forward: Masq}
	}
	return true
}

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
