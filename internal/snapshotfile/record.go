package snapshotfile

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/mooring-project/mooring/internal/intern"
	"github.com/mooring-project/mooring/internal/model"
)

// A record is one object: one of its fields is set. The last record of a file has Count, the
// number of those before it, alone.
type record struct {
	Service   *service
	Slice     *slice
	Namespace string
	Node      *node
	Pod       *pod
	CIDRs     []string
	Count     int
}

// Addresses and prefixes are strings of their octets, which gob writes without a call.
type service struct {
	Namespace, Name     string
	Type                uint8
	ClusterIPs          []string
	Headless            bool
	ExternalName        string
	ExternalIPs         []string
	LoadBalancerIPs     []string
	SourceRanges        []string
	Ports               []port
	External, Internal  uint8
	HealthCheckNodePort uint16
	AffinityTimeout     time.Duration
	Selector, ProxyName string
	Annotations         map[string]string
}

// port is one of a Service or of an EndpointSlice.
type port struct {
	Name           string
	Protocol       uint8
	Port, NodePort uint16
}

// slice leaves out the trigger time, which measures changes that this process sees.
type slice struct {
	Namespace, Service, Name, Cluster string
	Ports                             []port
	Endpoints                         []endpoint
}

type endpoint struct {
	Addr                      string
	State                     uint8 // bits below
	Hostname, Pod, Node, Zone string
	ForZones, ForNodes        []string
}

const (
	ready = 1 << iota
	serving
	terminating
)

type node struct {
	Name, Zone string
	Addresses  []string
	PodCIDRs   []string
	Deleting   bool
	Taints     []string
}

type pod struct {
	Namespace, Name string
	Addresses       []string
	HostNetwork     bool
	Labels          map[string]string
}

func fromService(s *model.Service) *service {
	out := &service{
		Namespace: s.Key.Namespace, Name: s.Key.Name, Type: uint8(s.Type), Headless: s.Headless, ExternalName: s.ExternalName,
		ClusterIPs: fromAddrs(s.ClusterIPs), ExternalIPs: fromAddrs(s.ExternalIPs), LoadBalancerIPs: fromAddrs(s.LoadBalancerIPs),
		SourceRanges: fromPrefixes(s.LoadBalancerSourceRanges),
		External:     uint8(s.ExternalTrafficPolicy), Internal: uint8(s.InternalTrafficPolicy),
		HealthCheckNodePort: s.HealthCheckNodePort, AffinityTimeout: s.AffinityTimeout,
		Selector: s.Selector, ProxyName: s.ProxyName, Annotations: s.Annotations,
	}
	for _, p := range s.Ports {
		out.Ports = append(out.Ports, port{p.Name, uint8(p.Protocol), p.Port, p.NodePort})
	}
	return out
}

func (s *service) model(names *intern.Names) (*model.Service, error) {
	out := &model.Service{
		Key:  model.ServiceKey{Namespace: names.Text(s.Namespace), Name: s.Name},
		Type: model.ServiceType(s.Type), Headless: s.Headless, ExternalName: s.ExternalName,
		ExternalTrafficPolicy: model.TrafficPolicy(s.External), InternalTrafficPolicy: model.TrafficPolicy(s.Internal),
		HealthCheckNodePort: s.HealthCheckNodePort, AffinityTimeout: s.AffinityTimeout,
		Selector: s.Selector, ProxyName: s.ProxyName, Annotations: s.Annotations,
	}
	for _, p := range s.Ports {
		out.Ports = append(out.Ports, model.ServicePort{Name: names.Text(p.Name), Protocol: model.Protocol(p.Protocol), Port: p.Port, NodePort: p.NodePort})
	}
	for _, list := range []struct {
		to   *[]netip.Addr
		from []string
	}{{&out.ClusterIPs, s.ClusterIPs}, {&out.ExternalIPs, s.ExternalIPs}, {&out.LoadBalancerIPs, s.LoadBalancerIPs}} {
		addrs, err := toAddrs(list.from)
		if err != nil {
			return nil, fmt.Errorf("service %s: %w", out.Key, err)
		}
		*list.to = addrs
	}
	var err error
	if out.LoadBalancerSourceRanges, err = toPrefixes(s.SourceRanges); err != nil {
		return nil, fmt.Errorf("service %s: %w", out.Key, err)
	}
	return out, nil
}

// fromSlice puts the endpoints into room, if they fit.
func fromSlice(s *model.EndpointSlice, room []endpoint) *slice {
	out := &slice{
		Namespace: s.Service.Namespace, Service: s.Service.Name, Name: s.Name, Cluster: s.Cluster,
		Endpoints: slices.Grow(room[:0], len(s.Endpoints)),
	}
	for _, p := range s.Ports {
		out.Ports = append(out.Ports, port{Name: p.Name, Protocol: uint8(p.Protocol), Port: p.Port})
	}
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		out.Endpoints = append(out.Endpoints, endpoint{
			Addr: fromAddr(e.Addr), State: bit(e.Ready, ready) | bit(e.Serving, serving) | bit(e.Terminating, terminating),
			Hostname: e.Hostname(), Pod: e.TargetPod(), Node: e.Node(), Zone: e.Zone(), ForZones: e.ForZones(), ForNodes: e.ForNodes(),
		})
	}
	return out
}

func bit(is bool, bit uint8) uint8 {
	if is {
		return bit
	}
	return 0
}

func (s *slice) model(names *intern.Names) (*model.EndpointSlice, error) {
	out := &model.EndpointSlice{
		Name: s.Name, Service: model.ServiceKey{Namespace: names.Text(s.Namespace), Name: s.Service},
		Cluster: names.Text(s.Cluster),
	}
	for _, p := range s.Ports {
		out.Ports = append(out.Ports, model.EndpointPort{Name: names.Text(p.Name), Protocol: model.Protocol(p.Protocol), Port: p.Port})
	}
	if len(s.Endpoints) > 0 {
		out.Endpoints = make([]model.Endpoint, len(s.Endpoints))
	}
	for i, e := range s.Endpoints {
		addr, err := toAddr(e.Addr)
		if err != nil {
			return nil, fmt.Errorf("endpoint slice %s/%s: %w", s.Namespace, s.Name, err)
		}
		out.Endpoints[i] = model.Endpoint{
			Addr: addr, Ready: e.State&ready != 0, Serving: e.State&serving != 0, Terminating: e.State&terminating != 0,
			About: names.About(model.About{
				Hostname: e.Hostname, TargetPod: e.Pod, Node: e.Node, Zone: e.Zone, ForZones: e.ForZones, ForNodes: e.ForNodes,
			}),
		}
	}
	return out, nil
}

func fromNode(n *model.Node) *node {
	return &node{
		Name: n.Name, Zone: n.Zone, Addresses: fromAddrs(n.Addresses), PodCIDRs: fromPrefixes(n.PodCIDRs),
		Deleting: n.Deleting, Taints: n.Taints,
	}
}

func (n *node) model() (*model.Node, error) {
	addrs, err := toAddrs(n.Addresses)
	if err != nil {
		return nil, fmt.Errorf("node %s: %w", n.Name, err)
	}
	cidrs, err := toPrefixes(n.PodCIDRs)
	if err != nil {
		return nil, fmt.Errorf("node %s: %w", n.Name, err)
	}
	return &model.Node{Name: n.Name, Zone: n.Zone, Addresses: addrs, PodCIDRs: cidrs, Deleting: n.Deleting, Taints: n.Taints}, nil
}

func fromPod(p *model.Pod) *pod {
	return &pod{Namespace: p.Namespace, Name: p.Name, Addresses: fromAddrs(p.Addresses), HostNetwork: p.HostNetwork, Labels: p.Labels}
}

func (p *pod) model(names *intern.Names) (*model.Pod, error) {
	addrs, err := toAddrs(p.Addresses)
	if err != nil {
		return nil, fmt.Errorf("pod %s/%s: %w", p.Namespace, p.Name, err)
	}
	return &model.Pod{Namespace: names.Text(p.Namespace), Name: p.Name, Addresses: addrs, HostNetwork: p.HostNetwork, Labels: p.Labels}, nil
}

// object gives the model's value: a *model.Service, *model.EndpointSlice, *model.Namespace,
// *model.Node, *model.Pod, or the ServiceCIDRs as []netip.Prefix.
func (r *record) object(names *intern.Names) (any, error) {
	switch {
	case r.Service != nil:
		return r.Service.model(names)
	case r.Slice != nil:
		return r.Slice.model(names)
	case r.Namespace != "":
		return &model.Namespace{Name: names.Text(r.Namespace)}, nil
	case r.Node != nil:
		return r.Node.model()
	case r.Pod != nil:
		return r.Pod.model(names)
	}
	return toPrefixes(r.CIDRs)
}
