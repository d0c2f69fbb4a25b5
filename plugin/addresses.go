package mooring

import (
	"net"
	"net/netip"

	"github.com/miekg/dns"
)

// addresses collects A or AAAA records of one owner. Records and rdata are made in
// slabs, so the number of allocations does not grow with the number of records.
type addresses struct {
	header  dns.RR_Header
	records []dns.RR
	v4      []v4record
	v6      []v6record
}

// v4record is an A record with its rdata beside it.
type v4record struct {
	dns.A
	ip [4]byte
}

// v6record is an AAAA record with its rdata beside it.
type v6record struct {
	dns.AAAA
	ip [16]byte
}

// open starts with the owner and type of a question.
func (a *addresses) open(q dns.Question, ttl uint32) {
	a.header = dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: dns.ClassINET, Ttl: ttl}
}

// addAll appends a record for each address of the family asked for.
func (a *addresses) addAll(list []netip.Addr) {
	fitting := 0
	for _, addr := range list {
		if a.asked(addr) {
			fitting++
		}
	}
	if fitting == 0 {
		return
	}
	a.grow(fitting)
	for _, addr := range list {
		a.add(addr)
	}
}

// grow makes room for so many records.
func (a *addresses) grow(count int) {
	a.records = make([]dns.RR, 0, count)
	if a.header.Rrtype == dns.TypeA {
		a.v4 = make([]v4record, 0, count)
	} else {
		a.v6 = make([]v6record, 0, count)
	}
}

// asked tells whether an address is of the family asked for.
func (a *addresses) asked(addr netip.Addr) bool {
	return addr.IsValid() && (addr.Is4() || addr.Is4In6()) == (a.header.Rrtype == dns.TypeA)
}

// add appends a record if the address is of the family asked for.
func (a *addresses) add(addr netip.Addr) {
	switch {
	case !a.asked(addr):
	case a.header.Rrtype == dns.TypeA:
		a.addV4(addr.Unmap())
	default:
		a.addV6(addr)
	}
}

func (a *addresses) addV4(addr netip.Addr) {
	if len(a.v4) == cap(a.v4) {
		a.v4 = make([]v4record, 0, max(1, 2*cap(a.v4)))
	}
	a.v4 = append(a.v4, v4record{ip: addr.As4()})
	r := &a.v4[len(a.v4)-1]
	r.Hdr, r.A.A = a.header, net.IP(r.ip[:])
	a.records = append(a.records, &r.A)
}

func (a *addresses) addV6(addr netip.Addr) {
	if len(a.v6) == cap(a.v6) {
		a.v6 = make([]v6record, 0, max(1, 2*cap(a.v6)))
	}
	a.v6 = append(a.v6, v6record{ip: addr.As16()})
	r := &a.v6[len(a.v6)-1]
	r.Hdr, r.AAAA.AAAA = a.header, net.IP(r.ip[:])
	a.records = append(a.records, &r.AAAA)
}
