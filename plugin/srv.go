package mooring

import (
	"net/netip"
	"slices"

	"github.com/miekg/dns"
)

// candidate is a target with one port and address, before what is said twice is left out.
type candidate struct {
	target string
	port   uint16
	addr   netip.Addr
}

// srv gives the SRV records of a place, with the addresses of their targets.
func (c *config) srv(q dns.Question, n *name, p *place) (answer, extra []dns.RR) {
	var list []candidate
	uncounted := 0
	if p.service.Service.Headless || p.endpoint != "" {
		list, uncounted = c.endpointCandidates(n, p)
	} else {
		list = clusterIPCandidates(n, p)
	}
	if len(list) == 0 {
		return nil, nil
	}
	// 100 is shared among all ports and addresses, as the stock plugin does: also among
	// those that then turn out to be the same target and port.
	weight := uint16(max(1, 100/(len(list)+uncounted)))
	return c.srvAnswer(q.Name, list, weight), c.srvExtra(list)
}

func clusterIPCandidates(n *name, p *place) []candidate {
	service := p.service.Service
	target := below(serviceLabels(service.Key), n.zoneText)
	list := make([]candidate, 0, len(service.Ports)*len(service.ClusterIPs))
	for _, port := range service.Ports {
		if !p.admits(port.Name, port.Protocol) {
			continue
		}
		for _, ip := range service.ClusterIPs {
			list = append(list, candidate{target, port.Port, ip.Unmap()})
		}
	}
	return list
}

// endpointCandidates also gives the number of endpoints and ports that lead to no record
// and that the stock plugin counts: without any port, and without a number.
func (c *config) endpointCandidates(n *name, p *place) (list []candidate, uncounted int) {
	m := c.membersOf(p.service)
	ports := 0
	m.pick(p, func(e *member) {
		ports += len(e.ports)
		if c.stock && len(e.ports) == 0 && p.port == "" && p.protocol == "" {
			uncounted++
		}
	})
	list = make([]candidate, 0, ports)
	m.pick(p, func(e *member) {
		target := e.target
		if n.zoneText != m.naming.primary {
			target = below(e.label+"."+serviceLabels(p.service.Service.Key), n.zoneText)
		}
		for _, port := range e.ports {
			switch {
			case !p.admits(port.Name, port.Protocol):
			case port.Port == 0:
				uncounted++
			default:
				list = append(list, candidate{target, port.Port, e.addr})
			}
		}
	})
	return list, uncounted
}

// srvAnswer makes one record for each target and port.
func (c *config) srvAnswer(owner string, list []candidate, weight uint16) []dns.RR {
	header := c.header(owner, dns.TypeSRV)
	slab := make([]dns.SRV, 0, len(list))
	records := make([]dns.RR, 0, len(list))
	for _, one := range distinctBy(list, func(a candidate) candidate { a.addr = netip.Addr{}; return a }) {
		slab = append(slab, dns.SRV{Hdr: header, Weight: weight, Port: one.port, Target: one.target})
		records = append(records, &slab[len(slab)-1])
	}
	return records
}

// srvExtra makes one record for each target and address.
func (c *config) srvExtra(list []candidate) []dns.RR {
	records := make([]dns.RR, 0, len(list))
	for _, one := range distinctBy(list, func(a candidate) candidate { a.port = 0; return a }) {
		records = append(records, c.addressRecord(one.target, one.addr))
	}
	return records
}

// distinctBy gives the first of those that look the same to key, in their order.
func distinctBy(list []candidate, key func(candidate) candidate) []candidate {
	if len(list) <= 1 {
		return list
	}
	first := make([]candidate, 0, len(list))
	var seen map[candidate]struct{}
	if len(list) > few {
		seen = make(map[candidate]struct{}, len(list))
	}
	for _, one := range list {
		k := key(one)
		if seen == nil {
			if slices.Contains(first, k) {
				continue
			}
		} else {
			if _, twice := seen[k]; twice {
				continue
			}
			seen[k] = struct{}{}
		}
		first = append(first, k)
	}
	return first
}

// addressRecord is an A or AAAA record.
func (c *config) addressRecord(owner string, addr netip.Addr) dns.RR {
	if addr.Is4() {
		r := &v4record{ip: addr.As4()}
		r.Hdr, r.A.A = c.header(owner, dns.TypeA), r.ip[:]
		return &r.A
	}
	r := &v6record{ip: addr.As16()}
	r.Hdr, r.AAAA.AAAA = c.header(owner, dns.TypeAAAA), r.ip[:]
	return &r.AAAA
}

func (c *config) header(owner string, rrtype uint16) dns.RR_Header {
	return dns.RR_Header{Name: owner, Rrtype: rrtype, Class: dns.ClassINET, Ttl: c.ttl}
}
