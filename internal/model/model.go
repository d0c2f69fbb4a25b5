// Package model holds the values Mooring works on: Services, EndpointSlices,
// Namespaces, Nodes and Pods reduced to what names and addresses need.
//
// It promises plain values: no pointers into API objects, addresses as
// netip.Addr, enumerations as small integers, and nothing that does I/O. A value
// that has been handed to internal/state is immutable; whoever wants another one
// makes another one. It imports the standard library alone.
package model

import (
	"net/netip"
	"strings"
	"time"
)

// ServiceKey names a Service. Both parts are lower case, as the API enforces
// (RFC 1123 labels), so the key can be compared with a lower-cased DNS name.
type ServiceKey struct {
	Namespace string
	Name      string
}

// String gives "namespace/name".
func (k ServiceKey) String() string { return k.Namespace + "/" + k.Name }

// Compare orders keys by namespace, then name.
func (k ServiceKey) Compare(other ServiceKey) int {
	if c := strings.Compare(k.Namespace, other.Namespace); c != 0 {
		return c
	}
	return strings.Compare(k.Name, other.Name)
}

// Service is a v1.Service reduced to what answers and rules are made of.
type Service struct {
	Key  ServiceKey
	Type ServiceType

	// ClusterIPs are in the order of spec.clusterIPs, at most one of each
	// family. Empty for a headless and for an ExternalName Service.
	ClusterIPs []netip.Addr
	// Headless is true for spec.clusterIP "None".
	Headless bool
	// ExternalName is the target of a Service of type ExternalName, without
	// trailing dot.
	ExternalName string
	// ExternalIPs are spec.externalIPs that parse.
	ExternalIPs []netip.Addr
	// LoadBalancerIPs are status.loadBalancer.ingress[].ip of mode VIP (KEP-1860:
	// addresses of mode Proxy are left to the load balancer).
	LoadBalancerIPs []netip.Addr
	// LoadBalancerSourceRanges restricts who may use LoadBalancerIPs; empty
	// means everybody.
	LoadBalancerSourceRanges []netip.Prefix

	Ports []ServicePort

	// ExternalTrafficPolicy and InternalTrafficPolicy say which endpoints serve
	// traffic from outside and inside the cluster.
	ExternalTrafficPolicy TrafficPolicy
	InternalTrafficPolicy TrafficPolicy
	// HealthCheckNodePort is 0 when the Service has none.
	HealthCheckNodePort uint16
	// AffinityTimeout is spec.sessionAffinityConfig.clientIP.timeoutSeconds; 0
	// means no session affinity.
	AffinityTimeout time.Duration

	// Selector is spec.selector in the form "key=value,key=value" with sorted keys; empty
	// when the endpoints are somebody else's business.
	Selector string
	// ProxyName is the value of the label service.kubernetes.io/service-proxy-name:
	// a Service with one is left to the proxy of that name.
	ProxyName string
	// Annotations holds the annotations below mooring.dev/ alone; nil if none.
	Annotations map[string]string
}

// ServicePort is one port of a Service. Name may be empty when it is the only one.
type ServicePort struct {
	Name     string
	Protocol Protocol
	Port     uint16
	// NodePort is 0 when the port has none.
	NodePort uint16
}

// ServiceType is spec.type.
type ServiceType uint8

// The types of Service.
const (
	ClusterIP ServiceType = iota
	NodePort
	LoadBalancer
	ExternalName
)

// String gives the API's spelling.
func (t ServiceType) String() string {
	switch t {
	case NodePort:
		return "NodePort"
	case LoadBalancer:
		return "LoadBalancer"
	case ExternalName:
		return "ExternalName"
	default:
		return "ClusterIP"
	}
}

// TrafficPolicy is spec.externalTrafficPolicy or spec.internalTrafficPolicy.
type TrafficPolicy uint8

// The traffic policies.
const (
	Cluster TrafficPolicy = iota
	Local
)

// String gives the API's spelling.
func (p TrafficPolicy) String() string {
	if p == Local {
		return "Local"
	}
	return "Cluster"
}

// Protocol is an IP protocol number (IANA), so that it can be put into rules and
// virtual servers as it is.
type Protocol uint8

// The protocols a Service port can have.
const (
	TCP  Protocol = 6
	UDP  Protocol = 17
	SCTP Protocol = 132
)

// String gives the API's spelling.
func (p Protocol) String() string {
	switch p {
	case UDP:
		return "UDP"
	case SCTP:
		return "SCTP"
	default:
		return "TCP"
	}
}

// EndpointSlice is one discovery.k8s.io/v1 EndpointSlice of a Service.
type EndpointSlice struct {
	// Name is unique within the Service's namespace.
	Name    string
	Service ServiceKey
	// Cluster is the cluster that the endpoints are in; set for Services imported from
	// a cluster set (KEP-1645), empty for others.
	Cluster string
	Ports   []EndpointPort
	// Endpoints are those with an IP address; a slice of address type FQDN
	// yields none.
	Endpoints []Endpoint
	// TriggerTime is the annotation endpoints.kubernetes.io/last-change-trigger-time;
	// zero when absent.
	TriggerTime time.Time
}

// EndpointPort is one port on which every endpoint of the slice listens.
type EndpointPort struct {
	Name     string
	Protocol Protocol
	Port     uint16
}

// Endpoint is one address of an EndpointSlice, with the conditions' defaults
// applied (KEP-1672: nil ready means ready, nil serving means as ready). There are
// very many of them, so what equals that of others is shared.
type Endpoint struct {
	Addr        netip.Addr
	Ready       bool
	Serving     bool
	Terminating bool
	// About is what else is known; nil if nothing is.
	About *About
}

// About is what is known of an endpoint besides its address and conditions. Endpoints of
// which the same is known may share one; it never changes.
type About struct {
	// Hostname is the record name below a headless Service; empty if none.
	Hostname string
	// TargetPod is targetRef.name when the target is a Pod.
	TargetPod string
	// Node and Zone say where the endpoint runs; empty when unknown.
	Node string
	Zone string
	// ForZones and ForNodes are the topology hints (KEP-2433, KEP-3015).
	ForZones []string
	ForNodes []string
}

var nothing About

// about gives what is known of the endpoint, to be read only.
func (e *Endpoint) about() *About {
	if e.About == nil {
		return &nothing
	}
	return e.About
}

// Hostname gives About.Hostname.
func (e *Endpoint) Hostname() string { return e.about().Hostname }

// TargetPod gives About.TargetPod.
func (e *Endpoint) TargetPod() string { return e.about().TargetPod }

// Node gives About.Node.
func (e *Endpoint) Node() string { return e.about().Node }

// Zone gives About.Zone.
func (e *Endpoint) Zone() string { return e.about().Zone }

// ForZones gives About.ForZones, which is not to be changed.
func (e *Endpoint) ForZones() []string { return e.about().ForZones }

// ForNodes gives About.ForNodes, which is not to be changed.
func (e *Endpoint) ForNodes() []string { return e.about().ForNodes }

// Namespace is a Namespace that exists.
type Namespace struct {
	Name string
}

// Node is a Node reduced to what policies need.
type Node struct {
	Name      string
	Addresses []netip.Addr
	PodCIDRs  []netip.Prefix
	Zone      string
	// Deleting is true from when the Node's deletion has been asked for.
	Deleting bool
	// Taints are the keys of the Node's taints.
	Taints []string
}

// Pod is a running Pod, kept only where a source is asked for Pods.
type Pod struct {
	Namespace   string
	Name        string
	Addresses   []netip.Addr
	HostNetwork bool
	Labels      map[string]string
}
