package mooring

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/coredns/coredns/plugin/transfer"
	"github.com/miekg/dns"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
)

// Transfer implements transfer.Transferer. The zone is one snapshot, and each record is
// the one a query would get. A client whose serial is the present one gets the SOA record
// alone; for every other serial the whole zone is sent.
func (m *Mooring) Transfer(origin string, since uint32) (<-chan []dns.RR, error) {
	i := slices.IndexFunc(m.zones, func(z zone) bool { return z.name == strings.ToLower(origin) })
	if i < 0 {
		return nil, transfer.ErrNotAuthoritative
	}
	snap := m.view(&m.zones[i])
	if !snap.synced() {
		return nil, transfer.ErrNotAuthoritative
	}
	apex := &name{full: m.zones[i].name, zone: &m.zones[i], zoneText: m.zones[i].name}
	out := make(chan []dns.RR)
	go func() {
		defer close(out)
		soa := []dns.RR{m.soa(snap, apex, m.ttl)}
		out <- soa
		if since != 0 && since == serial(snap.ChangedAt) {
			return
		}
		m.eachRecordSet(snap, apex, func(records []dns.RR) { out <- records })
		out <- soa
	}()
	return out, nil
}

// transferTypes are the types a name is asked for.
var transferTypes = []uint16{dns.TypeCNAME, dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypeTXT, dns.TypePTR}

// eachRecordSet goes over everything in a zone except the SOA record.
func (c *config) eachRecordSet(snap view, apex *name, visit func([]dns.RR)) {
	if ns, _ := c.ns(snap, apex); len(ns) > 0 {
		visit(ns)
	}
	for _, owner := range c.owners(snap, apex.zone) {
		at, _ := parseName(c.zones, owner)
		for _, rrtype := range transferTypes {
			q := question{Question: dns.Question{Name: owner, Qtype: rrtype, Qclass: dns.ClassINET}}
			a := c.answerQuestion(snap, q, &at)
			if records := ownedBy(a.records, owner, rrtype); len(records) > 0 {
				visit(records)
			}
		}
	}
}

// ownedBy leaves out what an alias leads to.
func ownedBy(records []dns.RR, owner string, rrtype uint16) []dns.RR {
	return slices.DeleteFunc(records, func(rr dns.RR) bool {
		return rr.Header().Name != owner || rr.Header().Rrtype != rrtype
	})
}

// owners are the names in a zone that may own records, sorted, each once.
func (c *config) owners(snap view, z *zone) []string {
	list := []string{below("dns-version", z.name), below("ns.dns", z.name)}
	for _, entry := range c.exposedServices(snap) {
		if z.reverse {
			list = append(list, c.reverseOwners(entry, z)...)
		} else {
			list = append(list, c.serviceOwners(entry, z)...)
		}
	}
	if c.pods == podsVerified && !z.reverse {
		list = append(list, c.podOwners(snap, z)...)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// exposedServices are the Services that clients may see, sorted.
func (c *config) exposedServices(snap view) (list []*state.Service) {
	for key, entry := range snap.Services() {
		if c.exposes(snap, key.Namespace) {
			list = append(list, entry)
		}
	}
	slices.SortFunc(list, func(a, b *state.Service) int { return a.Service.Key.Compare(b.Service.Key) })
	return list
}

// serviceOwners are the names of a Service, its ports and its endpoints.
func (c *config) serviceOwners(entry *state.Service, z *zone) []string {
	service := below(serviceLabels(entry.Service.Key), z.name)
	list := []string{service}
	for _, port := range entry.Service.Ports {
		list = append(list, portOwner(port.Name, port.Protocol, service)...)
	}
	for _, e := range c.membersOf(entry).all {
		list = append(list, strings.ToLower(e.label)+"."+service)
		for _, port := range e.ports {
			list = append(list, portOwner(port.Name, port.Protocol, service)...)
		}
	}
	return list
}

// portOwner is the name of a port; a port without a name has none.
func portOwner(port string, protocol model.Protocol, service string) []string {
	if port == "" {
		return nil
	}
	return []string{"_" + strings.ToLower(port) + "._" + strings.ToLower(protocol.String()) + "." + service}
}

// reverseOwners are the names in a reverse zone of a Service's addresses.
func (c *config) reverseOwners(entry *state.Service, z *zone) (list []string) {
	add := func(addr netip.Addr) {
		if owner, err := dns.ReverseAddr(addr.String()); err == nil && inZone(owner, z.name) {
			list = append(list, owner)
		}
	}
	for _, addr := range entry.Service.ClusterIPs {
		add(addr)
	}
	for _, e := range c.membersOf(entry).all {
		add(e.addr)
	}
	return list
}

func (c *config) podOwners(snap view, z *zone) (list []string) {
	for key, pod := range snap.local.Pods() {
		if !c.exposes(snap, key.Namespace) {
			continue
		}
		for _, addr := range pod.Addresses {
			list = append(list, below(dashed(addr)+"."+key.Namespace+".pod", z.name))
		}
	}
	return list
}
