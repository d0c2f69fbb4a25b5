// Package policy decides which endpoints serve a Service port on one node, and why the
// others do not.
//
// It is pure: the same slices, port and node give the same verdicts. The rules are those
// of kube-proxy's pkg/proxy/topology.go (KEP-1669 terminating endpoints, KEP-2086
// internal traffic policy, KEP-2433 and KEP-3015 topology hints); each verdict carries
// its reason, which is what explain, the logs and the DNS extended errors show.
package policy

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/mooring-project/mooring/internal/model"
)

// Reason says why an endpoint serves or does not.
type Reason string

// The reasons. Those that begin with "serves" belong to endpoints in use.
const (
	Serves            Reason = "serves"
	ServesTerminating Reason = "serves while terminating: no endpoint is ready"
	NotReady          Reason = "not ready"
	Terminating       Reason = "terminating"
	NotOnThisNode     Reason = "policy Local: runs on another node"
	OtherZone         Reason = "topology hints: meant for another zone"
	OtherNode         Reason = "topology hints: meant for another node"
	DuplicateAddress  Reason = "another endpoint has the same address and port"
	UnfitAddress      Reason = "its address cannot be an endpoint's"
)

// ruledOut tells whether the endpoint can serve under no policy at all.
func (v *Verdict) ruledOut() bool { return v.Reason == DuplicateAddress || v.Reason == UnfitAddress }

// Place is where the question is asked from: one node.
type Place struct {
	Node string
	// Zone is empty when the node carries no zone label.
	Zone string
}

// Verdict is the decision on one endpoint of one port.
type Verdict struct {
	Endpoint model.Endpoint
	// Target is the endpoint's address with the port it listens on.
	Target netip.AddrPort
	Use    bool
	Reason Reason
}

// Selection is the decision on a port: one verdict for each endpoint of the family,
// sorted by target.
type Selection []Verdict

// Targets gives the addresses that serve, sorted.
func (s Selection) Targets() []netip.AddrPort {
	var targets []netip.AddrPort
	for _, v := range s {
		if v.Use {
			targets = append(targets, v.Target)
		}
	}
	return targets
}

// Any tells whether some endpoint serves.
func (s Selection) Any() bool {
	return slices.ContainsFunc(s, func(v Verdict) bool { return v.Use })
}

// Select decides for the endpoints of one Service port and address family, seen from
// place, under a traffic policy.
func Select(endpointSlices []*model.EndpointSlice, port model.ServicePort, ipv6 bool, traffic model.TrafficPolicy, place Place) Selection {
	selection := candidates(endpointSlices, port, ipv6)
	eligible := func(v *Verdict) bool { return !v.ruledOut() }
	if traffic == model.Local {
		eligible = func(v *Verdict) bool { return !v.ruledOut() && v.Endpoint.Node() == place.Node }
	}
	topology := noTopology
	if traffic == model.Cluster {
		topology = topologyOf(selection, place)
	}
	judge(selection, traffic, topology, place)
	if !selection.Any() {
		// KEP-1669: better a terminating endpoint that still serves than none. Hints
		// are not looked at: this is the attempt not to lose the connection.
		for i := range selection {
			v := &selection[i]
			if eligible(v) && v.Endpoint.Serving && v.Endpoint.Terminating {
				v.Use, v.Reason = true, ServesTerminating
			}
		}
	}
	return selection
}

// candidates lists the endpoints that offer the port, sorted by target; of several with
// one target the one that is ready, else not terminating, comes first and the others are
// marked as duplicates. Whose address is unfit is marked too.
func candidates(endpointSlices []*model.EndpointSlice, port model.ServicePort, ipv6 bool) Selection {
	var selection Selection
	for _, slice := range endpointSlices {
		number, offered := portNumber(slice, port)
		if !offered {
			continue
		}
		for _, endpoint := range slice.Endpoints {
			if endpoint.Addr.Is6() == ipv6 {
				selection = append(selection, Verdict{Endpoint: endpoint, Target: netip.AddrPortFrom(endpoint.Addr, number)})
			}
		}
	}
	slices.SortStableFunc(selection, func(a, b Verdict) int {
		return cmp.Or(a.Target.Compare(b.Target), cmp.Compare(rank(a.Endpoint), rank(b.Endpoint)))
	})
	for i := range selection {
		switch v := &selection[i]; {
		case i > 0 && v.Target == selection[i-1].Target:
			v.Reason = DuplicateAddress
		case Unfit(v.Target.Addr()) != "":
			v.Reason = UnfitAddress
		}
	}
	return selection
}

// rank orders duplicates: while a pod moves between slices both may list it.
func rank(e model.Endpoint) int {
	switch {
	case e.Ready && !e.Terminating:
		return 0
	case e.Serving && !e.Terminating:
		return 1
	case e.Serving:
		return 2
	}
	return 3
}

// portNumber gives the port on which the slice's endpoints serve the Service port. Ports
// are matched by name; the Service port's own number says nothing about the endpoint's.
func portNumber(slice *model.EndpointSlice, port model.ServicePort) (number uint16, offered bool) {
	for _, p := range slice.Ports {
		if p.Name == port.Name && p.Protocol == port.Protocol {
			return p.Port, true
		}
	}
	return 0, false
}

// judge gives the verdict on each candidate, before any fallback.
func judge(selection Selection, traffic model.TrafficPolicy, topology topology, place Place) {
	for i := range selection {
		v := &selection[i]
		switch {
		case v.ruledOut():
		case traffic == model.Local && v.Endpoint.Node() != place.Node:
			v.Reason = NotOnThisNode
		case v.Endpoint.Terminating && !v.Endpoint.Ready:
			v.Reason = Terminating
		case !v.Endpoint.Ready:
			v.Reason = NotReady
		case topology == sameNode && !slices.Contains(v.Endpoint.ForNodes(), place.Node):
			v.Reason = OtherNode
		case topology == sameZone && !slices.Contains(v.Endpoint.ForZones(), place.Zone):
			v.Reason = OtherZone
		default:
			v.Use, v.Reason = true, Serves
		}
	}
}

// topology says which hints, if any, narrow the choice.
type topology uint8

const (
	noTopology topology = iota
	sameZone
	sameNode
)

// topologyOf applies the all-or-nothing rules: hints count only if every ready endpoint
// carries one and at least one is meant for us; node hints go before zone hints.
func topologyOf(selection Selection, place Place) topology {
	ready, nodeHints, zoneHints := 0, 0, 0
	forNode, forZone := false, false
	for _, v := range selection {
		if !v.Endpoint.Ready || v.ruledOut() {
			continue
		}
		ready++
		if len(v.Endpoint.ForNodes()) > 0 {
			nodeHints++
			forNode = forNode || slices.Contains(v.Endpoint.ForNodes(), place.Node)
		}
		if len(v.Endpoint.ForZones()) > 0 {
			zoneHints++
			forZone = forZone || place.Zone != "" && slices.Contains(v.Endpoint.ForZones(), place.Zone)
		}
	}
	switch {
	case forNode && nodeHints == ready:
		return sameNode
	case forZone && zoneHints == ready:
		return sameZone
	}
	return noTopology
}
