package differential

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	mcsv1alpha1 "sigs.k8s.io/mcs-api/pkg/apis/v1alpha1"
)

// generator makes random clusters. What it makes could come out of a real API server:
// defaults are filled in, and what validation refuses is not made. Names and addresses
// are few, so that they collide.
type generator struct {
	*rand.Rand
	// taken are the ClusterIPs given out, which no two Services share.
	taken map[string]bool
}

func newGenerator(seed uint64) generator {
	return generator{Rand: rand.New(rand.NewPCG(seed, 0)), taken: make(map[string]bool)}
}

// free gives an address that has not been given out.
func (g generator) free(random func() string) string {
	for {
		if addr := random(); !g.taken[addr] {
			g.taken[addr] = true
			return addr
		}
	}
}

// Names to choose from. Those of services include labels that mean something elsewhere
// in the name.
var (
	namespaceNames = []string{"default", "prod", "kube-system", "team-a", "svc"}
	serviceNames   = []string{"web", "db", "api", "kube-dns", "a", "svc", "pod", "ns", "x-1", "long" + strings.Repeat("g", 59)}
	portNames      = []string{"http", "https", "dns", "metrics", "p", "x-y"}
	hostnames      = []string{"db-0", "db-1", "web", "h", "10-244-1-1"}
	podNames       = []string{"web-7f9c-abcde", "db-0", "kube-dns-1", "pod." + strings.Repeat("n", 20), strings.Repeat("l", 63), strings.Repeat("v", 64)}
	topologyZones  = []string{"zone-a", "Zone-B", "rack.zone-c"}
	externalNames  = []string{
		"both.example.org", "four.example.org", "chain.example.org", "gone.example.org", "broken.example.org",
		"web.default.svc.cluster.local", "db.prod.svc.cluster.local", "api.prod.svc.cluster.local",
		"missing.default.svc.cluster.local", "ns.dns.cluster.local", "svc.cluster.local", "192.0.2.77", "example.org",
	}
)

func pick[T any](g generator, from []T) T { return from[g.IntN(len(from))] }

// chance is true in n of 100 cases.
func (g generator) chance(n int) bool { return g.IntN(100) < n }

// cluster makes a cluster with about so many services.
func (g generator) cluster(services int) cluster {
	c := make(cluster)
	for _, name := range namespaceNames {
		if g.chance(80) {
			c.add(&corev1.Namespace{ObjectMeta: g.meta("", name)})
		}
	}
	for range services {
		g.addService(c)
	}
	for range g.IntN(4) {
		c.add(g.slice(pick(g, namespaceNames), pick(g, serviceNames), false)) // perhaps of no service
	}
	for range g.IntN(8) {
		c.add(g.pod())
	}
	for range g.IntN(5) {
		g.addImport(c)
	}
	if g.chance(50) {
		g.addOwnService(c)
	}
	return c
}

func (g generator) meta(namespace, name string) metav1.ObjectMeta {
	m := metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{}}
	if g.chance(50) {
		m.Labels["app"] = "x"
	}
	if g.chance(50) {
		m.Labels["team"] = "a"
	}
	return m
}

func (g generator) addService(c cluster) {
	s := g.service()
	c.add(s)
	slices := g.IntN(4)
	if s.Spec.Type == corev1.ServiceTypeExternalName && g.chance(80) {
		slices = 0
	}
	for range slices {
		c.add(g.slice(s.Namespace, s.Name, g.chance(70) && len(s.Spec.Ports) > 0, s.Spec.Ports...))
	}
}

func (g generator) service() *corev1.Service {
	s := &corev1.Service{ObjectMeta: g.meta(pick(g, namespaceNames), pick(g, serviceNames))}
	s.Spec.Type = corev1.ServiceTypeClusterIP
	s.Spec.Ports = g.servicePorts(1 + g.IntN(3))
	switch g.IntN(10) {
	case 0, 1, 2, 3:
		g.giveAddresses(s)
	case 4, 5, 6:
		s.Spec.ClusterIP, s.Spec.ClusterIPs = corev1.ClusterIPNone, []string{corev1.ClusterIPNone}
		if g.chance(25) {
			s.Spec.Ports = nil
		}
		s.Spec.PublishNotReadyAddresses = g.chance(20)
	case 7, 8:
		s.Spec.Type, s.Spec.ExternalName = corev1.ServiceTypeExternalName, pick(g, externalNames)
		if g.chance(70) {
			s.Spec.Ports = nil
		}
	case 9:
		s.Spec.Type = corev1.ServiceTypeLoadBalancer
		g.giveAddresses(s)
		s.Spec.ExternalIPs = []string{"203.0.113.1"}
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "203.0.113.2"}, {Hostname: "lb.example.org"}}
	}
	return s
}

// giveAddresses gives ClusterIPs of one family or both, in either order.
func (g generator) giveAddresses(s *corev1.Service) {
	v4 := g.free(func() string { return fmt.Sprintf("10.96.%d.%d", g.IntN(16), 1+g.IntN(250)) })
	v6 := g.free(func() string { return fmt.Sprintf("fd00:10:96::%x", 1+g.IntN(0xffff)) })
	s.Spec.ClusterIPs = pick(g, [][]string{{v4}, {v4}, {v6}, {v4, v6}, {v6, v4}})
	s.Spec.ClusterIP = s.Spec.ClusterIPs[0]
	if len(s.Spec.ClusterIPs) > 1 {
		policy := corev1.IPFamilyPolicyRequireDualStack
		s.Spec.IPFamilyPolicy = &policy
	}
}

func (g generator) servicePorts(n int) []corev1.ServicePort {
	protocols := []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP}
	var ports []corev1.ServicePort
	if n == 1 && g.chance(40) {
		return []corev1.ServicePort{{Protocol: pick(g, protocols), Port: 80}}
	}
	for i, place := range g.Perm(len(portNames))[:n] {
		ports = append(ports, corev1.ServicePort{Name: portNames[place], Protocol: pick(g, protocols), Port: int32(80 + g.IntN(2) + 2*i)})
	}
	return ports
}

// slice makes an EndpointSlice of a service. It has the service's ports, or its own.
func (g generator) slice(namespace, service string, same bool, ports ...corev1.ServicePort) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{ObjectMeta: g.meta(namespace, fmt.Sprintf("%.40s-%d", service, g.IntN(5)))}
	s.Labels[discoveryv1.LabelServiceName] = service
	s.AddressType = pick(g, []discoveryv1.AddressType{"IPv4", "IPv4", "IPv4", "IPv4", "IPv6", "IPv6"})
	if g.chance(3) {
		s.AddressType = discoveryv1.AddressTypeFQDN
	}
	if !same {
		ports = g.servicePorts(1 + g.IntN(2))
		if g.chance(15) {
			ports = nil
		}
	}
	for _, p := range ports {
		name, protocol, number := p.Name, p.Protocol, p.Port+8000
		port := discoveryv1.EndpointPort{Name: &name, Protocol: &protocol, Port: &number}
		if g.chance(2) {
			port.Port = nil
		}
		s.Ports = append(s.Ports, port)
	}
	for range g.IntN(5) {
		s.Endpoints = append(s.Endpoints, g.endpoint(s.AddressType))
	}
	if g.chance(3) {
		for range 40 {
			s.Endpoints = append(s.Endpoints, g.endpoint(s.AddressType))
		}
	}
	return s
}

func (g generator) endpoint(family discoveryv1.AddressType) discoveryv1.Endpoint {
	e := discoveryv1.Endpoint{Addresses: []string{g.address(family)}}
	if g.chance(2) {
		e.Addresses = append(e.Addresses, g.address(family))
	}
	yes, no := true, false
	e.Conditions.Ready = pick(g, []*bool{nil, &yes, &yes, &yes, &no})
	if g.chance(20) {
		e.Conditions.Terminating, e.Conditions.Serving = &yes, pick(g, []*bool{nil, &yes, &no})
	}
	if g.chance(30) {
		name := pick(g, hostnames)
		e.Hostname = &name
	}
	if g.chance(50) {
		e.TargetRef = &corev1.ObjectReference{Kind: "Pod", Name: pick(g, podNames)}
	}
	if g.chance(60) {
		zone := pick(g, topologyZones)
		e.Zone = &zone
	}
	return e
}

func (g generator) address(family discoveryv1.AddressType) string {
	switch family {
	case discoveryv1.AddressTypeFQDN:
		return pick(g, []string{"both.example.org", "web.default.svc.cluster.local"})
	case discoveryv1.AddressTypeIPv6:
		if g.chance(2) {
			// Spelled otherwise, and always so: to the stock plugin each spelling is an endpoint of its own.
			return "fd00:10:244:2::0"
		}
		return pick(g, []string{"fd00:10:244:1::", "2001:db8::abcd", fmt.Sprintf("fd00:10:244:1::%x", 1+g.IntN(200))})
	}
	if g.chance(20) {
		return fmt.Sprintf("10.244.1.%d", 1+g.IntN(3))
	}
	return fmt.Sprintf("10.244.%d.%d", g.IntN(4), 1+g.IntN(250))
}

func (g generator) pod() *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: g.meta(pick(g, namespaceNames), fmt.Sprintf("pod-%d", g.IntN(20)))}
	p.Status.Phase = pick(g, []corev1.PodPhase{"Running", "Running", "Running", "Pending", "Succeeded", "Failed"})
	p.Spec.HostNetwork = g.chance(20)
	if g.chance(90) {
		p.Status.PodIPs = []corev1.PodIP{{IP: g.address(discoveryv1.AddressTypeIPv4)}}
		if g.chance(40) {
			p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: "fd00:10:244:1::" + fmt.Sprintf("%x", 1+g.IntN(40))})
		}
		p.Status.PodIP = p.Status.PodIPs[0].IP
	}
	if g.chance(10) {
		now := metav1.NewTime(time.Unix(1_800_000_000, 0))
		p.DeletionTimestamp = &now
	}
	return p
}

// addImport adds a ServiceImport with slices from some clusters.
func (g generator) addImport(c cluster) {
	in := &mcsv1alpha1.ServiceImport{ObjectMeta: g.meta(pick(g, namespaceNames), pick(g, serviceNames))}
	in.Spec.Type = pick(g, []mcsv1alpha1.ServiceImportType{mcsv1alpha1.ClusterSetIP, mcsv1alpha1.Headless})
	for _, p := range g.servicePorts(1 + g.IntN(2)) {
		in.Spec.Ports = append(in.Spec.Ports, mcsv1alpha1.ServicePort{Name: p.Name, Protocol: p.Protocol, Port: p.Port})
	}
	if in.Spec.Type == mcsv1alpha1.ClusterSetIP {
		in.Spec.IPs = []string{g.free(func() string { return fmt.Sprintf("10.97.0.%d", 1+g.IntN(250)) })}
	}
	c.add(in)
	for i := range g.IntN(3) {
		var ports []corev1.ServicePort
		for _, p := range in.Spec.Ports {
			ports = append(ports, corev1.ServicePort{Name: p.Name, Protocol: p.Protocol, Port: p.Port})
		}
		s := g.slice(in.Namespace, in.Name, true, ports...)
		s.Name = fmt.Sprintf("import-%.40s-%d", in.Name, i)
		delete(s.Labels, discoveryv1.LabelServiceName)
		s.Labels[mcsv1alpha1.LabelServiceName] = in.Name
		s.Labels[mcsv1alpha1.LabelSourceCluster] = pick(g, []string{"c1", "c2"})
		c.add(s)
	}
}

// addOwnService adds a Service that selects this machine, as kube-dns selects the pods
// of CoreDNS.
func (g generator) addOwnService(c cluster) {
	s := &corev1.Service{ObjectMeta: g.meta("kube-system", "kube-dns")}
	s.Spec.Type = corev1.ServiceTypeClusterIP
	g.giveAddresses(s)
	if g.chance(30) {
		s.Spec.ClusterIP, s.Spec.ClusterIPs = corev1.ClusterIPNone, []string{corev1.ClusterIPNone}
	}
	s.Spec.Ports = []corev1.ServicePort{{Name: "dns", Protocol: corev1.ProtocolUDP, Port: 53}}
	c.add(s)
	for i, addr := range ownAddresses() {
		family := discoveryv1.AddressTypeIPv4
		if strings.Contains(addr, ":") {
			family = discoveryv1.AddressTypeIPv6
		}
		slice := g.slice(s.Namespace, s.Name, true, s.Spec.Ports...)
		slice.Name, slice.AddressType = fmt.Sprintf("own-%d", i), family
		slice.Endpoints = []discoveryv1.Endpoint{{Addresses: []string{addr}}}
		c.add(slice)
	}
}

// ownAddresses gives this machine's addresses, loopback and link-local ones left out.
func ownAddresses() (texts []string) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range addrs {
		ip, _, err := net.ParseCIDR(a.String())
		if err == nil && ip.IsGlobalUnicast() {
			texts = append(texts, ip.String())
		}
	}
	return texts
}
