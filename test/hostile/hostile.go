// Package hostile makes Services and EndpointSlices that nobody should write: addresses that are
// nobody's, ports out of range, names given twice, fields that are missing, values that are huge. A
// broken or malicious client, controller or API server may deliver them.
package hostile

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Objects makes objects from choices, which may come from a fuzzer or at random: the same
// choices make the same objects. Few names mean that many objects concern one Service.
func Objects(choices []byte) ([]*corev1.Service, []*discoveryv1.EndpointSlice) {
	c := &chooser{rest: choices}
	var services []*corev1.Service
	var endpointSlices []*discoveryv1.EndpointSlice
	for len(c.rest) > 0 && len(services)+len(endpointSlices) < most {
		if c.yes() {
			services = append(services, c.service(len(services)))
		} else {
			endpointSlices = append(endpointSlices, c.slice(len(endpointSlices)))
		}
	}
	return services, endpointSlices
}

// most bounds the number of objects.
const most = 24

var (
	addresses = []string{
		"10.96.0.10", "10.96.0.11", "10.244.1.3", "10.244.2.2", "172.30.0.11", "203.0.113.10",
		"fd00:10:96::10", "fd00:10:244:1::3", "2001:db8:10::10",
		"::ffff:10.96.0.12", "::ffff:10.244.1.4", "::10.96.0.13", "010.096.000.010",
		"0.0.0.0", "0.1.2.3", "::", "127.0.0.1", "127.255.255.255", "::1", "224.0.0.1", "239.1.2.3", "ff02::1", "ff0e::1",
		"255.255.255.255", "172.30.0.255", "240.0.0.1", "169.254.169.254", "fe80::1", "fe80::1%eth0",
		"", "None", "none", "10.96.0.300", "10.96.0", "example.org", "10.96.0.10/32", "::ffff:0:0:0:0:0:0:0:0",
	}
	prefixes  = []string{"0.0.0.0/0", "::/0", "10.0.0.0/8", "10.96.0.10/32", " 192.0.2.0/24 ", "fd00::/8", "::ffff:10.0.0.0/104", "10.0.0.0/33", "10.0.0.0", "", "all"}
	numbers   = []int32{80, 443, 53, 8080, 1, 65535, 0, -1, 65536, 1 << 30, -1 << 31}
	nodePorts = []int32{0, 0, 30080, 30081, 10249, 10256, 22, 65535, -1, 65536}
	protocols = []corev1.Protocol{"TCP", "UDP", "SCTP", "", "tcp", "ICMP", "TCP\x00"}
	portNames = []string{"", "http", "dns", "http"}
	names     = []string{"web", "api", "dns", strings.Repeat("n", 253)}
	nodes     = []string{"node-1", "node-2", "", "node-1\n", strings.Repeat("z", 300)}
	values    = []string{
		"rr", "wlc", "mh,port", "mh,nothing", "lblcr", "best", "", "*=1", "*=0", "node/node-1=655,*=1", "*=70000", "zone/=1", "30s", "-1s", "1h", "25h", "2562047h48m", "NaN",
		strings.Repeat("x", 100_000), "\x00\xff",
	}
	annotations = []string{"mooring.dev/scheduler", "mooring.dev/weights", "mooring.dev/slow-start", "mooring.dev/drain-timeout", "mooring.dev/unknown", corev1.EndpointsLastChangeTriggerTime}
	manyPorts   = []int{0, 1, 1, 2, 3, 300}
	types       = []corev1.ServiceType{"ClusterIP", "NodePort", "LoadBalancer", "ExternalName", "", "Something"}
	families    = []discoveryv1.AddressType{"IPv4", "IPv6", "FQDN", "", "IPv5"}
	policies    = []string{"Cluster", "Local", "", "Elsewhere"}
)

// chooser makes choices from octets; when they are used up, always the first.
type chooser struct{ rest []byte }

func (c *chooser) number(below int) int {
	if len(c.rest) == 0 {
		return 0
	}
	n := int(c.rest[0])
	c.rest = c.rest[1:]
	return n % below
}

func (c *chooser) yes() bool { return c.number(2) == 1 }

func pick[T any](c *chooser, from []T) T { return from[c.number(len(from))] }

// several gives up to a number of picks; none is nil.
func several[T any](c *chooser, below int, from []T) (picked []T) {
	for range c.number(below) {
		picked = append(picked, pick(c, from))
	}
	return picked
}

// maybe gives a pointer, or nil.
func maybe[T any](c *chooser, from []T) *T {
	if c.yes() {
		return nil
	}
	picked := pick(c, from)
	return &picked
}

func (c *chooser) service(number int) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: pick(c, names) + fmt.Sprint(number%3)}}
	s.Spec = corev1.ServiceSpec{
		Type: pick(c, types), ClusterIP: pick(c, addresses), ClusterIPs: several(c, 4, addresses), ExternalIPs: several(c, 4, addresses),
		ExternalName: pick(c, values), Selector: map[string]string{pick(c, values): pick(c, values)},
		ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicy(pick(c, policies)),
		InternalTrafficPolicy: maybe(c, []corev1.ServiceInternalTrafficPolicy{"Cluster", "Local", "", "Elsewhere"}),
		HealthCheckNodePort:   pick(c, nodePorts), LoadBalancerSourceRanges: several(c, 4, prefixes),
		SessionAffinity: pick(c, []corev1.ServiceAffinity{"None", "ClientIP", "", "Cookie"}),
	}
	if c.yes() {
		s.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: maybe(c, []int32{1, 10800, 0, -1, 1<<31 - 1})}}
	}
	for i := range pick(c, manyPorts) {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{
			Name: pick(c, portNames), Protocol: pick(c, protocols), Port: pick(c, numbers) + int32(i/4), NodePort: pick(c, nodePorts) + int32(i/4),
		})
	}
	for _, ip := range several(c, 4, addresses) {
		s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{
			IP: ip, Hostname: pick(c, values), IPMode: maybe(c, []corev1.LoadBalancerIPMode{"VIP", "Proxy", "", "Else"}),
		})
	}
	for _, name := range several(c, 3, annotations) {
		metav1.SetMetaDataAnnotation(&s.ObjectMeta, name, pick(c, values))
	}
	if c.number(8) == 7 {
		s.Labels = map[string]string{"service.kubernetes.io/service-proxy-name": pick(c, values)}
	}
	return s
}

func (c *chooser) slice(number int) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("slice-%d", number)},
		AddressType: pick(c, families),
	}
	if c.number(8) != 7 {
		s.Labels = map[string]string{discoveryv1.LabelServiceName: pick(c, names) + fmt.Sprint(c.number(3))}
	}
	for i := range pick(c, manyPorts) {
		p := discoveryv1.EndpointPort{Name: maybe(c, portNames), Protocol: maybe(c, protocols), Port: maybe(c, numbers)}
		if p.Port != nil {
			*p.Port += int32(i / 4)
		}
		s.Ports = append(s.Ports, p)
	}
	for range c.number(6) {
		s.Endpoints = append(s.Endpoints, c.endpoint())
	}
	for _, name := range several(c, 2, annotations) {
		metav1.SetMetaDataAnnotation(&s.ObjectMeta, name, pick(c, values))
	}
	return s
}

func (c *chooser) endpoint() discoveryv1.Endpoint {
	truth := []bool{true, false}
	e := discoveryv1.Endpoint{
		Addresses:  several(c, 4, addresses),
		Conditions: discoveryv1.EndpointConditions{Ready: maybe(c, truth), Serving: maybe(c, truth), Terminating: maybe(c, truth)},
		NodeName:   maybe(c, nodes), Zone: maybe(c, nodes), Hostname: maybe(c, nodes),
	}
	if c.yes() {
		e.Hints = &discoveryv1.EndpointHints{}
		for _, node := range several(c, 3, nodes) {
			e.Hints.ForNodes = append(e.Hints.ForNodes, discoveryv1.ForNode{Name: node})
			e.Hints.ForZones = append(e.Hints.ForZones, discoveryv1.ForZone{Name: node})
		}
	}
	if c.number(8) == 7 {
		e.TargetRef = &corev1.ObjectReference{Kind: "Pod", Name: pick(c, values)}
	}
	return e
}
