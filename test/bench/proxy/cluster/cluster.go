// Package cluster says which objects the API server of the benchmark of mooring-proxy has: its own
// default/kubernetes, a DNS Service, one whose endpoint moves, and any number of others.
package cluster

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/mooring-project/mooring/test/bench/objects"
)

// The addresses of Services; their pods listen on objects.Slice's port.
var (
	Kubernetes = netip.MustParseAddrPort("10.96.0.1:443")
	DNS        = netip.MustParseAddrPort("10.96.0.10:53")
	Moving     = netip.AddrPortFrom(netip.MustParseAddr(objects.ClusterIP(60_000)), ServicePort)
)

// ServicePort is that of all but those of Kubernetes and DNS.
const ServicePort = 80

// MostServices is how many Services Number has room for.
const MostServices = 50_000

// Number gives the number in package objects of Service i of the bench: the addresses of the first
// ones there belong to Kubernetes and DNS.
func Number(i int) int { return i + 250 }

// Names of the Service whose endpoint moves.
const (
	MovingNamespace = "ns-1"
	MovingName      = "moving"
)

// MovingObjects gives that Service and its slice with an endpoint.
func MovingObjects(endpoint string) (*corev1.Service, *discoveryv1.EndpointSlice) {
	return pair(objects.Service(MovingNamespace, MovingName, Moving.Addr().String()), []string{endpoint})
}

// DNSObjects gives the DNS Service as kubeadm names it, and its slice.
func DNSObjects() (*corev1.Service, *discoveryv1.EndpointSlice) {
	service := objects.Service("kube-system", "kube-dns", DNS.Addr().String())
	service.Labels["k8s-app"] = "kube-dns"
	service.Spec.Ports[0].Port = int32(DNS.Port())
	return pair(service, objects.PodAddresses(0, 2))
}

// Objects gives Service i and its slice with so many endpoints.
func Objects(i, endpoints int) (*corev1.Service, *discoveryv1.EndpointSlice) {
	n := Number(i)
	return pair(objects.Service(objects.NamespaceOf(n), objects.NameOf(n), objects.ClusterIP(n)), objects.PodAddresses(n, endpoints))
}

// pair leaves to the API server what it alone gives.
func pair(service *corev1.Service, endpoints []string) (*corev1.Service, *discoveryv1.EndpointSlice) {
	slice := objects.Slice(service, endpoints)
	slice.OwnerReferences = nil
	slice.UID, slice.ManagedFields, slice.GenerateName = "", nil, ""
	service.UID, service.ManagedFields = "", nil
	return service, slice
}
