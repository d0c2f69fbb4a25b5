package mooring

import (
	"net/netip"

	"github.com/miekg/dns"
)

// maxAliases is how many ExternalName Services in a row are followed.
const maxAliases = 10

// aliasAnswer is the answer at a Service of type ExternalName: a CNAME record, whatever
// the type asked for (RFC 1034 section 3.6.2), and what is found at its target. The
// response code is that of the last name in the chain (RFC 6604 section 3).
func (c *config) aliasAnswer(snap view, q question, n *name, p *place, aliases int) answer {
	if c.stock {
		return c.stockAliasAnswer(snap, q, n, p, aliases)
	}
	target := dns.Fqdn(p.service.Service.ExternalName)
	alias := &dns.CNAME{Hdr: c.header(q.Name, dns.TypeCNAME), Target: target}
	if q.Qtype == dns.TypeCNAME || q.Qtype == dns.TypeANY || aliases >= maxAliases {
		return answer{records: []dns.RR{alias}}
	}
	return c.follow(snap, q, n, alias, aliases)
}

// follow adds what is found at an alias's target. A target in a multicluster zone is left
// to the upstream like one outside: its answer is made from another view.
func (c *config) follow(snap view, q question, n *name, alias *dns.CNAME, aliases int) answer {
	at, ours := parseName(c.zones, alias.Target)
	if !ours || at.zone.multicluster || c.stock && at.zone != n.zone {
		return answer{records: []dns.RR{alias}, follow: alias.Target}
	}
	if c.stock {
		at.zoneText = n.zoneText // the stock plugin compares the two letter by letter
	}
	q.Name, q.room = alias.Target, 0
	a := c.answerAfter(snap, q, &at, aliases+1)
	if a.outcome == nameError && c.fallsThrough(at.full) && !c.stock {
		return answer{records: []dns.RR{alias}, follow: alias.Target}
	}
	a.records = append([]dns.RR{alias}, a.records...)
	if a.outcome != success && a.in == nil {
		a.in = &at
	}
	return a
}

// stockAliasAnswer gives no CNAME record unless addresses are found behind it, and none
// for a name that looks like an address.
func (c *config) stockAliasAnswer(snap view, q question, n *name, p *place, aliases int) answer {
	target := dns.Fqdn(p.service.Service.ExternalName)
	if _, err := netip.ParseAddr(p.service.Service.ExternalName); err == nil {
		return c.negative(snap, p)
	}
	alias := &dns.CNAME{Hdr: c.header(q.Name, dns.TypeCNAME), Target: target}
	nothing := answer{outcome: noData, place: *p}
	switch {
	case q.Qtype == dns.TypeCNAME:
		return answer{records: []dns.RR{alias}}
	case q.Qtype != dns.TypeA && q.Qtype != dns.TypeAAAA, aliases > maxAliases:
		return nothing
	}
	if a := c.follow(snap, q, n, alias, aliases); a.follow != "" || a.outcome == success {
		return a
	}
	return nothing
}
