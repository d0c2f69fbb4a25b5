package mooring

import (
	"net/netip"

	"github.com/coredns/coredns/plugin/pkg/dnsutil"
	"github.com/miekg/dns"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
)

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

// stockPrefix reads a reverse name as the stock plugin does, which takes no notice of up
// to three labels in front of an IPv6 address.
func stockPrefix(full string, prefix netip.Prefix) netip.Prefix {
	addr, err := netip.ParseAddr(dnsutil.ExtractAddressFromReverse(full))
	if err != nil {
		return prefix
	}
	return netip.PrefixFrom(addr, addr.BitLen())
}

// stockPointedTo gives slices that the stock plugin makes PTR records of: also those whose
// Service does not exist.
func (c *config) stockPointedTo(snap view, key model.ServiceKey) *state.Service {
	if len(c.namespaces) == 0 || c.exposes(snap, key.Namespace) {
		return snap.Entry(key)
	}
	return nil
}

// stockKnowsItself tells whether a slice has an address of this server, be it of a Service
// that does not exist. The stock plugin then has no other name server to give.
func (c *config) stockKnowsItself(snap view) bool {
	for _, local := range c.localAddrs {
		use := snap.local.Address(local)
		if use == nil {
			continue
		}
		for _, key := range use.Services {
			if entry := snap.local.Entry(key); entry != nil && len(c.labelsAt(entry, local)) > 0 {
				return true
			}
		}
	}
	return false
}

// takeStockTopologies has members run where the stock plugin takes them to run, which
// keeps one zone for each address of a slice: the last that is named.
func (m *members) takeStockTopologies(service *state.Service) {
	type place struct {
		slice *model.EndpointSlice
		addr  netip.Addr
	}
	last := make(map[place]string)
	eachReady(service, func(slice *model.EndpointSlice, e *model.Endpoint) bool {
		if e.Zone() != "" {
			last[place{slice, e.Addr}] = e.Zone()
		}
		return true
	})
	i := 0
	eachReady(service, func(slice *model.EndpointSlice, e *model.Endpoint) bool {
		m.all[i].topology = last[place{slice, e.Addr}]
		i++
		return true
	})
}
