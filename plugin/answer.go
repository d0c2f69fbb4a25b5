package mooring

import (
	"time"

	"github.com/miekg/dns"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
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

// answer is the outcome of a lookup, before it is made a message.
type answer struct {
	outcome outcome
	records []dns.RR
}

// answerQuestion computes the answer to one question about a name in our zones.
func (c *config) answerQuestion(snap *state.Snapshot, q dns.Question, n *name) answer {
	p := c.locate(snap, n)
	if p.kind == nowhere {
		return c.negative(snap, nameError)
	}
	records := c.records(snap, q, n, p)
	if len(records) > 0 {
		return answer{records: records}
	}
	if p.kind == endpointName {
		return c.negative(snap, nameError)
	}
	if p.kind == serviceName && p.service.Service.Headless {
		return c.headlessWithout(snap, p)
	}
	return answer{outcome: noData}
}

// headlessWithout is the verdict on a headless Service that has no record of the type
// asked for: its name exists only while an endpoint is ready (specification section
// 2.4.1), and before the sync its endpoints may merely not have arrived.
func (c *config) headlessWithout(snap *state.Snapshot, p place) answer {
	if anyReady(p.service) {
		return answer{outcome: noData}
	}
	return c.negative(snap, nameError)
}

// negative turns a verdict into doubt as long as the snapshot is incomplete.
func (c *config) negative(snap *state.Snapshot, verdict outcome) answer {
	if !snap.Synced {
		verdict = unsure
	}
	return answer{outcome: verdict}
}

func (c *config) records(snap *state.Snapshot, q dns.Question, n *name, p place) []dns.RR {
	switch q.Qtype {
	case dns.TypeA, dns.TypeAAAA:
		return c.addressRecords(q, p)
	case dns.TypeSOA:
		if p.kind == apex {
			return []dns.RR{c.soa(snap, n)}
		}
	}
	return nil
}

func (c *config) addressRecords(q dns.Question, p place) []dns.RR {
	if p.service == nil {
		return nil
	}
	var out addresses
	out.open(q, c.ttl)
	if p.kind == serviceName && !p.service.Service.Headless {
		out.grow(len(p.service.Service.ClusterIPs))
		for _, ip := range p.service.Service.ClusterIPs {
			out.add(ip)
		}
		return out.records
	}
	eachReady(p.service, func(_ *model.EndpointSlice, e *model.Endpoint) bool {
		if p.kind == serviceName || endpointLabel(e) == p.endpoint {
			out.add(e.Addr)
		}
		return true
	})
	return out.records
}

// soa is the zone's SOA record. Its owner and names keep the client's spelling of the
// zone.
func (c *config) soa(snap *state.Snapshot, n *name) *dns.SOA {
	mname, rname := n.zone.mname, n.zone.rname
	if n.zoneText != n.zone.name {
		mname, rname = below("ns.dns", n.zoneText), below("hostmaster", n.zoneText)
	}
	return &dns.SOA{
		Hdr:     dns.RR_Header{Name: n.zoneText, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: min(c.ttl, 300)},
		Ns:      mname,
		Mbox:    rname,
		Serial:  serial(snap.ChangedAt),
		Refresh: 7200,
		Retry:   1800,
		Expire:  86400,
		Minttl:  c.ttl,
	}
}

// serial is the time of the last change in seconds, 0 before the first one.
func serial(changed time.Time) uint32 {
	if changed.IsZero() {
		return 0
	}
	return uint32(changed.Unix())
}
