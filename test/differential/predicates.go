package differential

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	mcsv1alpha1 "sigs.k8s.io/mcs-api/pkg/apis/v1alpha1"
)

// negative tells whether both answers are empty and have these response codes.
func (d *difference) negative(stock, ours string) bool {
	return d.stock.empty(stock) && d.ours.empty(ours)
}

// empty tells whether an answer has a response code and no records.
func (a answer) empty(rcode string) bool { return a.rcode == rcode && len(a.answer) == 0 }

// only tells whether an answer has records, all of these types.
func (a answer) only(types ...string) bool {
	for _, record := range a.answer {
		if !slices.Contains(types, strings.Fields(record)[3]) {
			return false
		}
	}
	return len(a.answer) > 0
}

// startsWithAlias tells whether the name asked for is an alias.
func (a answer) startsWithAlias() bool {
	asked, _, _ := strings.Cut(strings.TrimPrefix(a.question, ";"), "\t")
	return slices.ContainsFunc(a.answer, func(record string) bool {
		fields := strings.Fields(record)
		return fields[0] == asked && fields[3] == "CNAME"
	})
}

// isAddress tells whether an address is asked for.
func (d *difference) isAddress() bool {
	return d.query.qtype == dns.TypeA || d.query.qtype == dns.TypeAAAA
}

// labels are those left of the zone, in lower case.
func (d *difference) labels() []string {
	name := strings.ToLower(d.query.name)
	best := ""
	for _, zone := range d.pair.stanza.zones {
		if dns.IsSubDomain(dns.Fqdn(zone), name) && len(zone) > len(best) {
			best = zone
		}
	}
	return dns.SplitDomainName(strings.TrimSuffix(name, dns.Fqdn(best)))
}

// prefersZone tells whether names of a zone are asked for of which others are given if it has none.
func prefersZone(labels []string) bool {
	at := slices.Index(labels, "_zone")
	return at > 0 && labels[at-1] == "prefer"
}

// isPortName tells whether the name is _port._protocol below a Service.
func (d *difference) isPortName() bool {
	l := d.labels()
	return len(l) == 5 && l[4] == "svc" && strings.HasPrefix(l[0], "_") && strings.HasPrefix(l[1], "_")
}

// isPortNameWithout tells whether it would be isPortName with more underscores.
func (d *difference) isPortNameWithout() bool {
	l := d.labels()
	return len(l) == 5 && l[4] == "svc" && (len(l[0]) < 2 || len(l[1]) < 2 || l[0][0] != '_' || l[1][0] != '_')
}

// agrees tells whether ours is what the stock plugin answers to another question.
func (d *difference) agrees(qtype uint16, name string) bool {
	other := d.query
	other.qtype, other.name = qtype, name
	m, err := d.pair.askStock(other)
	if err != nil {
		return false
	}
	stock := canonical(m)
	stock.question = d.ours.question
	return len(differ(stock.lower(), d.ours.lower(), stock.lower())) == 0
}

// explainedAs tells whether ours is the answer to another spelling of the name, and the
// stock plugin either agrees about that one or differs in a way that is allowed.
func (d *difference) explainedAs(name string) bool {
	other := *d
	other.query.name = name
	stock, err := d.pair.askStock(other.query)
	if err != nil {
		return false
	}
	ours, err := d.pair.ours.ask(other.query)
	if err != nil {
		return false
	}
	other.stock, other.ours = canonical(stock), canonical(ours)
	same := other.ours.lower()
	same.question = d.ours.question
	if len(differ(same, d.ours.lower(), same)) > 0 {
		return false
	}
	other.parts = differ(other.stock, other.ours, other.stock)
	return len(other.parts) == 0 || allowed(&other) != nil
}

// lower gives an answer in lower case.
func (a answer) lower() answer {
	for _, records := range []*[]string{&a.answer, &a.authority, &a.extra} {
		*records = strings.Split(strings.ToLower(strings.Join(*records, "\n")), "\n")
		slices.Sort(*records)
	}
	return a
}

// hasOtherType tells whether the stock plugin has records of another type at the name.
func (d *difference) hasOtherType() bool { return d.pair.exists(strings.ToLower(d.query.name)) }

// hasBelow tells whether the stock plugin has records at a name below the one asked for.
func (d *difference) hasBelow() bool {
	suffix := "." + strings.ToLower(d.query.name)
	for _, name := range derive(d.objects) {
		if strings.HasSuffix(name, suffix) && d.pair.exists(name) {
			return true
		}
	}
	return false
}

// exists tells whether the stock plugin has records at a name, be it that it cannot
// send them.
func (p *pair) exists(name string) bool {
	for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypePTR, dns.TypeTXT} {
		m, err := p.askStock(query{name: name, qtype: qtype, tcp: true})
		if err == nil && (m == noReply || m.Authoritative && m.Rcode == dns.RcodeSuccess) {
			return true
		}
	}
	return false
}

// anySlice tells whether there is a slice, of a Service that has to do with the query,
// of which something is true.
func (d *difference) anySlice(is func(*discoveryv1.EndpointSlice) bool) (found bool) {
	labels := d.labels()
	each(d.objects, func(s *discoveryv1.EndpointSlice) {
		service := cmp.Or(s.Labels[discoveryv1.LabelServiceName], s.Labels[mcsv1alpha1.LabelServiceName])
		named := slices.Contains(labels, s.Namespace) && slices.Contains(labels, service)
		if named || hasAddress(s, d.query.name) {
			found = found || is(s)
		}
	})
	return found
}

// hasAddress tells whether a slice has the address that a reverse name spells.
func hasAddress(s *discoveryv1.EndpointSlice, name string) bool {
	for _, e := range s.Endpoints {
		for _, addr := range e.Addresses {
			if reverse, err := dns.ReverseAddr(addr); err == nil && dns.IsSubDomain(strings.ToLower(name), reverse) {
				return true
			}
		}
	}
	return false
}

func isFQDN(s *discoveryv1.EndpointSlice) bool { return s.AddressType == discoveryv1.AddressTypeFQDN }

func isPortless(s *discoveryv1.EndpointSlice) bool { return len(s.Ports) == 0 }

func hasNoPortNumber(s *discoveryv1.EndpointSlice) bool {
	return slices.ContainsFunc(s.Ports, func(p discoveryv1.EndpointPort) bool { return p.Port == nil })
}

func hasSecondAddress(s *discoveryv1.EndpointSlice) bool {
	return slices.ContainsFunc(s.Endpoints, func(e discoveryv1.Endpoint) bool { return len(e.Addresses) > 1 })
}

// isSpelledOtherwise tells whether a slice has an address that is not spelled as RFC 5952 says.
func isSpelledOtherwise(s *discoveryv1.EndpointSlice) bool {
	return slices.ContainsFunc(s.Endpoints, func(e discoveryv1.Endpoint) bool {
		return slices.ContainsFunc(e.Addresses, func(text string) bool {
			addr, err := netip.ParseAddr(text)
			return err == nil && addr.String() != text
		})
	})
}

// isOrphan tells whether a slice belongs to a Service that does not exist for clients:
// not at all, or the properties labels, namespaces or namespace_labels leave it out.
func (d *difference) isOrphan(s *discoveryv1.EndpointSlice) bool {
	service := d.objects[objectKey{"services", s.Namespace, s.Labels[discoveryv1.LabelServiceName]}]
	namespace := d.objects[objectKey{"namespaces", "", s.Namespace}]
	stock := d.pair.stock
	switch {
	case service == nil || namespace == nil:
		return true
	case stock.has(" labels app=x"):
		return service.GetLabels()["app"] != "x"
	case stock.has(" namespace_labels team=a"):
		return namespace.GetLabels()["team"] != "a"
	case stock.has(" namespaces "):
		return !stock.has(" " + s.Namespace + " ")
	}
	return false
}

// isOwnOrphan tells whether such a slice has an address of this machine.
func (d *difference) isOwnOrphan() (found bool) {
	each(d.objects, func(s *discoveryv1.EndpointSlice) {
		for _, addr := range ownAddresses() {
			for _, e := range s.Endpoints {
				found = found || slices.Contains(e.Addresses, addr) && d.isOrphan(s)
			}
		}
	})
	return found
}

// isReverse tells whether the name is below in-addr.arpa or ip6.arpa.
func (d *difference) isReverse() bool { return dns.IsSubDomain("arpa.", d.query.name) }

// subsetOf tells whether an answer has no record that another has not.
func (a answer) subsetOf(other answer) bool { return partOf(a.answer, other.answer) }

// isWithin tells whether all of our records are the stock plugin's too, weights aside.
func (d *difference) isWithin() bool {
	return partOf(withoutWeight(d.ours.answer), withoutWeight(d.whole.answer)) && partOf(d.ours.extra, d.whole.extra)
}

// sameButWeights tells whether the answers are the same, weights aside; of answers that were cut,
// which records are left is nobody's business.
func (d *difference) sameButWeights() bool {
	if d.stock.truncated && d.ours.truncated {
		return d.isWithin()
	}
	return slices.Equal(withoutWeight(d.stock.answer), withoutWeight(d.ours.answer))
}

// lostTargetsMissing tells whether what the stock plugin points to and ours does not is
// no name of the stock plugin either.
func (d *difference) lostTargetsMissing() bool {
	for _, record := range d.stock.answer {
		if !slices.Contains(d.ours.answer, record) {
			fields := strings.Fields(record)
			if d.pair.exists(strings.ToLower(fields[len(fields)-1])) {
				return false
			}
		}
	}
	return true
}

// withoutWeight gives records, those of type SRV without their weights.
func withoutWeight(records []string) (texts []string) {
	for _, record := range records {
		fields := strings.Fields(record)
		if fields[3] == "SRV" {
			fields = slices.Delete(fields, 5, 6)
		}
		texts = append(texts, strings.Join(fields, " "))
	}
	slices.Sort(texts)
	return texts
}

// anyDuplicate tells whether the Service of the name has an address twice.
func (d *difference) anyDuplicate() bool {
	seen := make(map[string]bool)
	twice := false
	d.anySlice(func(s *discoveryv1.EndpointSlice) bool {
		for _, e := range s.Endpoints {
			twice = twice || seen[e.Addresses[0]]
			seen[e.Addresses[0]] = true
		}
		return false
	})
	return twice
}

// service gives the Service whose name is asked for, nil if there is none.
func (d *difference) service() *corev1.Service {
	l := d.labels()
	if len(l) != 3 || l[2] != "svc" {
		return nil
	}
	service, _ := d.objects[objectKey{"services", l[1], l[0]}].(*corev1.Service)
	return service
}
