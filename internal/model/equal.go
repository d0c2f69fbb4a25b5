package model

import (
	"maps"
	"slices"
)

// Equal tells whether two Services are the same in everything kept of them. A
// source may then drop an update that changed only what nobody here reads.
func (s *Service) Equal(o *Service) bool {
	if s == nil || o == nil {
		return s == o
	}
	return s.Key == o.Key && s.Type == o.Type && s.Headless == o.Headless && s.ExternalName == o.ExternalName &&
		s.ExternalTrafficPolicy == o.ExternalTrafficPolicy && s.InternalTrafficPolicy == o.InternalTrafficPolicy &&
		s.HealthCheckNodePort == o.HealthCheckNodePort && s.AffinityTimeout == o.AffinityTimeout &&
		s.ProxyName == o.ProxyName && s.Selector == o.Selector &&
		slices.Equal(s.ClusterIPs, o.ClusterIPs) && slices.Equal(s.ExternalIPs, o.ExternalIPs) &&
		slices.Equal(s.LoadBalancerIPs, o.LoadBalancerIPs) &&
		slices.Equal(s.LoadBalancerSourceRanges, o.LoadBalancerSourceRanges) &&
		slices.Equal(s.Ports, o.Ports) && maps.Equal(s.Annotations, o.Annotations)
}

// Equal tells whether two EndpointSlices lead to the same answers and rules; the
// trigger time, which only measurements read, is not compared.
func (s *EndpointSlice) Equal(o *EndpointSlice) bool {
	if s == nil || o == nil {
		return s == o
	}
	return s.Name == o.Name && s.Service == o.Service && s.Cluster == o.Cluster && slices.Equal(s.Ports, o.Ports) &&
		slices.EqualFunc(s.Endpoints, o.Endpoints, func(a, b Endpoint) bool { return a.Equal(&b) })
}

// Equal tells whether two endpoints are the same.
func (e *Endpoint) Equal(o *Endpoint) bool {
	return e.Addr == o.Addr && e.Ready == o.Ready && e.Serving == o.Serving && e.Terminating == o.Terminating &&
		(e.About == o.About || e.about().Equal(o.about()))
}

// Equal tells whether the same is known of two endpoints.
func (a *About) Equal(o *About) bool {
	return a.Hostname == o.Hostname && a.TargetPod == o.TargetPod && a.Node == o.Node && a.Zone == o.Zone &&
		slices.Equal(a.ForZones, o.ForZones) && slices.Equal(a.ForNodes, o.ForNodes)
}

// Equal tells whether two Nodes are the same in everything kept of them.
func (n *Node) Equal(o *Node) bool {
	if n == nil || o == nil {
		return n == o
	}
	return n.Name == o.Name && n.Zone == o.Zone && n.Deleting == o.Deleting && slices.Equal(n.Taints, o.Taints) &&
		slices.Equal(n.Addresses, o.Addresses) && slices.Equal(n.PodCIDRs, o.PodCIDRs)
}

// Equal tells whether two Pods are the same in everything kept of them.
func (p *Pod) Equal(o *Pod) bool {
	if p == nil || o == nil {
		return p == o
	}
	return p.Namespace == o.Namespace && p.Name == o.Name && p.HostNetwork == o.HostNetwork &&
		slices.Equal(p.Addresses, o.Addresses) && maps.Equal(p.Labels, o.Labels)
}
