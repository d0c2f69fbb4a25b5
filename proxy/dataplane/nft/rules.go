package nft

import (
	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/mooring-project/mooring/proxy/plan"
)

// Where our chains stand among the others (smaller runs earlier; netfilter_ipv4.h,
// ip_vs_core.c; IPVS's own hooks in brackets):
//
//	hook         ours  after                          before
//	prerouting   -140  conntrack -200, mangle -150    dstnat -100: hostPort rules must not
//	                                                  take what goes to a Service
//	input          90  filter 0, security 50: a       [replies 98, requests 99]: what IPVS
//	                   firewall may match the bit     sends on carries the packet's mark
//	forward      -140  conntrack -200                 filter 0
//	output       -140  conntrack -200                 [replies -99, requests -98]
//	postrouting   100  [everything IPVS sends]        -
const (
	priorityEarly  = -140
	priorityInput  = 90
	prioritySource = 100
)

// direction original of a connection (IP_CT_DIR_ORIGINAL, nf_conntrack_tuple_common.h).
const original = 0

// Config is what the constant rules depend on.
type Config struct {
	// Mark is the one bit of the packet mark that means "deliver to this host".
	Mark uint32
	// MasqueradeAll gives every connection to a virtual server the node's address.
	MasqueradeAll bool
	// RandomFully picks masqueraded source ports at random (NF_NAT_RANGE_PROTO_RANDOM_FULLY).
	RandomFully bool
}

// skeleton collects chains and rules into one transaction.
type skeleton struct {
	conn   *nftables.Conn
	table  *nftables.Table
	config Config
}

// write adds every chain and rule. Chains and sets of that kind that exist already
// stay; all rules must have been flushed before.
func (s skeleton) write() {
	s.chain(layoutMarker)
	s.refuse()
	s.unserved()
	s.prerouting()
	s.input()
	s.crossing("forward", nftables.ChainHookForward, false)
	s.crossing("output", nftables.ChainHookOutput, true)
	s.postrouting()
}

// refuse answers at once, as a closed port of a host does: a reset for TCP, ICMP port
// unreachable for the rest.
func (s skeleton) refuse() {
	c := s.chain("refuse")
	s.rule(c, protocol(unix.IPPROTO_TCP), &expr.Reject{Type: unix.NFT_REJECT_TCP_RST})
	s.rule(c, &expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_PORT_UNREACH})
}

// unserved refuses what goes to a Service without endpoints. A TCP connection that is
// established may still be served by an endpoint that is leaving; when it is not, IPVS
// has dropped it and conntrack with it, and its next packet is no longer established.
func (s skeleton) unserved() {
	c := s.chain("unserved")
	s.rule(c, protocol(unix.IPPROTO_TCP), state(expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED),
		&expr.Verdict{Kind: expr.VerdictReturn})
	s.rule(c, jump("refuse"))
}

// prerouting refuses what nobody serves, and marks what is for a virtual server whose
// address is not the host's, so that the routing rule delivers it here. ICMP errors go
// with the connection they are about, or path MTU discovery would end at the node.
func (s skeleton) prerouting() {
	c := s.hook("prerouting", nftables.ChainHookPrerouting, priorityEarly, nftables.ChainTypeFilter)
	for _, f := range []family{ipv4, ipv6} {
		s.rule(c, is(f), packetDestination(f), in(plan.Reject, f), jump("unserved"))
		s.rule(c, is(f), packetDestination(f), in(plan.Divert, f), s.setMark())
		s.rule(c, is(f), state(expr.CtStateBitRELATED), connectionDestination(f), in(plan.Divert, f), s.setMark())
	}
}

// input takes the bit away before IPVS sees the packet: the packet IPVS sends on is
// routed with the same mark, and would come back through lo for ever.
func (s skeleton) input() {
	c := s.hook("input", nftables.ChainHookInput, priorityInput, nftables.ChainTypeFilter)
	s.rule(c, mark(), bitwise(^s.config.Mark, 0), &expr.Meta{Key: expr.MetaKeyMARK, Register: 1, SourceRegister: true})
}

// crossing refuses what goes to the Service range and to no port of a Service. Without
// it such packets leave by the default route and time out. What the host itself sends
// does not pass prerouting: there, also what nobody serves is refused.
func (s skeleton) crossing(name string, hook *nftables.ChainHook, local bool) {
	c := s.hook(name, hook, priorityEarly, nftables.ChainTypeFilter)
	for _, f := range []family{ipv4, ipv6} {
		if local {
			s.rule(c, is(f), packetDestination(f), in(plan.Reject, f), jump("unserved"))
		}
		s.rule(c, is(f), address(f, destination), lookup(coverName(plan.ServiceCIDR, f), false),
			packetDestination(f), lookup(listName(plan.Divert, f), true), jump("refuse"))
	}
}

// postrouting gives connections the node's address: to a pod from itself (it would
// answer itself directly), to what the plan says, and to cluster addresses from outside
// the pod network. IPVS rewrites the packet, not the conntrack entry's original
// direction, so that still tells which Service was asked for.
func (s skeleton) postrouting() {
	c := s.hook("postrouting", nftables.ChainHookPostrouting, prioritySource, nftables.ChainTypeNAT)
	masquerade := &expr.Masq{FullyRandom: s.config.RandomFully}
	for _, f := range []family{ipv4, ipv6} {
		s.rule(c, is(f), ends(f), in(plan.Hairpin, f), masquerade)
		s.rule(c, is(f), connectionDestination(f), in(plan.Masquerade, f), masquerade)
		if s.config.MasqueradeAll {
			s.rule(c, is(f), connectionDestination(f), in(plan.Owned, f), masquerade)
			continue
		}
		s.rule(c, is(f), lookup(detectName, false), connectionSource(), lookup(coverName(plan.PodCIDR, f), true),
			connectionDestination(f), in(plan.Divert, f), masquerade)
	}
}

func (s skeleton) chain(name string) *nftables.Chain {
	return s.conn.AddChain(&nftables.Chain{Name: name, Table: s.table})
}

func (s skeleton) hook(name string, hook *nftables.ChainHook, priority int32, kind nftables.ChainType) *nftables.Chain {
	return s.conn.AddChain(&nftables.Chain{
		Name: name, Table: s.table, Hooknum: hook, Type: kind,
		Priority: nftables.ChainPriorityRef(nftables.ChainPriority(priority)),
	})
}

// rule adds a rule of expressions and groups of them.
func (s skeleton) rule(c *nftables.Chain, parts ...any) {
	var expressions []expr.Any
	for _, part := range parts {
		switch part := part.(type) {
		case []expr.Any:
			expressions = append(expressions, part...)
		case expr.Any:
			expressions = append(expressions, part)
		}
	}
	s.conn.AddRule(&nftables.Rule{Table: s.table, Chain: c, Exprs: expressions})
}

func (s skeleton) setMark() []expr.Any {
	return []expr.Any{
		mark(), bitwise(^s.config.Mark, s.config.Mark),
		&expr.Meta{Key: expr.MetaKeyMARK, Register: 1, SourceRegister: true},
	}
}

// first is the register in which the fields of a lookup begin: NFT_REG32_00, which is
// the beginning of register 1 too. The following ones are four bytes each.
const first = unix.NFT_REG32_00

func mark() expr.Any { return &expr.Meta{Key: expr.MetaKeyMARK, Register: 1} }

func bitwise(mask, xor uint32) expr.Any {
	return &expr.Bitwise{
		SourceRegister: 1, DestRegister: 1, Len: 4,
		Mask: binaryutil.NativeEndian.PutUint32(mask), Xor: binaryutil.NativeEndian.PutUint32(xor),
	}
}

// is matches packets of a family; register 1 holds the family's number afterwards.
func is(f family) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{f.number}},
	}
}

func protocol(number byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{number}},
	}
}

func state(bits uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		bitwise(bits, 0),
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(0)},
	}
}

// end is which of its addresses to read from a packet.
type end bool

const (
	source      end = false
	destination end = true
)

func (f family) registers() uint32 { return uint32(f.bytes / register) }

func (f family) offset(e end) uint32 {
	switch {
	case f.ipv6 && e == destination:
		return 24
	case f.ipv6:
		return 8
	case e == destination:
		return 16
	}
	return 12
}

func addressAt(f family, e end, reg uint32) expr.Any {
	return &expr.Payload{
		DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: f.offset(e), Len: uint32(f.bytes),
	}
}

func address(f family, e end) expr.Any { return addressAt(f, e, first) }

// ends loads `source address . destination address`.
func ends(f family) []expr.Any {
	return []expr.Any{addressAt(f, source, first), addressAt(f, destination, first+f.registers())}
}

// packetDestination loads `address . protocol . port` of where the packet goes.
func packetDestination(f family) []expr.Any {
	next := first + f.registers()
	return []expr.Any{
		address(f, destination),
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: next},
		&expr.Payload{DestRegister: next + 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
	}
}

// connectionDestination loads `address . protocol . port` of where the connection was
// opened to. In family inet the address takes four registers also when it is an IPv4
// one (nft_ct_get_init), so the fields behind an IPv4 address are loaded after it.
func connectionDestination(f family) []expr.Any {
	next := first + f.registers()
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeyDST, Register: first, Direction: original},
		&expr.Ct{Key: expr.CtKeyPROTOCOL, Register: next},
		&expr.Ct{Key: expr.CtKeyPROTODST, Register: next + 1, Direction: original},
	}
}

// connectionSource loads the address the connection was opened from.
func connectionSource() expr.Any {
	return &expr.Ct{Key: expr.CtKeySRC, Register: first, Direction: original}
}

func in(kind plan.Kind, f family) expr.Any { return lookup(listName(kind, f), false) }

func lookup(set string, invert bool) expr.Any {
	return &expr.Lookup{SourceRegister: first, SetName: set, Invert: invert}
}

func jump(chain string) expr.Any { return &expr.Verdict{Kind: expr.VerdictJump, Chain: chain} }
