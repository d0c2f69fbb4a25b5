package nft

import (
	"strings"

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
//	translated    -99  dstnat -100, at prerouting     [requests -98]
//	                   and at output
//	input          90  filter 0, security 50: a       [replies 98, requests 99]: still the
//	                   firewall may match the bit     Service's address; what IPVS sends on
//	                                                  carries the packet's mark
//	forward      -140  conntrack -200                 filter 0
//	output       -140  conntrack -200                 [replies -99, requests -98]
//	unlisted      -80  IPVS and dstnat, at output     filter 0
//	received      110  IPVS: where it sends what stays here
//	sent          -90  IPVS, both ways
//	reroute       -89  sent
//	postrouting   100  [everything IPVS sends]        -
//	leave         110  postrouting                    tunnels, which copy the mark
const (
	priorityEarly    = -140
	priorityInput    = 90
	priorityNATed    = -99
	priorityUnlisted = -80
	prioritySource   = 100
	priorityLeave    = 110

	priorityReceived = 110
	prioritySent     = -90
	priorityReroute  = -89
)

// Config is what the constant rules depend on.
type Config struct {
	// Mark is the one bit of the packet mark that means "deliver to this host".
	Mark uint32
	// MasqueradeMark is the one bit of the packet mark that means "give this connection
	// the node's address". It lives from input or output to postrouting.
	MasqueradeMark uint32
	// MasqueradeAll gives every connection to a virtual server the node's address.
	MasqueradeAll bool
	// PodInterface is the interface by which packets of pods arrive, or what the names of
	// such interfaces begin with if it ends in "*"; empty if pods are told by PodCIDRs.
	PodInterface string
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
	s.unserved("unserved", jump("refuse"))
	s.unserved("unusable", drop())
	s.clients()
	s.prerouting()
	s.translated()
	s.input()
	s.output()
	s.unlisted("forward", nftables.ChainHookForward, priorityEarly)
	s.unlisted("unlisted", nftables.ChainHookOutput, priorityUnlisted)
	received := s.chosen()
	s.reroute()
	s.postrouting()
	s.answers(received, s.leave())
}

// refuse answers at once, as a closed port of a host does: a reset for TCP, ICMP port
// unreachable for the rest.
func (s skeleton) refuse() {
	c := s.chain("refuse")
	s.rule(c, protocol(unix.IPPROTO_TCP), &expr.Reject{Type: unix.NFT_REJECT_TCP_RST})
	s.rule(c, &expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_PORT_UNREACH})
}

// unserved ends what goes to a Service without endpoints. A TCP connection that is
// established may still be served by an endpoint that is leaving; when it is not, IPVS
// has dropped it and conntrack with it, and its next packet is no longer established.
func (s skeleton) unserved(name string, verdict expr.Any) {
	c := s.chain(name)
	s.rule(c, protocol(unix.IPPROTO_TCP), state(expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED),
		&expr.Verdict{Kind: expr.VerdictReturn})
	s.rule(c, verdict)
}

// filter ends what a Service does not admit, what no endpoint that this node may use
// serves, and what no endpoint serves at all. What a source range does not admit is
// dropped when it begins: a range that is made narrower cuts nobody off.
func (s skeleton) filter(c *nftables.Chain, f family, local bool) {
	s.rule(c, is(f), packetDestination(f), in(plan.Firewall, f), state(expr.CtStateBitNEW),
		packetDestinationAndSource(f), lookup(coverName(plan.FirewallAllow, f), true), drop())
	s.rule(c, is(f), packetDestination(f), in(plan.Drop, f), jump("unusable"))
	if !local {
		s.rule(c, is(f), packetDestination(f), in(plan.DropOutside, f), s.fromPods(f, false), jump("unusable"))
	}
	s.rule(c, is(f), packetDestination(f), in(plan.Reject, f), jump("unserved"))
}

// prerouting refuses what nobody serves, and marks what is for a virtual server whose
// address is not the host's, so that the routing rule delivers it here. So does an ICMP
// error about a packet from a virtual server, or path MTU discovery would end here.
func (s skeleton) prerouting() {
	c := s.hook("prerouting", nftables.ChainHookPrerouting, priorityEarly, nftables.ChainTypeFilter)
	for _, f := range []family{ipv4, ipv6} {
		s.filter(c, f, false)
		s.rule(c, is(f), packetDestination(f), in(plan.Divert, f), setMark(s.config.Mark))
		s.rule(c, protocol(f.icmp), state(expr.CtStateBitRELATED), reportedSource(f), in(plan.Divert, f), setMark(s.config.Mark))
	}
}

// translated lets connections go that have been given another destination by NAT: by kube-proxy, as
// long as its rules are there, and for good those that began then. They are to get where that
// leads, and IPVS is to choose nothing for them. Replies that NAT has given a held address as their
// destination are led to the host.
func (s skeleton) translated() {
	c := s.hook("translated", nftables.ChainHookPrerouting, priorityNATed, nftables.ChainTypeFilter)
	s.rule(c, marked(s.config.Mark), hasNewDestination(), clearMark(s.config.Mark))
	for _, f := range []family{ipv4, ipv6} {
		s.rule(c, is(f), addressAt(f, destination, first), lookup(heldName(f), false), replies(), setMark(s.config.Mark))
	}
	c = s.hook("translated-output", nftables.ChainHookOutput, priorityNATed, nftables.ChainTypeFilter)
	for _, f := range []family{ipv4, ipv6} {
		s.rule(c, is(f), hasMarkOf(f), hasNewDestination(), changeMark(0, 0))
	}
}

// input takes the bit away before IPVS sees the packet: the packet IPVS sends on is
// routed with the same mark, and would come back through lo for ever.
func (s skeleton) input() {
	c := s.hook("input", nftables.ChainHookInput, priorityInput, nftables.ChainTypeFilter)
	s.rule(c, clearMark(s.config.Mark))
	for _, f := range []family{ipv4, ipv6} {
		s.enter(c, f, plan.AffinityInside, "inside", s.fromPods(f, true)...)
		s.rule(c, is(f), s.fromPods(f, true), splitMark(f), accept())
	}
	s.markMasquerade(c, false)
	for _, f := range []family{ipv4, ipv6} {
		s.enter(c, f, plan.Affinity, "outside")
	}
}

// markMasquerade marks what goes to virtual servers that are to see the node's address:
// those the plan names, and cluster addresses for sources outside the pod network. Both
// addresses of the packet are still the client's and the Service's. (What conntrack has
// as the original destination would do in postrouting, but nft 1.0 cannot print rules
// that look it up in a concatenation, and aborts.)
func (s skeleton) markMasquerade(c *nftables.Chain, local bool) {
	for _, f := range []family{ipv4, ipv6} {
		mark := setMark(s.config.MasqueradeMark)
		if s.config.MasqueradeAll {
			s.rule(c, is(f), packetDestination(f), in(plan.Divert, f), lookup(listName(plan.KeepSource, f), true), mark)
			s.rule(c, is(f), packetDestination(f), in(plan.Masquerade, f), mark)
			continue
		}
		s.rule(c, is(f), packetDestination(f), in(plan.Masquerade, f), mark)
		s.rule(c, is(f), packetDestination(f), in(plan.Divert, f), lookup(listName(plan.KeepSource, f), true),
			s.masqueraded(f, local), mark)
	}
}

// output does for what the host itself sends what prerouting and input do for the rest: what
// nobody serves is refused, and what is to be masqueraded is marked.
func (s skeleton) output() {
	c := s.hook("output", nftables.ChainHookOutput, priorityEarly, nftables.ChainTypeFilter)
	for _, f := range []family{ipv4, ipv6} {
		s.filter(c, f, true)
	}
	for _, f := range []family{ipv4, ipv6} {
		s.enter(c, f, plan.AffinityInside, "outside-masqueraded")
		s.rule(c, is(f), splitMark(f), accept())
	}
	s.markMasquerade(c, true)
	for _, f := range []family{ipv4, ipv6} {
		s.enter(c, f, plan.Affinity, "outside")
	}
}

// unlisted refuses what goes to the Service range and to no port of a Service. Without it such
// packets leave by the default route and time out. Another proxy may serve Services of the range
// too (service.kubernetes.io/service-proxy-name), by IPVS or by NAT: what it takes does not get
// here, since forwarding and the priority at output come behind both. If it has given the host
// such addresses, replies to them stay here, and do not leave.
func (s skeleton) unlisted(name string, hook *nftables.ChainHook, priority int32) {
	c := s.hook(name, hook, priority, nftables.ChainTypeFilter)
	for _, f := range []family{ipv4, ipv6} {
		s.rule(c, is(f), notLoopback(), addressAt(f, destination, first), lookup(coverName(plan.ServiceCIDR, f), false),
			packetDestination(f), lookup(listName(plan.Divert, f), true), jump("refuse"))
	}
}

// reroute keeps on the host what the host sends to a Service that a daemon of its own serves:
// IPVS changes the destination and leaves the route to the Service's address ("preserve old
// route", __ip_vs_get_out_rt, ip_vs_xmit.c). A changed mark has the kernel look it up again;
// this one is taken away in input. No other bit may stay, or IPVS would balance once more.
func (s skeleton) reroute() {
	c := s.hook("reroute", nftables.ChainHookOutput, priorityReroute, nftables.ChainTypeRoute)
	for _, f := range []family{ipv4, ipv6} {
		here := []expr.Any{addressAt(f, destination, first), addressAt(f, destination, first+f.registers()), in(plan.Hairpin, f)}
		s.rule(c, is(f), notLoopback(), here, toThisHost(), put(expr.MetaKeyMARK, s.config.Mark))
	}
}

// postrouting gives connections the node's address: to a pod from itself (it would
// answer itself directly), the node's own to a second view, and those that are marked. Only the first packet of a
// connection gets here; vs/conntrack lets IPVS's connections be among them. The node's own are also
// those from an address that is held: while kube-proxy's device is there, whoever connects to an
// address on it over IPv6 has the same as the source (RFC 6724, rule 1), though it is not routed any more.
func (s skeleton) postrouting() {
	c := s.hook("postrouting", nftables.ChainHookPostrouting, prioritySource, nftables.ChainTypeNAT)
	masquerade := &expr.Masq{FullyRandom: s.config.RandomFully}
	for _, f := range []family{ipv4, ipv6} {
		s.rule(c, is(f), ends(f), in(plan.Hairpin, f), masquerade)
		s.rule(c, is(f), hasMarkOf(f), fromThisHost(), masquerade)
		s.rule(c, is(f), hasMarkOf(f), addressAt(f, source, first), lookup(heldName(f), false), masquerade)
	}
	s.rule(c, marked(s.config.MasqueradeMark), masquerade)
}

// leave takes the marks away from every packet: a tunnel's packets inherit them, and would
// be masqueraded themselves.
func (s skeleton) leave() *nftables.Chain {
	c := s.hook("leave", nftables.ChainHookPostrouting, priorityLeave, nftables.ChainTypeFilter)
	for _, f := range []family{ipv4, ipv6} {
		s.rule(c, is(f), hasMarkOf(f), changeMark(0, 0))
	}
	s.rule(c, marked(s.config.MasqueradeMark), clearMark(s.config.MasqueradeMark))
	return c
}

func (s skeleton) chain(name string) *nftables.Chain {
	return s.conn.AddChain(&nftables.Chain{Name: name, Table: s.table})
}

func (s skeleton) hook(name string, hook *nftables.ChainHook, priority int32, kind nftables.ChainType) *nftables.Chain {
	return s.conn.AddChain(&nftables.Chain{
		Name: name, Table: s.table, Hooknum: hook, Type: kind,
		Priority: new(nftables.ChainPriority(priority)),
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

// first is the register in which the fields of a lookup begin: NFT_REG32_00, which is
// the beginning of register 1 too. The following ones are four bytes each.
const first = unix.NFT_REG32_00

func setMark(bit uint32) []expr.Any   { return changeMark(^bit, bit) }
func clearMark(bit uint32) []expr.Any { return changeMark(^bit, 0) }

func changeMark(mask, xor uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: 1},
		bitwise(mask, xor),
		&expr.Meta{Key: expr.MetaKeyMARK, Register: 1, SourceRegister: true},
	}
}

func marked(bit uint32) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyMARK, Register: 1}, bitwise(bit, 0), notZero()}
}

func bitwise(mask, xor uint32) expr.Any {
	return &expr.Bitwise{
		SourceRegister: 1, DestRegister: 1, Len: 4,
		Mask: binaryutil.NativeEndian.PutUint32(mask), Xor: binaryutil.NativeEndian.PutUint32(xor),
	}
}

func notZero() expr.Any {
	return &expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(0)}
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
	return []expr.Any{&expr.Ct{Key: expr.CtKeySTATE, Register: 1}, bitwise(bits, 0), notZero()}
}

// destinationNAT is IPS_DST_NAT (nf_conntrack_common.h).
const destinationNAT = 1 << 5

func hasNewDestination() []expr.Any {
	return []expr.Any{&expr.Ct{Key: expr.CtKeySTATUS, Register: 1}, bitwise(destinationNAT, 0), notZero()}
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

// ends loads `source address . destination address`.
func ends(f family) []expr.Any {
	return []expr.Any{addressAt(f, source, first), addressAt(f, destination, first+f.registers())}
}

// packetDestination loads `address . protocol . port` of where the packet goes.
func packetDestination(f family) []expr.Any { return packetEnd(f, destination, 2) }

// packetSource loads `address . protocol . port` of where the packet comes from.
func packetSource(f family) []expr.Any { return packetEnd(f, source, 0) }

func packetEnd(f family, e end, portOffset uint32) []expr.Any {
	next := first + f.registers()
	return []expr.Any{
		addressAt(f, e, first),
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: next},
		&expr.Payload{DestRegister: next + 1, Base: expr.PayloadBaseTransportHeader, Offset: portOffset, Len: 2},
	}
}

// packetDestinationAndSource loads `address . protocol . port . source address`.
func packetDestinationAndSource(f family) []expr.Any {
	return append(packetDestination(f), addressAt(f, source, first+f.registers()+2))
}

// splitMark matches packets to an address with a second view, and gives them that view's
// firewall mark and no other bit: IPVS compares all of it.
func splitMark(f family) []expr.Any {
	return append(packetDestination(f),
		&expr.Lookup{SourceRegister: first, SetName: listName(plan.Split, f), DestRegister: 1, IsDestRegSet: true},
		&expr.Meta{Key: expr.MetaKeyMARK, Register: 1, SourceRegister: true})
}

// hasMarkOf matches packets whose mark is that of a second view.
func hasMarkOf(f family) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyMARK, Register: first}, in(plan.OwnedMark, f)}
}

// toThisHost matches packets whose destination is an address of this host.
func toThisHost() []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: 1, FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)},
	}
}

// notLoopback matches packets that leave the host.
func notLoopback() []expr.Any {
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, "lo")
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1}, &expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: name},
	}
}

// fromThisHost matches packets whose source is an address of this host.
func fromThisHost() []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: 1, FlagSADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)},
	}
}

// reportedSource loads `address . protocol . port` of where the packet came from that an
// ICMP error is about: it follows the error's eight bytes (RFC 792, RFC 4443).
func reportedSource(f family) []expr.Any {
	const icmp = 8
	next := first + f.registers()
	protocolAt, header := uint32(9), uint32(20)
	if f.ipv6 {
		protocolAt, header = 6, 40
	}
	at := func(register, offset, length uint32) expr.Any {
		return &expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: icmp + offset, Len: length}
	}
	return []expr.Any{
		at(first, f.offset(source), uint32(f.bytes)), at(next, protocolAt, 1), at(next+1, header, 2),
	}
}

// fromPods matches packets of pods, or those of others.
func (s skeleton) fromPods(f family, pods bool) []expr.Any {
	if s.config.PodInterface == "" {
		return []expr.Any{addressAt(f, source, first), lookup(coverName(plan.PodCIDR, f), !pods)}
	}
	name, some := strings.CutSuffix(s.config.PodInterface, "*")
	data, op := []byte(name), expr.CmpOpEq
	if !some {
		data = make([]byte, unix.IFNAMSIZ)
		copy(data, name)
	}
	if !pods {
		op = expr.CmpOpNeq
	}
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, &expr.Cmp{Op: op, Register: 1, Data: data}}
}

// masqueraded matches packets to cluster addresses that are to get the node's address: those
// of the outside, and of the host itself, if pods can be told from these.
func (s skeleton) masqueraded(f family, local bool) []expr.Any {
	switch {
	case s.config.PodInterface == "":
		return append(knowsPods(), s.fromPods(f, false)...)
	case local:
		return nil
	}
	return s.fromPods(f, false)
}

// knowsPods matches if there are pod prefixes of the packet's family.
func knowsPods() []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: first}, lookup(detectName, false)}
}

func in(kind plan.Kind, f family) expr.Any { return lookup(listName(kind, f), false) }

func lookup(set string, invert bool) expr.Any {
	return &expr.Lookup{SourceRegister: first, SetName: set, Invert: invert}
}

func accept() expr.Any { return &expr.Verdict{Kind: expr.VerdictAccept} }
func drop() expr.Any   { return &expr.Verdict{Kind: expr.VerdictDrop} }

func jump(chain string) expr.Any { return &expr.Verdict{Kind: expr.VerdictJump, Chain: chain} }
