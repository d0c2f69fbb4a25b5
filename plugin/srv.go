package mooring

import (
	"net/netip"

	"github.com/miekg/dns"
)

// srvRecords collects SRV records and the addresses of their targets, each once.
type srvRecords struct {
	owner         dns.RR_Header
	answer, extra []dns.RR
	candidates    int
	ports         map[targetPort]struct{}
	addrs         map[targetAddr]struct{}
}

type targetPort struct {
	target string
	port   uint16
}

type targetAddr struct {
	target string
	addr   netip.Addr
}

// srv gives the SRV records of a place, with the addresses of their targets.
func (c *config) srv(q dns.Question, n *name, p *place) (answer, extra []dns.RR) {
	out := srvRecords{
		owner: c.header(q.Name, dns.TypeSRV),
		ports: make(map[targetPort]struct{}),
		addrs: make(map[targetAddr]struct{}),
	}
	if p.service.Service.Headless || p.endpoint != "" {
		c.endpointSRV(&out, n, p)
	} else {
		c.clusterIPSRV(&out, n, p)
	}
	out.setWeights()
	return out.answer, out.extra
}

func (c *config) clusterIPSRV(out *srvRecords, n *name, p *place) {
	service := p.service.Service
	target := below(serviceLabels(service.Key), n.zoneText)
	for _, port := range service.Ports {
		if !p.admits(port.Name, port.Protocol) {
			continue
		}
		for _, ip := range service.ClusterIPs {
			out.add(c, target, port.Port, ip.Unmap())
		}
	}
}

func (c *config) endpointSRV(out *srvRecords, n *name, p *place) {
	m := c.membersOf(p.service)
	m.pick(p, func(e *member) {
		target := e.target
		if n.zoneText != m.naming.primary {
			target = below(e.label+"."+serviceLabels(p.service.Service.Key), n.zoneText)
		}
		if c.stock && len(e.ports) == 0 && p.port == "" && p.protocol == "" {
			out.candidates++ // counted, though it leads to no record
		}
		for _, port := range e.ports {
			if p.admits(port.Name, port.Protocol) {
				out.add(c, target, port.Port, e.addr)
			}
		}
	})
}

// add adds a target with one port and address.
func (s *srvRecords) add(c *config, target string, port uint16, addr netip.Addr) {
	s.candidates++
	if _, twice := s.ports[targetPort{target, port}]; !twice {
		s.ports[targetPort{target, port}] = struct{}{}
		s.answer = append(s.answer, &dns.SRV{Hdr: s.owner, Port: port, Target: target})
	}
	if _, twice := s.addrs[targetAddr{target, addr}]; !twice {
		s.addrs[targetAddr{target, addr}] = struct{}{}
		s.extra = append(s.extra, c.addressRecord(target, addr))
	}
}

// setWeights shares 100 among all ports and addresses, as the stock plugin does: also
// among those that then turn out to be the same target and port.
func (s *srvRecords) setWeights() {
	if s.candidates == 0 {
		return
	}
	weight := uint16(max(1, 100/s.candidates))
	for _, rr := range s.answer {
		rr.(*dns.SRV).Weight = weight
	}
}

// addressRecord is an A or AAAA record.
func (c *config) addressRecord(owner string, addr netip.Addr) dns.RR {
	if addr.Is4() {
		return &dns.A{Hdr: c.header(owner, dns.TypeA), A: addr.AsSlice()}
	}
	return &dns.AAAA{Hdr: c.header(owner, dns.TypeAAAA), AAAA: addr.AsSlice()}
}

func (c *config) header(owner string, rrtype uint16) dns.RR_Header {
	return dns.RR_Header{Name: owner, Rrtype: rrtype, Class: dns.ClassINET, Ttl: c.ttl}
}
