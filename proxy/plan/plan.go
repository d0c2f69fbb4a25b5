// Package plan decides what the data plane of one node must look like and in
// which order to get there.
//
// A Plan is a plain map of comparable keys to comparable values. The planner makes
// one from a snapshot, observing the kernel gives another one of the same type, and
// Diff turns any pair into ordered operations; so start-up, steady state, drift
// repair, `plan` and `verify` are one code path. The package does no I/O and reads
// no clock.
package plan

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/mooring-project/mooring/internal/model"
)

// Kind says what a Key stands for in the kernel.
type Kind uint8

// The kinds of object. VirtualServer and RealServer live in IPVS, Relay is a socket
// of our own, all others are elements of the set of that name in our nft table.
const (
	// VirtualServer is an IPVS service: Addr, Protocol, Port; or a second view of some
	// of these, Mark: see MarkKey.
	VirtualServer Kind = iota + 1
	// RealServer is an IPVS destination: the key of its virtual server and Endpoint.
	RealServer
	// Owned records in the kernel that the virtual server Addr, Protocol, Port is
	// ours: the set outlives the process, and whatever is not in it is never touched.
	Owned
	// OwnedMark records the same of a virtual server by firewall mark.
	OwnedMark
	// Pinned says that clients of the group Mark may be kept at the virtual server of the
	// firewall mark Pin: see affinity.go.
	Pinned
	// Pin gives the firewall mark, the Value's Mark, of the virtual server that has nothing
	// but Endpoint, for clients of the group Mark that Endpoint has been chosen for.
	Pin
	// AffinityTimeout says how long clients of the group Mark are remembered: Value.Timeout.
	AffinityTimeout
	// Affinity puts clients of Addr, Protocol, Port into the group of the Value's Mark.
	Affinity
	// AffinityInside does so with pods and the node itself, where a Split is.
	AffinityInside
	// Split sends connections of pods and of the node itself to Addr, Protocol, Port to
	// the virtual server of the Value's Mark; those from outside the cluster go to the
	// virtual server of the address.
	Split
	// Divert sends Addr, Protocol, Port from outside the host to LOCAL_IN.
	Divert
	// Masquerade gives every connection to Addr, Protocol, Port the node's address.
	Masquerade
	// KeepSource lets connections from outside the cluster to Addr, Protocol, Port keep
	// their source, although a Divert of it is there.
	KeepSource
	// Hairpin gives a connection of Endpoint's address to itself the node's address.
	Hairpin
	// Firewall drops new connections to Addr, Protocol, Port from whoever is not in a
	// FirewallAllow of it.
	Firewall
	// FirewallAllow is a prefix, of Endpoint's address and Bits, that a Firewall admits.
	FirewallAllow
	// Drop discards new connections to Addr, Protocol, Port from everywhere: endpoints
	// serve it, but none that this node may use.
	Drop
	// DropOutside discards those from outside the cluster alone.
	DropOutside
	// Reject refuses Addr, Protocol, Port from everywhere: no endpoint serves it.
	Reject
	// ServiceCIDR is a prefix whose unlisted addresses and ports are refused.
	ServiceCIDR
	// PodCIDR is a prefix whose sources reach cluster addresses unmasqueraded.
	PodCIDR
	// Relay is a listener on the loopback address of Addr's family, Protocol and
	// Port, that passes connections on to Endpoint (IPVS cannot send a loopback
	// source off the host: crosses_local_route_boundary, ip_vs_xmit.c).
	Relay
)

var kindNames = [...]string{
	VirtualServer: "virtual-server", RealServer: "real-server", Owned: "owned", OwnedMark: "owned-mark",
	Pinned: "pinned", Pin: "pin", AffinityTimeout: "affinity-timeout", Affinity: "affinity", AffinityInside: "affinity-inside",
	Split: "split", Divert: "divert", Masquerade: "masquerade", KeepSource: "keep-source", Hairpin: "hairpin",
	Firewall: "firewall", FirewallAllow: "firewall-allow", Drop: "drop", DropOutside: "drop-outside",
	Reject: "reject", ServiceCIDR: "service-cidr", PodCIDR: "pod-cidr", Relay: "relay",
}

// Kinds goes over all kinds.
func Kinds() iter.Seq[Kind] {
	return func(yield func(Kind) bool) {
		for kind := VirtualServer; int(kind) < len(kindNames) && yield(kind); kind++ {
		}
	}
}

// String gives the kind's name as plans print it.
func (k Kind) String() string {
	if int(k) < len(kindNames) && kindNames[k] != "" {
		return kindNames[k]
	}
	return fmt.Sprintf("kind-%d", uint8(k))
}

// Key identifies one object of the data plane. Which fields are set depends on Kind;
// the others are zero, so that equal objects have equal keys.
type Key struct {
	Kind     Kind
	Protocol model.Protocol
	Port     uint16
	// Bits is the prefix length of a ServiceCIDR or PodCIDR whose address is Addr, and of
	// a FirewallAllow whose prefix begins at Endpoint's address.
	Bits uint8
	// Mark is the firewall mark of a virtual server that has no address, or the number of a
	// group of clients; its Addr is the unspecified address of its family.
	Mark uint32
	// Pin is the firewall mark that a Pinned admits.
	Pin  uint32
	Addr netip.Addr
	// Endpoint is the real server's address and port, or the address of a Hairpin or a
	// FirewallAllow (port 0), or where a Relay passes connections on to.
	Endpoint netip.AddrPort
}

// Forward is the IPVS forwarding method (IP_VS_CONN_F_FWD_MASK, ip_vs.h).
type Forward uint8

// Masq is the only method that can change ports, hence the only one a Service can
// use in general. Its number is the kernel's.
const Masq Forward = 0

// Value is what can change about an object while it stays the same object. Elements
// of sets have the zero Value; a Split, a Pin, an AffinityTimeout and an Affinity are
// elements of maps.
type Value struct {
	// Scheduler is the name of an IPVS scheduler; virtual servers only.
	Scheduler string
	// Flags are IP_VS_SVC_F_* (ip_vs.h), without the kernel's own IP_VS_SVC_F_HASHED.
	Flags uint32
	// Persistence is the persistence timeout in seconds, 0 for none.
	Persistence uint32
	// Weight is a real server's weight; 0 takes no new connections.
	Weight uint32
	// Forward is a real server's forwarding method.
	Forward Forward
	// Mark is the firewall mark that a Split or a Pin gives, or the group of an Affinity.
	Mark uint32
	// Timeout is for how many seconds an AffinityTimeout has clients remembered.
	Timeout uint32
}

// Plan is what the data plane holds, or should hold. A nil Plan is an empty one to
// read from.
type Plan map[Key]Value

// Get gives the value of an object, and whether it exists.
func (p Plan) Get(key Key) (Value, bool) {
	value, exists := p[key]
	return value, exists
}

// VirtualServerKey gives the key of the virtual server a real server belongs to.
func (k Key) VirtualServerKey() Key {
	k.Kind, k.Endpoint, k.Pin = VirtualServer, netip.AddrPort{}, 0
	return k
}

// OwnedKey gives the key of the record that a virtual server is ours.
func (k Key) OwnedKey() Key {
	k = k.VirtualServerKey()
	k.Kind = Owned
	if k.Mark != 0 {
		k.Kind = OwnedMark
	}
	return k
}

// Prefix gives the prefix that a ServiceCIDR, PodCIDR or FirewallAllow stands for.
func (k Key) Prefix() netip.Prefix {
	if k.Kind == FirewallAllow {
		return netip.PrefixFrom(k.Endpoint.Addr(), int(k.Bits))
	}
	return netip.PrefixFrom(k.Addr, int(k.Bits))
}

// PrefixKey gives the key of kind ServiceCIDR or PodCIDR for a prefix.
func PrefixKey(kind Kind, prefix netip.Prefix) Key {
	prefix = prefix.Masked()
	return Key{Kind: kind, Addr: prefix.Addr(), Bits: uint8(prefix.Bits())}
}

// IPv6 tells whether the object belongs to the IPv6 family.
func (k Key) IPv6() bool {
	if k.Addr.IsValid() {
		return k.Addr.Is6()
	}
	return k.Endpoint.Addr().Is6()
}

// Compare orders keys: by kind, then address, port, protocol, endpoint.
func (k Key) Compare(other Key) int {
	return cmp.Or(
		cmp.Compare(k.Kind, other.Kind),
		k.Addr.Compare(other.Addr),
		cmp.Compare(k.Port, other.Port),
		cmp.Compare(k.Protocol, other.Protocol),
		cmp.Compare(k.Mark, other.Mark),
		cmp.Compare(k.Pin, other.Pin),
		cmp.Compare(k.Bits, other.Bits),
		k.Endpoint.Compare(other.Endpoint),
	)
}

// String prints the object on one line, for example
// "real-server tcp 10.96.0.10:53 -> 10.244.1.2:5353".
func (k Key) String() string {
	switch k.Kind {
	case Hairpin:
		return fmt.Sprintf("%s %s", k.Kind, k.Endpoint.Addr())
	case ServiceCIDR, PodCIDR:
		return fmt.Sprintf("%s %s", k.Kind, k.Prefix())
	case FirewallAllow:
		return fmt.Sprintf("%s %s from %s", k.Kind, k.virtual(), k.Prefix())
	case Pinned:
		return fmt.Sprintf("%s %s -> fwmark %#x", k.Kind, k.clients(), k.Pin)
	case Pin:
		return fmt.Sprintf("%s %s at %s", k.Kind, k.clients(), k.Endpoint)
	case AffinityTimeout:
		return fmt.Sprintf("%s %s", k.Kind, k.clients())
	case RealServer, Relay:
		return fmt.Sprintf("%s %s -> %s", k.Kind, k.virtual(), k.Endpoint)
	default:
		return fmt.Sprintf("%s %s", k.Kind, k.virtual())
	}
}

func (k Key) virtual() string {
	if k.Mark != 0 {
		return fmt.Sprintf("%s %s fwmark %#x", strings.ToLower(k.Protocol.String()), familyName(k.IPv6()), k.Mark)
	}
	return strings.ToLower(k.Protocol.String()) + " " + netip.AddrPortFrom(k.Addr, k.Port).String()
}

// clients prints the group of clients.
func (k Key) clients() string {
	return fmt.Sprintf("%s %s group %#x", strings.ToLower(k.Protocol.String()), familyName(k.IPv6()), k.Mark)
}

func familyName(ipv6 bool) string {
	if ipv6 {
		return "ipv6"
	}
	return "ipv4"
}

// String prints the fields that the object's kind uses; empty for set elements.
func (v Value) String() string {
	var parts []string
	if v.Scheduler != "" {
		parts = append(parts, "scheduler "+v.Scheduler)
	}
	if v.Flags != 0 {
		parts = append(parts, fmt.Sprintf("flags %#x", v.Flags))
	}
	if v.Persistence != 0 {
		parts = append(parts, fmt.Sprintf("persistence %ds", v.Persistence))
	}
	if v.Timeout != 0 {
		parts = append(parts, fmt.Sprintf("%ds", v.Timeout))
	}
	if v.Mark != 0 {
		parts = append(parts, fmt.Sprintf("-> fwmark %#x", v.Mark))
	}
	return strings.Join(parts, " ")
}

// line prints an object with its value.
func line(k Key, v Value) string {
	text := k.String()
	if k.Kind == Affinity || k.Kind == AffinityInside {
		return text + fmt.Sprintf(" -> group %#x", v.Mark)
	}
	if s := v.String(); s != "" {
		text += " " + s
	}
	if k.Kind == RealServer {
		text += fmt.Sprintf(" weight %d", v.Weight)
	}
	return text
}

// String prints the whole plan, one object a line, sorted.
func (p Plan) String() string {
	var b strings.Builder
	for _, k := range slices.SortedFunc(maps.Keys(p), Key.Compare) {
		b.WriteString(line(k, p[k]))
		b.WriteByte('\n')
	}
	return b.String()
}
