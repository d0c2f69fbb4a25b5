package differential

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	mcsv1alpha1 "sigs.k8s.io/mcs-api/pkg/apis/v1alpha1"
)

// names collects the names that can be asked for.
type names map[string]struct{}

// add joins labels and a zone to a name, unless it is too long for one.
func (n names) add(labels ...string) {
	name := dns.Fqdn(strings.Join(labels, "."))
	if _, valid := dns.IsDomainName(name); valid {
		n[name] = struct{}{}
	}
}

// derive gives every name that objects could have in some configuration, in a fixed
// order.
func derive(c cluster) []string {
	n := make(names)
	for _, zone := range []string{"cluster.local", "clusterset.local", "k8s.example.test", "sub.cluster.local", "in-addr.arpa", "10.in-addr.arpa", "ip6.arpa"} {
		n.addApex(zone)
	}
	for _, zone := range []string{"cluster.local", "cluster.local", "clusterset.local", "k8s.example.test", "sub.cluster.local"} {
		n.addObjects(c, zone)
	}
	n.addReverse(c)
	return slices.Sorted(maps.Keys(n))
}

func (n names) addApex(zone string) {
	for _, labels := range []string{"", "svc.", "pod.", "dns.", "ns.dns.", "a.ns.dns.", "dns-version.", "a.dns-version.", "hostmaster.", "none.", "*.svc.", "any.any.svc."} {
		n.add(labels + zone)
	}
}

func (n names) addObjects(c cluster, zone string) {
	for _, namespace := range append([]string{"ghost"}, namespaceNames...) {
		n.add(namespace, "svc", zone)
		n.add(namespace, "pod", zone)
		n.add("missing", namespace, "svc", zone)
		n.add("192-0-2-9", namespace, "pod", zone)
		n.add("2001-db8--9", namespace, "pod", zone)
		n.add("none", namespace, "pod", zone)
	}
	each(c, func(s *corev1.Service) { n.addService(zone, s.Name, s.Namespace, s.Spec.Ports) })
	each(c, func(s *discoveryv1.EndpointSlice) { n.addSlice(zone, s) })
	each(c, func(p *corev1.Pod) {
		for _, ip := range p.Status.PodIPs {
			n.add(dashed(ip.IP), p.Namespace, "pod", zone)
		}
	})
	each(c, func(s *mcsv1alpha1.ServiceImport) {
		n.add(s.Name, s.Namespace, "svc", zone)
		for _, p := range s.Spec.Ports {
			n.add("_"+p.Name, "_"+strings.ToLower(string(p.Protocol)), s.Name, s.Namespace, "svc", zone)
		}
	})
}

func (n names) addService(zone, name, namespace string, ports []corev1.ServicePort) {
	n.add(name, namespace, "svc", zone)
	n.add("missing", name, namespace, "svc", zone)
	n.add("_tcp", name, namespace, "svc", zone)
	n.add("_udp", name, namespace, "svc", zone)
	n.add("_missing._tcp", name, namespace, "svc", zone)
	n.add("_zone", name, namespace, "svc", zone)
	n.add("pin._zone", name, namespace, "svc", zone)
	n.add("zone-x.other._zone", name, namespace, "svc", zone)
	for _, topology := range append([]string{"zone-x"}, topologyZones...) {
		n.add(topology, "pin._zone", name, namespace, "svc", zone)
		n.add(topology, "prefer._zone", name, namespace, "svc", zone)
	}
	for _, p := range ports {
		n.add("_"+p.Name, "_"+strings.ToLower(string(p.Protocol)), name, namespace, "svc", zone)
	}
}

func (n names) addSlice(zone string, s *discoveryv1.EndpointSlice) {
	parent := []string{s.Labels[discoveryv1.LabelServiceName], s.Namespace, "svc", zone}
	if imported := s.Labels[mcsv1alpha1.LabelServiceName]; imported != "" {
		parent = []string{s.Labels[mcsv1alpha1.LabelSourceCluster], imported, s.Namespace, "svc", zone}
	}
	n.add(parent...)
	below := func(labels ...string) { n.add(append(labels, parent...)...) }
	for _, e := range s.Endpoints {
		if e.Hostname != nil {
			below(*e.Hostname)
		}
		if e.TargetRef != nil {
			below(e.TargetRef.Name)
		}
		for _, addr := range e.Addresses {
			below(dashed(addr))
			n.add(dashed(addr), s.Namespace, "pod", zone)
		}
	}
	for _, p := range s.Ports {
		below("_"+*p.Name, "_"+strings.ToLower(string(*p.Protocol)))
	}
}

// dashed is the label made of an address.
func dashed(addr string) string {
	label := strings.NewReplacer(".", "-", ":", "-").Replace(addr)
	if strings.HasSuffix(label, "-") {
		label += "0"
	}
	return label
}

// addReverse adds the names of all addresses and, sometimes, of the prefixes above them.
func (n names) addReverse(c cluster) {
	addrs := []string{"192.0.2.9", "10.96.0.255", "fd00:10:96::ffff", "2001:db8::9"}
	each(c, func(s *corev1.Service) { addrs = append(addrs, append(s.Spec.ExternalIPs, s.Spec.ClusterIPs...)...) })
	each(c, func(s *discoveryv1.EndpointSlice) {
		for _, e := range s.Endpoints {
			addrs = append(addrs, e.Addresses...)
		}
	})
	each(c, func(p *corev1.Pod) {
		for _, ip := range p.Status.PodIPs {
			addrs = append(addrs, ip.IP)
		}
	})
	for _, text := range addrs {
		if addr, err := netip.ParseAddr(text); err == nil {
			n.addAddr(addr)
		}
	}
}

func (n names) addAddr(addr netip.Addr) {
	name, err := dns.ReverseAddr(addr.String())
	if err != nil {
		return
	}
	n.add(name)
	labels := dns.SplitDomainName(name)
	for _, drop := range []int{1, 2, 3, 16, 24} {
		if drop < len(labels)-1 {
			n.add(labels[drop:]...)
		}
	}
}

// mutate changes a name so that it may no longer, or only differently, be one that
// exists.
func (g generator) mutate(name string) string {
	labels := dns.SplitDomainName(name)
	if len(labels) == 0 {
		return name
	}
	at := g.IntN(len(labels))
	switch g.IntN(10) {
	case 0, 1, 2:
		return g.flipCase(name)
	case 3:
		labels = slices.Delete(labels, at, at+1)
	case 4:
		labels = slices.Insert(labels, at, pick(g, []string{"x", "_tcp", "svc", "pod", "default", "1", strings.Repeat("l", 63), `a\.b`, `\000`, "*", "any", "_zone", "pin", "10-244-1-1"}))
	case 5:
		labels[at] = strings.TrimPrefix(labels[at], "_")
		labels[0] = strings.TrimPrefix(labels[0], "_")
	case 6:
		labels[at] = pick(g, []string{"_tcp", "_udp", "_sctp", "tcp", "_x", "web", "default", "prod", "team-a", "svc", "pod"})
	case 7:
		for i := range labels {
			labels[i] = strings.NewReplacer("_tcp", "_udp", "_udp", "_tcp").Replace(labels[i])
		}
	case 8:
		labels[at] = pick(g, []string{`\.`, `a\.b`, `\032`, "-", labels[at] + `\.` + labels[at], labels[at] + "0", "0" + labels[at]})
	case 9:
		at = g.IntN(len(labels))
		labels = slices.Concat(labels[:at], []string{labels[at]}, labels[at:])
	}
	changed := dns.Fqdn(strings.Join(labels, "."))
	if _, valid := dns.IsDomainName(changed); !valid || strings.Contains(changed, "..") {
		return name
	}
	return changed
}

func (g generator) flipCase(name string) string {
	text := []byte(name)
	for i, b := range text {
		if b >= 'a' && b <= 'z' && g.chance(40) {
			text[i] = b - 'a' + 'A'
		}
	}
	return string(text)
}

// types are what is asked for; the first ones more often.
var types = []uint16{
	dns.TypeA, dns.TypeA, dns.TypeA, dns.TypeAAAA, dns.TypeAAAA, dns.TypeSRV, dns.TypeSRV, dns.TypePTR, dns.TypePTR,
	dns.TypeCNAME, dns.TypeTXT, dns.TypeNS, dns.TypeSOA, dns.TypeMX, dns.TypeANY, dns.TypeHTTPS, dns.TypeSVCB, dns.TypeCAA,
	dns.TypeDS, dns.TypeHINFO, dns.TypeAXFR,
}

// query makes a random query about one of the names.
func (g generator) query(from []string) query {
	q := query{name: pick(g, from), qtype: pick(g, types), tcp: g.chance(10), client: pick(g, clients)}
	if g.chance(40) {
		q.name = g.mutate(q.name)
	}
	return q
}
