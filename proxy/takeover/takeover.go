// Package takeover decides what of kube-proxy's on a node becomes ours, what is taken away, and
// in which order. It is pure: what there is, is an argument.
//
// kube-proxy leaves everything in the kernel when it ends, and that goes on serving. So first its
// virtual servers become ours as they are, with their connections; then all of ours is applied;
// only then its own way of leading packets to them goes: addresses, rules, sets. What others have
// put there stays, and so does what the kubelet keeps under similar names.
package takeover

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/proxy/plan"
)

// Device is the dummy interface that has the addresses of Services in kube-proxy's mode ipvs,
// HeldDevice ours, for those of IPv4 that connections of the host have as their source.
const (
	Device     = "kube-ipvs0"
	HeldDevice = "mooring-held"
)

// NodePort is a port that kube-proxy serves on addresses of the node.
type NodePort struct {
	Protocol model.Protocol
	Port     uint16
}

// Table is a table of nftables, where iptables keeps its rules too: family ip or ip6, and a name.
type Table struct{ Family, Name string }

// String gives the table as nft names it.
func (t Table) String() string { return t.Family + " " + t.Name }

// Chain is a chain of a table.
type Chain struct {
	Table
	Chain string
}

// Jump is a rule in a chain that is not kube-proxy's and leads to one that is.
type Jump struct {
	From Chain
	// Base is true if the chain is called by the kernel, as PREROUTING is.
	Base   bool
	Handle uint64
	To     string
}

// Found is what there is on a node.
type Found struct {
	// Device tells whether the interface of that name exists; Addresses are those on it, Held
	// others that are held for connections.
	Device          bool
	Addresses, Held []netip.Addr
	// Sources counts the host's own connections from one of these addresses: kube-proxy has
	// the host reach a Service with the Service's address as its own.
	Sources map[netip.Addr]int
	// Local are the host's other addresses.
	Local []netip.Addr
	// NodePorts are those that kube-proxy's ipsets list.
	NodePorts []NodePort
	// VirtualServers are all of IPVS, whoever made them.
	VirtualServers []plan.Key
	// Tables are those of kube-proxy's mode nftables.
	Tables []Table
	// Chains are kube-proxy's in the tables of iptables, Jumps what leads to them.
	Chains []Chain
	Jumps  []Jump
	// Sets are the names of kube-proxy's ipsets.
	Sets []string
	// Drops are the tables whose chain FORWARD drops what no rule accepts.
	Drops []Table
	// Legacy are tables with chains of kube-proxy's that iptables keeps outside of nftables.
	Legacy []string
}

// Kept is an address that is held as long as connections have it as their source.
type Kept struct {
	Address     netip.Addr
	Connections int
}

// Steps are what is to be done, in the order of the fields. All from Vacate on follow when everything
// of ours is applied.
type Steps struct {
	// Translated tells that kube-proxy has led connections to endpoints by NAT, in its modes
	// iptables and nftables: those that there are stay with conntrack.
	Translated bool
	// Adopt are the virtual servers that become ours.
	Adopt []plan.Key
	// Vacate are the addresses that go with the Device, Keep those that are held then or are held
	// already, and Release those that are and are not needed any more.
	Vacate  []netip.Addr
	Device  bool
	Keep    []Kept
	Release []netip.Addr
	Tables  []Table
	// Unlink are rules, Chains chains, Sets ipsets that go.
	Unlink []Jump
	Chains []Chain
	Sets   []string
	// Stay are chains that others lead packets to.
	Stay []Jump
	// Drops are the tables whose chain FORWARD drops what only a chain that goes accepts.
	Drops []Table
	// Legacy are the tables that have to be cleared by hand.
	Legacy []string
}

// Decide gives the steps for what was found.
func Decide(found Found) Steps {
	steps := Steps{
		Translated: translated(found), Adopt: adopted(found),
		Device: found.Device, Tables: found.Tables, Sets: found.Sets, Legacy: found.Legacy,
	}
	local := setOf(found.Local)
	for addresses, unused := range map[*[]netip.Addr]*[]netip.Addr{&found.Addresses: &steps.Vacate, &found.Held: &steps.Release} {
		for _, address := range *addresses {
			_, stays := local[address] // on another device
			if n := found.Sources[address]; n > 0 && !stays {
				steps.Keep = append(steps.Keep, Kept{address, n})
			} else {
				*unused = append(*unused, address)
			}
		}
	}
	slices.SortFunc(steps.Keep, func(a, b Kept) int { return a.Address.Compare(b.Address) })
	needed := map[Chain]bool{}
	for _, jump := range found.Jumps {
		if jump.Base && entries[jump.To] {
			steps.Unlink = append(steps.Unlink, jump)
			continue
		}
		needed[Chain{jump.From.Table, jump.To}] = true
		steps.Stay = append(steps.Stay, jump)
	}
	for _, chain := range found.Chains {
		if needed[chain] {
			continue
		}
		steps.Chains = append(steps.Chains, chain)
		if chain.Chain == "KUBE-FORWARD" && slices.Contains(found.Drops, chain.Table) {
			steps.Drops = append(steps.Drops, chain.Table)
		}
	}
	return steps
}

// adopted gives the virtual servers that kube-proxy has made: all on addresses of its device, and
// on those of the host the ones whose port its ipsets list as a NodePort, also where the Service
// is gone by now. Others', such as keepalived's, are on other addresses and ports.
func adopted(found Found) []plan.Key {
	addresses, local, ports := setOf(found.Addresses), setOf(found.Local), setOf(found.NodePorts)
	var keys []plan.Key
	for _, key := range found.VirtualServers {
		if key.Mark != 0 {
			continue // kube-proxy makes none by firewall mark
		}
		_, onDevice := addresses[key.Addr]
		_, onHost := local[key.Addr]
		_, listed := ports[NodePort{key.Protocol, key.Port}]
		if onDevice || onHost && listed {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, plan.Key.Compare)
	return keys
}

func translated(found Found) bool {
	return len(found.Tables)+len(found.Legacy) > 0 || slices.ContainsFunc(found.Chains, func(c Chain) bool { return hashed(c.Chain) || c.Chain == "KUBE-NODEPORTS" })
}

func setOf[T comparable](list []T) map[T]struct{} {
	set := make(map[T]struct{}, len(list))
	for _, item := range list {
		set[item] = struct{}{}
	}
	return set
}

// Adopts tells whether a virtual server is one of kube-proxy's.
func (s Steps) Adopts(server plan.Key) bool {
	_, is := slices.BinarySearchFunc(s.Adopt, server, plan.Key.Compare)
	return is
}

// Held gives the addresses that are kept.
func (s Steps) Held() []netip.Addr {
	addresses := make([]netip.Addr, 0, len(s.Keep))
	for _, kept := range s.Keep {
		addresses = append(addresses, kept.Address)
	}
	return addresses
}

// Nothing tells whether there is nothing of kube-proxy's left that is to go.
func (s Steps) Nothing() bool {
	return !s.Device && len(s.Keep)+len(s.Release)+len(s.Tables)+len(s.Unlink)+len(s.Chains)+len(s.Sets)+len(s.Legacy) == 0
}

// Before gives in words what is done before anything of ours is applied.
func (s Steps) Before() []string {
	var lines []string
	for _, key := range s.Adopt {
		lines = append(lines, "adopt "+key.String())
	}
	return lines
}

// After gives in words what is done when all of ours is applied.
func (s Steps) After() []string {
	var lines []string
	say := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	for _, address := range s.Vacate {
		say("take %s from %s", address, Device)
	}
	for _, address := range s.Release {
		say("hold %s no more", address)
	}
	if s.Device {
		say("delete device %s", Device)
	}
	for _, table := range s.Tables {
		say("delete nft table %s", table)
	}
	for _, jump := range s.Unlink {
		say("delete the rule in %s %s that leads to %s", jump.From.Table, jump.From.Chain, jump.To)
	}
	counts := map[Table]int{}
	for _, chain := range s.Chains {
		counts[chain.Table]++
	}
	for _, table := range slices.SortedFunc(maps.Keys(counts), Table.compare) {
		say("delete kube-proxy's %d chains in table %s", counts[table], table)
	}
	for _, set := range s.Sets {
		say("destroy ipset %s", set)
	}
	return lines
}

// Remaining gives in words what stays, and for how long.
func (s Steps) Remaining() []string {
	var lines []string
	say := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	for _, kept := range s.Keep {
		say("%s is held until the host's %d connections from it have ended", kept.Address, kept.Connections)
	}
	for _, jump := range s.Stay {
		say("chain %s stays in table %s: a rule in %s leads to it", jump.To, jump.From.Table, jump.From.Chain)
	}
	for _, table := range s.Drops {
		say("the policy of chain FORWARD in table %s is DROP, and kube-proxy's rules, which accept replies, go: have packets from and to pods accepted", table)
	}
	for _, table := range s.Legacy {
		say("chains in %s of iptables-legacy stay: %s", table, ByHand)
	}
	return lines
}

// ByHand says what to do about rules that cannot be taken away.
const ByHand = "run on the node: iptables-legacy-save | grep -v KUBE- | iptables-legacy-restore, and the same with ip6tables-legacy, " +
	"or kube-proxy --cleanup before mooring-proxy is started"

func (t Table) compare(other Table) int {
	return slices.Compare([]string{t.Family, t.Name}, []string{other.Family, other.Name})
}
