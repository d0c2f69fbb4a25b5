// Package oracle says what has to become of a connection to a Service.
//
// It reasons from the Kubernetes API alone (KEP-1669 terminating endpoints, KEP-2086
// internal traffic policy, KEP-2433 and KEP-3015 topology hints, and how kube-proxy treats
// pods and the node that use an address with externalTrafficPolicy Local), and knows nothing
// of plans or rules, so that it can judge them.
package oracle

import (
	"net/netip"
	"slices"
)

// Endpoint is one endpoint of a Service port and family.
type Endpoint struct {
	Target                      netip.AddrPort
	Node                        string
	Ready, Serving, Terminating bool
	ForNodes, ForZones          []string
}

// Service is one port and family of a Service.
type Service struct {
	ExternalLocal, InternalLocal bool
	// Ranges are the loadBalancerSourceRanges of the family; empty admits everybody.
	Ranges    []netip.Prefix
	Endpoints []Endpoint
}

// Node is the node at which the connection is handled, and what its proxy was told.
type Node struct {
	Name, Zone string
	// KnowsPods is false without a local detector.
	KnowsPods     bool
	MasqueradeAll bool
}

// Source is where a connection comes from.
type Source uint8

// The sources: a pod, the node itself, or a host that is neither.
const (
	Pod Source = iota
	Host
	Outside
)

// Destination is the kind of address that a connection goes to.
type Destination uint8

// The kinds of address a Service can have.
const (
	ClusterIP Destination = iota
	NodePort
	LoadBalancer
	ExternalIP
)

// Flow is a connection.
type Flow struct {
	From Source
	Addr netip.Addr
	To   Destination
}

// Fate is what becomes of a connection.
type Fate uint8

// The fates. Lost is none that a proxy may choose: the packet went past it.
const (
	Answered Fate = iota
	Dropped
	Refused
	Lost
)

// Answer is an endpoint that may answer. Masqueraded says that it sees the node's address.
type Answer struct {
	Endpoint    netip.AddrPort
	Masqueraded bool
}

// Outcome is the fate of a connection; Answers are those of an answered one, sorted.
type Outcome struct {
	Fate    Fate
	Answers []Answer
}

// Decide says what has to become of a connection.
func Decide(s Service, n Node, f Flow) Outcome {
	everyone := anywhere(s.Endpoints, n)
	switch {
	case f.To == LoadBalancer && !admits(s.Ranges, f.Addr):
		return Outcome{Fate: Dropped}
	case len(everyone) == 0:
		return Outcome{Fate: Refused}
	case f.To == ClusterIP && s.InternalLocal:
		return answers(onThisNode(s.Endpoints, n), f, masqueradesInternal(n, f))
	case f.To == ClusterIP:
		return answers(everyone, f, masqueradesInternal(n, f))
	case !s.ExternalLocal:
		return answers(everyone, f, true)
	case f.From == Host:
		return answers(everyone, f, true)
	case f.From == Pod && n.KnowsPods:
		// As if it had gone up to the load balancer and come back at the endpoint's node.
		return answers(everyone, f, false)
	}
	return answers(onThisNode(s.Endpoints, n), f, false)
}

// masqueradesInternal tells whether a connection to a ClusterIP gets the node's address.
func masqueradesInternal(n Node, f Flow) bool {
	return n.MasqueradeAll || n.KnowsPods && f.From != Pod
}

func admits(ranges []netip.Prefix, addr netip.Addr) bool {
	return len(ranges) == 0 || slices.ContainsFunc(ranges, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// answers lists the endpoints. One that asks itself has to see another address than its own.
func answers(endpoints []Endpoint, f Flow, masqueraded bool) Outcome {
	if len(endpoints) == 0 {
		return Outcome{Fate: Dropped}
	}
	var o Outcome
	for _, e := range endpoints {
		o.Answers = append(o.Answers, Answer{e.Target, masqueraded || e.Target.Addr() == f.Addr})
	}
	slices.SortFunc(o.Answers, func(a, b Answer) int { return a.Endpoint.Compare(b.Endpoint) })
	return o
}

// anywhere gives the endpoints under policy Cluster.
func anywhere(endpoints []Endpoint, n Node) []Endpoint {
	ready := only(endpoints, isReady)
	for _, meant := range []func(Endpoint) (some, here bool){
		func(e Endpoint) (bool, bool) { return len(e.ForNodes) > 0, slices.Contains(e.ForNodes, n.Name) },
		func(e Endpoint) (bool, bool) {
			return len(e.ForZones) > 0, n.Zone != "" && slices.Contains(e.ForZones, n.Zone)
		},
	} {
		hinted := only(ready, func(e Endpoint) bool { some, _ := meant(e); return some })
		near := only(ready, func(e Endpoint) bool { _, here := meant(e); return here })
		if len(hinted) == len(ready) && len(near) > 0 {
			return near
		}
	}
	return orLeaving(ready, endpoints)
}

// onThisNode gives the endpoints under policy Local. Hints say nothing about them.
func onThisNode(endpoints []Endpoint, n Node) []Endpoint {
	here := only(endpoints, func(e Endpoint) bool { return e.Node == n.Name })
	return orLeaving(only(here, isReady), here)
}

func isReady(e Endpoint) bool { return e.Ready }

// orLeaving gives, if none is ready, those that end and still serve.
func orLeaving(ready, of []Endpoint) []Endpoint {
	if len(ready) > 0 {
		return ready
	}
	return only(of, func(e Endpoint) bool { return e.Serving && e.Terminating })
}

func only(endpoints []Endpoint, keep func(Endpoint) bool) []Endpoint {
	return slices.DeleteFunc(slices.Clone(endpoints), func(e Endpoint) bool { return !keep(e) })
}
