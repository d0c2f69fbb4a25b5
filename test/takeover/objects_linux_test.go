package takeover

import (
	"context"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/mooring-project/mooring/test/lab"
)

// writeNodes has both nodes in the API.
func (b *bed) writeNodes() {
	for _, n := range b.network.Nodes {
		node, err := b.client.CoreV1().Nodes().Create(b.t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: n.Name}}, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			continue
		}
		b.must(err)
		node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: n.V4.String()}, {Type: corev1.NodeInternalIP, Address: n.V6.String()}}
		_, err = b.client.CoreV1().Nodes().UpdateStatus(b.t.Context(), node, metav1.UpdateOptions{})
		b.must(err)
	}
}

// service is a Service with port 80 over TCP and UDP in both families.
type service struct {
	name      string
	addresses []netip.Addr // of the cluster; the API server chooses
	// nodePort is that of TCP.
	nodePort, nodePortUDP int
	balancers             []netip.Addr
	externals             []netip.Addr
}

// create makes a Service that some servers serve. One of that name is left where the machine has died in
// the middle and been started again: the API server is outside of it.
func (b *bed) create(name string, servers []*server, change func(*corev1.Service)) *service {
	b.t.Helper()
	dual := corev1.IPFamilyPolicyRequireDualStack
	wanted := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.ServiceSpec{IPFamilyPolicy: &dual, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}},
	}
	for _, protocol := range []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP} {
		wanted.Spec.Ports = append(wanted.Spec.Ports, corev1.ServicePort{Name: portName(protocol), Protocol: protocol, Port: 80, TargetPort: intstr.FromInt32(serverPort)})
	}
	change(wanted)
	status := wanted.Status
	b.remove(name)
	created, err := b.client.CoreV1().Services("default").Create(b.t.Context(), wanted, metav1.CreateOptions{})
	b.must(err)
	b.t.Cleanup(func() { b.remove(name) })
	s := &service{name: name, nodePort: int(created.Spec.Ports[0].NodePort), nodePortUDP: int(created.Spec.Ports[1].NodePort)}
	for _, address := range created.Spec.ClusterIPs {
		s.addresses = append(s.addresses, netip.MustParseAddr(address))
	}
	for _, address := range created.Spec.ExternalIPs {
		s.externals = append(s.externals, netip.MustParseAddr(address))
	}
	for _, ingress := range status.LoadBalancer.Ingress {
		s.balancers = append(s.balancers, netip.MustParseAddr(ingress.IP))
	}
	if len(s.balancers) > 0 {
		created.Status = status
		_, err = b.client.CoreV1().Services("default").UpdateStatus(b.t.Context(), created, metav1.UpdateOptions{})
		b.must(err)
	}
	for _, slice := range slicesOf(name, servers) {
		_, err := b.client.DiscoveryV1().EndpointSlices("default").Create(b.t.Context(), slice, metav1.CreateOptions{})
		b.must(err)
	}
	return s
}

// serve has other servers serve a Service.
func (b *bed) serve(name string, servers []*server) {
	b.t.Helper()
	for _, slice := range slicesOf(name, servers) {
		_, err := b.client.DiscoveryV1().EndpointSlices("default").Update(b.t.Context(), slice, metav1.UpdateOptions{})
		b.must(err)
	}
}

// remove deletes a Service with its endpoints, if it is there.
func (b *bed) remove(name string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience) // also when the test is over
	defer cancel()
	errs := []error{b.client.CoreV1().Services("default").Delete(ctx, name, metav1.DeleteOptions{})}
	for _, slice := range slicesOf(name, nil) {
		errs = append(errs, b.client.DiscoveryV1().EndpointSlices("default").Delete(ctx, slice.Name, metav1.DeleteOptions{}))
	}
	for _, err := range errs {
		if !apierrors.IsNotFound(err) {
			b.must(err)
		}
	}
}

func portName(protocol corev1.Protocol) string { return "over-" + string([]byte{protocol[0] | 0x20}) }

func slicesOf(name string, servers []*server) []*discoveryv1.EndpointSlice {
	var result []*discoveryv1.EndpointSlice
	for _, family := range []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6} {
		slice := &discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Name: fmt.Sprintf("%s-%s", name, map[bool]string{true: "v4", false: "v6"}[family == discoveryv1.AddressTypeIPv4]), Labels: map[string]string{discoveryv1.LabelServiceName: name}},
			AddressType: family, Endpoints: []discoveryv1.Endpoint{},
		}
		for _, protocol := range []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP} {
			port, name := int32(serverPort), portName(protocol)
			slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{Name: &name, Protocol: &protocol, Port: &port})
		}
		for _, s := range servers {
			address, node := s.sandbox.V4, s.node
			if family == discoveryv1.AddressTypeIPv6 {
				address = s.sandbox.V6
			}
			slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{address.String()}, NodeName: &node})
		}
		result = append(result, slice)
	}
	return result
}

// plain leaves a Service as it is.
func plain(*corev1.Service) {}

// web is of type LoadBalancer with all addresses that there are.
func web(s *corev1.Service) {
	s.Spec.Type = corev1.ServiceTypeLoadBalancer
	s.Spec.ExternalIPs = []string{"198.51.100.20", "2001:db8:1::20"}
	s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "198.51.100.10"}, {IP: "2001:db8:1::10"}}
}

// local is of type LoadBalancer, and shows the outside the endpoints of the node alone.
func local(s *corev1.Service) {
	s.Spec.Type, s.Spec.ExternalTrafficPolicy = corev1.ServiceTypeLoadBalancer, corev1.ServiceExternalTrafficPolicyLocal
	s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "198.51.100.11"}, {IP: "2001:db8:1::11"}}
}

// sticky keeps clients.
func sticky(s *corev1.Service) { s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP }

// cluster has the Services that clients use. There may be no sticky one.
type cluster struct{ web, local, sticky *service }

// ways gives those by which clients find the Services.
func (b *bed) ways(c cluster) []way {
	var ways []way
	pod, node, outside := b.pod.Namespace, b.node.Namespace, b.network.Outside
	who := map[*lab.Namespace]string{pod: "pod", node: "node", outside: "outside"}
	add := func(from *lab.Namespace, network, to string, address netip.Addr, port int, marked bool) {
		name := fmt.Sprintf("%s %s%d to %s", who[from], network, map[bool]int{false: 4, true: 6}[address.Is6()], to)
		ways = append(ways, way{name, from, network, at(address, port), marked, portsOf(len(ways))})
	}
	for family, nodeAddress := range []netip.Addr{b.node.V4, b.node.V6} {
		for network, nodePort := range map[string]int{"tcp": c.web.nodePort, "udp": c.web.nodePortUDP} {
			add(pod, network, "ClusterIP", c.web.addresses[family], 80, false)
			add(node, network, "ClusterIP", c.web.addresses[family], 80, false)
			add(outside, network, "NodePort", nodeAddress, nodePort, false)
			add(outside, network, "load balancer", c.web.balancers[family], 80, false)
			if c.sticky != nil {
				add(pod, network, "session affinity", c.sticky.addresses[family], 80, true)
			}
		}
		add(pod, "tcp", "load balancer", c.web.balancers[family], 80, false)
		add(node, "tcp", "NodePort", nodeAddress, c.web.nodePort, false)
		add(outside, "tcp", "externalIP", c.web.externals[family], 80, false)
		add(outside, "tcp", "policy Local", c.local.balancers[family], 80, false)
	}
	if c.sticky != nil {
		add(node, "tcp", "session affinity", c.sticky.addresses[1], 80, true)
	}
	add(pod, "tcp", "policy Local", c.local.balancers[0], 80, true)
	add(node, "tcp", "policy Local", c.local.balancers[1], 80, true)
	return ways
}
