package mooring

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
)

const (
	v4Suffix = "in-addr.arpa."
	v6Suffix = "ip6.arpa."
)

// locateReverse knows the names of addresses and of the prefixes above them. It says
// whether the name is below in-addr.arpa or ip6.arpa at all.
func (c *config) locateReverse(snap view, n *name) (p place, reverse bool) {
	prefix, reverse := prefixOfName(n.full)
	if c.stock && reverse {
		prefix = stockPrefix(n.full, prefix)
	}
	switch {
	case !reverse:
		return place{}, n.zone.reverse && !c.ownName(n)
	case !prefix.IsValid():
		return place{}, !c.ownName(n)
	case prefix.IsSingleIP():
		return place{kind: reverseName, addr: prefix.Addr(), why: noSuchAddress}, true
	case !c.stock && c.pointsBelow(snap, prefix):
		return place{kind: emptyNonTerminal}, true
	}
	return place{why: noSuchAddress}, true
}

// maxProbes bounds the search for an address with a name below a prefix. So many
// addresses without one are taken for granted to be followed by one that has: calling a
// name that has nothing below it an empty non-terminal does no harm.
const maxProbes = 1000

// pointsBelow tells whether an address in a prefix has a name.
func (c *config) pointsBelow(snap view, prefix netip.Prefix) bool {
	probes := 0
	for addr := range snap.Addresses(prefix) {
		if probes++; probes > maxProbes || len(c.pointerTargets(snap, addr)) > 0 {
			return true
		}
	}
	return false
}

// ownName tells whether a name in a reverse zone is one that the SOA record leads to.
func (c *config) ownName(n *name) bool {
	return n.labels[0] == "dns" || n.labels[0] == "dns-version" || c.stock && n.count == 1 && (n.labels[0] == "svc" || n.labels[0] == "pod")
}

// prefixOfName reads a lower-cased reverse name (RFC 1035 section 3.5, RFC 3596 section
// 2.5). It says whether the name is one at all; the prefix is not valid if it spells no
// address.
func prefixOfName(full string) (netip.Prefix, bool) {
	if left, is := cutZone(full, v4Suffix); is {
		return prefixOfV4(left), true
	}
	if left, is := cutZone(full, v6Suffix); is {
		return prefixOfV6(left), true
	}
	return netip.Prefix{}, false
}

// cutZone gives what stands left of a zone, with the dot at its end.
func cutZone(full, zone string) (left string, found bool) {
	left, found = strings.CutSuffix(full, zone)
	return left, found && (left == "" || strings.HasSuffix(left, "."))
}

func prefixOfV4(left string) netip.Prefix {
	var octets [4]byte
	count := 0
	for end := len(left) - 1; end > 0; count++ {
		start := strings.LastIndexByte(left[:end], '.') + 1
		octet, valid := decimal(left[start:end])
		if !valid || count == len(octets) {
			return netip.Prefix{}
		}
		octets[count], end = octet, start-1
	}
	return netip.PrefixFrom(netip.AddrFrom4(octets), 8*count)
}

// decimal reads an octet without leading zeros.
func decimal(label string) (byte, bool) {
	if label == "" || len(label) > 3 || label[0] == '0' && len(label) > 1 {
		return 0, false
	}
	value := 0
	for i := range len(label) {
		if label[i] < '0' || label[i] > '9' {
			return 0, false
		}
		value = 10*value + int(label[i]-'0')
	}
	return byte(value), value < 256
}

func prefixOfV6(left string) netip.Prefix {
	var octets [16]byte
	if len(left)%2 != 0 || len(left) > 64 {
		return netip.Prefix{}
	}
	count := len(left) / 2
	for i := range count {
		at := len(left) - 2*(i+1)
		digit := strings.IndexByte("0123456789abcdef", left[at])
		if digit < 0 || left[at+1] != '.' {
			return netip.Prefix{}
		}
		octets[i/2] |= byte(digit) << (4 * (1 - i%2))
	}
	return netip.PrefixFrom(netip.AddrFrom16(octets), 4*count)
}

// pointerTargets gives the names of an address: that of the Service whose ClusterIP it
// is, else those of the endpoints that have it, in each Service.
func (c *config) pointerTargets(snap view, addr netip.Addr) (targets []string) {
	use := snap.Address(addr)
	if use == nil {
		return nil
	}
	for _, key := range use.Services {
		if service := c.pointedTo(snap, key); service != nil && hasAddr(service.Service.ClusterIPs, addr) {
			return []string{below(serviceLabels(key), c.naming.primary)}
		}
	}
	for _, key := range use.Services {
		service := c.pointedTo(snap, key)
		if c.stock {
			service = c.stockPointedTo(snap, key)
		}
		if service == nil {
			continue
		}
		for _, label := range c.labelsAt(service, addr) {
			targets = append(targets, below(label+"."+serviceLabels(key), c.naming.primary))
		}
	}
	return targets
}

// pointedTo gives a Service that a PTR record may name, nil if clients may not see it.
func (c *config) pointedTo(snap view, key model.ServiceKey) *state.Service {
	if c.stock && len(c.namespaces) == 0 || c.exposes(snap, key.Namespace) {
		return snap.Service(key)
	}
	return nil
}

// labelsAt gives the labels of the ready endpoints with an address. Only if slices
// disagree on the hostname is there more than one.
func (c *config) labelsAt(service *state.Service, addr netip.Addr) (labels []string) {
	eachReady(service, func(_ *model.EndpointSlice, e *model.Endpoint) bool {
		if e.Addr.Unmap() == addr {
			if label := c.naming.label(e); !slices.Contains(labels, label) {
				labels = append(labels, label)
			}
		}
		return true
	})
	return labels
}

func hasAddr(list []netip.Addr, addr netip.Addr) bool {
	return slices.ContainsFunc(list, func(a netip.Addr) bool { return a.Unmap() == addr })
}

// pointerAnswer is the answer at a reverse name: it exists while an address has a name.
func (c *config) pointerAnswer(snap view, q dns.Question, p *place) answer {
	targets := c.pointerTargets(snap, p.addr)
	switch {
	case len(targets) == 0:
		return c.negative(snap, p)
	case q.Qtype != dns.TypePTR:
		if c.stock {
			return c.negative(snap, p)
		}
		return answer{outcome: noData, place: *p}
	}
	records := make([]dns.RR, len(targets))
	for i, target := range targets {
		records[i] = &dns.PTR{Hdr: c.header(q.Name, dns.TypePTR), Ptr: target}
	}
	return answer{records: records}
}
