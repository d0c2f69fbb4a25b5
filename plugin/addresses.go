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
	room    int
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

// grow makes room for n records more.
func (a *addresses) grow(n int) {
	a.room = n
	if a.records == nil {
		a.records = make([]dns.RR, 0, n)
	}
}

// add appends a record if the address is of the family asked for.
func (a *addresses) add(addr netip.Addr) {
	addr = addr.Unmap()
	switch {
	case a.header.Rrtype == dns.TypeA && addr.Is4():
		a.addV4(addr)
	case a.header.Rrtype == dns.TypeAAAA && addr.Is6():
		a.addV6(addr)
	}
}

func (a *addresses) addV4(addr netip.Addr) {
	if len(a.v4) == cap(a.v4) {
		a.v4 = make([]v4record, 0, a.slab(cap(a.v4)))
	}
	a.v4 = append(a.v4, v4record{ip: addr.As4()})
	r := &a.v4[len(a.v4)-1]
	r.Hdr, r.A.A = a.header, net.IP(r.ip[:])
	a.records = append(a.records, &r.A)
}

func (a *addresses) addV6(addr netip.Addr) {
	if len(a.v6) == cap(a.v6) {
		a.v6 = make([]v6record, 0, a.slab(cap(a.v6)))
	}
	a.v6 = append(a.v6, v6record{ip: addr.As16()})
	r := &a.v6[len(a.v6)-1]
	r.Hdr, r.AAAA.AAAA = a.header, net.IP(r.ip[:])
	a.records = append(a.records, &r.AAAA)
}

// slab is the size of the next slab: what is still expected, else twice the last.
func (a *addresses) slab(last int) int {
	if room := a.room - len(a.records); room > 0 {
		return room
	}
	return max(1, 2*last)
}
