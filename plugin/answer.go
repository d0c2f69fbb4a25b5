package mooring

import (
	"net/netip"

	"github.com/miekg/dns"

	"github.com/mooring-project/mooring/internal/model"
)

// outcome is what a lookup came to (RFC 2308 section 2).
type outcome uint8

const (
	success outcome = iota
	noData
	nameError
	// unsure is a negative verdict reached before all objects have been listed.
	unsure
)

// question is what an answer is asked for.
type question struct {
	dns.Question
	// room is the number of addresses that the client can take at most; 0 means any.
	room int
	// turn grows from query to query: an answer that is cut starts elsewhere each time.
	turn uint32
}

// answer is the outcome of a lookup, before it is made a message.
type answer struct {
	outcome outcome
	// records and extra are the answer and additional sections.
	records, extra []dns.RR
	// cut is true if not all records had room.
	cut bool
	// follow is the name outside our zones at which the answer goes on.
	follow string
	// in is the zone a negative answer is about, if another than that asked.
	in *name
	// place tells why there is nothing.
	place place
}

// answerQuestion computes the answer to one question about a name in our zones.
func (c *config) answerQuestion(snap view, q question, n *name) answer {
	return c.answerAfter(snap, q, n, 0)
}

// answerAfter is answerQuestion at the end of a chain of so many aliases.
func (c *config) answerAfter(snap view, q question, n *name, aliases int) answer {
	p := c.locate(snap, n)
	if c.stock {
		if a, differs := c.stockAnswer(q.Question, n, &p); differs {
			return a
		}
	}
	switch {
	case p.kind == nowhere:
		return c.negative(snap, &p)
	case p.kind == reverseName:
		return c.pointerAnswer(snap, q.Question, &p)
	case p.kind == serviceName && p.service.Service.Type == model.ExternalName:
		return c.aliasAnswer(snap, q, n, &p, aliases)
	}
	a := c.records(snap, q, n, &p)
	if len(a.records) > 0 {
		return a
	}
	if c.exists(&p) {
		return answer{outcome: noData, place: p}
	}
	return c.negative(snap, &p)
}

// negative says that a name does not exist, or that nobody can tell as long as the snapshot is
// incomplete.
func (c *config) negative(snap view, p *place) answer {
	if !snap.synced() {
		return answer{outcome: unsure, place: *p}
	}
	return answer{outcome: nameError, place: *p}
}

// records gives the records of a type at a place.
func (c *config) records(snap view, q question, n *name, p *place) (a answer) {
	switch q.Qtype {
	case dns.TypeA, dns.TypeAAAA:
		a.records, a.cut = c.addressRecords(snap, q, n, p)
	case dns.TypeSRV:
		switch p.kind {
		case serviceName, endpointName, portName, zonalName:
			a.records, a.extra = c.srv(q.Question, n, p)
		}
	case dns.TypeTXT:
		if p.kind == versionName {
			a.records = []dns.RR{c.versionRecord(q.Name)}
		}
	case dns.TypeSOA:
		if p.kind == apex {
			a.records = []dns.RR{c.soa(snap, n, c.ttl)}
		}
	case dns.TypeNS:
		if p.kind == apex {
			a.records, a.extra = c.ns(snap, n)
		}
	}
	return a
}

func (c *config) addressRecords(snap view, q question, n *name, p *place) ([]dns.RR, bool) {
	var out addresses
	out.open(q.Question, c.ttl)
	switch p.kind {
	case serviceName:
		if p.service.Service.Headless {
			return c.headlessRecords(&out, q, p)
		}
		out.addAll(p.service.Service.ClusterIPs)
	case endpointName, zonalName:
		c.endpointRecords(&out, p)
	case portName:
		if c.stock {
			c.stockPortRecords(&out, p)
		}
	case podName:
		out.add(p.addr)
	case nameserverName:
		seen := make(map[netip.Addr]struct{})
		for _, server := range c.nameservers(snap, n) {
			if _, twice := seen[server.addr]; !twice {
				seen[server.addr] = struct{}{}
				out.add(server.addr)
			}
		}
	}
	return out.records, false
}

// headlessRecords gives all ready endpoints, or as many as have room, beginning at
// another one each time: the rest would be thrown away when the message is packed.
func (c *config) headlessRecords(out *addresses, q question, p *place) ([]dns.RR, bool) {
	m := c.membersOf(p.service)
	list := m.v4
	if q.Qtype == dns.TypeAAAA {
		list = m.v6
	}
	if q.room == 0 || len(list) <= q.room {
		out.addAll(list)
		return out.records, false
	}
	start := int(q.turn % uint32(len(list)))
	out.grow(q.room)
	for i := range q.room {
		out.add(list[(start+i)%len(list)])
	}
	return out.records, true
}

func (c *config) endpointRecords(out *addresses, p *place) {
	seen := make(map[netip.Addr]struct{})
	c.membersOf(p.service).pick(p, func(e *member) {
		if _, twice := seen[e.addr]; !twice && (p.kind != portName || c.listens(e, p)) {
			seen[e.addr] = struct{}{}
			out.add(e.addr)
		}
	})
}

// stockPortRecords gives addresses at _port._protocol, as the stock plugin does.
func (c *config) stockPortRecords(out *addresses, p *place) {
	if !c.anyPort(p) {
		return
	}
	if !p.service.Service.Headless {
		out.addAll(p.service.Service.ClusterIPs)
		return
	}
	c.endpointRecords(out, p)
}
