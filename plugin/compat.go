package mooring

import "github.com/miekg/dns"

// stockAnswer gives the stock plugin's answer where it depends on the type asked for
// whether a name exists, or on the letter case of the zone.
func (c *config) stockAnswer(q dns.Question, n *name, p *place) (answer, bool) {
	respelled := n.zoneText != n.zone.name
	switch {
	case q.Qtype == dns.TypeSRV && p.kind == podName:
		return c.stockPodSRV(q, n, p), true
	case q.Qtype == dns.TypeSOA && p.kind != apex:
		return answer{outcome: noData, place: *p}, true
	case q.Qtype == dns.TypeNS && p.kind == apex && respelled:
		return answer{outcome: noData, place: *p}, true
	case p.kind == nameserverName && (respelled || q.Qtype == dns.TypeTXT || q.Qtype == dns.TypePTR),
		p.kind == versionName && q.Qtype != dns.TypeTXT,
		q.Qtype == dns.TypeTXT && (p.kind == apex || p.kind == emptyNonTerminal):
		return answer{outcome: nameError, place: *p}, true
	}
	return answer{}, false
}

// stockPodSRV points from a Pod's name to itself.
func (c *config) stockPodSRV(q dns.Question, n *name, p *place) answer {
	target := below(n.labels[2]+"."+n.labels[1]+".pod", n.zoneText)
	return answer{
		records: []dns.RR{&dns.SRV{Hdr: c.header(q.Name, dns.TypeSRV), Weight: 100, Target: target}},
		extra:   []dns.RR{c.addressRecord(target, p.addr)},
	}
}
