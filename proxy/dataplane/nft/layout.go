package nft

import (
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"golang.org/x/sys/unix"

	"github.com/mooring-project/mooring/proxy/plan"
)

// TableName names our one table, of family inet.
const TableName = "mooring"

// layoutMarker is an empty chain that nothing jumps to. Its name is the version of
// sets and chains (rules may change freely: Setup writes them anew each time). A
// table without it is replaced in one transaction that carries the elements over.
const layoutMarker = "layout-4"

// family is one of the two address families as the rules see it.
type family struct {
	suffix string // of set names
	ipv6   bool
	number byte // NFPROTO_*, what `meta nfproto` gives
	icmp   byte // the protocol of errors
	bytes  int  // of an address
	addr   nftables.SetDatatype
}

var (
	ipv4 = family{suffix: "-v4", number: byte(nftables.TableFamilyIPv4), icmp: unix.IPPROTO_ICMP, bytes: 4, addr: nftables.TypeIPAddr}
	ipv6 = family{suffix: "-v6", ipv6: true, number: byte(nftables.TableFamilyIPv6), icmp: unix.IPPROTO_ICMPV6, bytes: 16, addr: nftables.TypeIP6Addr}
)

func familyOf(key plan.Key) family {
	if key.IPv6() {
		return ipv6
	}
	return ipv4
}

// Kinds whose objects are elements of sets. Each has a set per family.
var (
	// portKinds have elements `address . protocol . port`.
	portKinds = []plan.Kind{
		plan.Owned, plan.Divert, plan.Masquerade, plan.KeepSource, plan.Firewall, plan.Drop, plan.DropOutside, plan.Reject,
	}
	// markKinds have elements that are marks.
	markKinds = []plan.Kind{plan.OwnedMark}
	// mapKinds are maps: of `address . protocol . port` to a mark or a group, and those of
	// affinity.go.
	mapKinds = []plan.Kind{plan.Split, plan.Affinity, plan.AffinityInside, plan.AffinityTimeout, plan.Pin}
	// prefixKinds have a set `address . length` that lists the prefixes as they were
	// given, and a set of intervals that covers the same addresses. An interval set
	// refuses overlaps, and ServiceCIDRs may overlap (KEP-1880). Those of a FirewallAllow
	// begin with `address . protocol . port` of the Service.
	prefixKinds   = []plan.Kind{plan.ServiceCIDR, plan.PodCIDR}
	intervalKinds = slices.Concat(prefixKinds, []plan.Kind{plan.FirewallAllow})
)

// elementKinds are all kinds whose objects are elements.
var elementKinds = slices.Concat(portKinds, markKinds, mapKinds, intervalKinds, []plan.Kind{plan.Hairpin, plan.Pinned})

// Holds tells whether objects of a kind are elements of our sets.
func Holds(kind plan.Kind) bool { return slices.Contains(elementKinds, kind) }

// listName names the set that holds the elements of a kind as they were given.
func listName(kind plan.Kind, f family) string {
	switch kind {
	case plan.ServiceCIDR, plan.PodCIDR, plan.FirewallAllow:
		return kind.String() + "-list" + f.suffix
	}
	return kind.String() + f.suffix
}

// coverName names the set of intervals of a kind of prefixes.
func coverName(kind plan.Kind, f family) string { return kind.String() + f.suffix }

// detectName names the set that holds its family's number as long as pod prefixes
// are known: rules are constant, so "is that set empty" has to be a lookup too.
const detectName = "pod-families"

// sets gives every set of the table by name.
func sets(table *nftables.Table) map[string]*nftables.Set {
	result := map[string]*nftables.Set{}
	add := func(s *nftables.Set) {
		s.Table, s.ID, s.KeyByteOrder = table, uint32(len(result)+1), binaryutil.BigEndian
		result[s.Name] = s
	}
	for _, f := range []family{ipv4, ipv6} {
		for _, kind := range portKinds {
			add(concatenation(listName(kind, f), f.addr, nftables.TypeInetProto, nftables.TypeInetService))
		}
		for _, kind := range markKinds {
			add(&nftables.Set{Name: listName(kind, f), KeyType: nftables.TypeMark})
		}
		marks := concatenation(listName(plan.Split, f), f.addr, nftables.TypeInetProto, nftables.TypeInetService)
		marks.IsMap, marks.DataType = true, nftables.TypeMark
		add(marks)
		for _, set := range affinitySets(f) {
			add(set)
		}
		add(concatenation(listName(plan.Hairpin, f), f.addr, f.addr))
		allow := concatenation(coverName(plan.FirewallAllow, f), f.addr, nftables.TypeInetProto, nftables.TypeInetService, f.addr)
		allow.Interval = true
		add(allow)
		add(concatenation(listName(plan.FirewallAllow, f), f.addr, nftables.TypeInetProto, nftables.TypeInetService, f.addr, nftables.TypeMark))
		for _, kind := range prefixKinds {
			add(concatenation(listName(kind, f), f.addr, nftables.TypeMark))
			add(&nftables.Set{Name: coverName(kind, f), KeyType: f.addr, Interval: true})
		}
	}
	for _, f := range []family{ipv4, ipv6} {
		add(&nftables.Set{Name: heldName(f), KeyType: f.addr})
	}
	add(&nftables.Set{Name: detectName, KeyType: nftables.TypeNFProto})
	return result
}

func concatenation(name string, types ...nftables.SetDatatype) *nftables.Set {
	return &nftables.Set{Name: name, Concatenation: true, KeyType: nftables.MustConcatSetType(types...)}
}
