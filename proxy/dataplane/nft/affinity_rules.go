package nft

import (
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/mooring-project/mooring/proxy/plan"
)

const (
	// data is the register for what a map gives: behind the longest key, `address . group`.
	data = unix.NFT_REG_3
	// forgetClient is NFT_DYNSET_OP_DELETE (nf_tables.h).
	forgetClient = 2
)

// clients marks the packets of clients that are remembered. Chains are written for the packets
// of both families, of clients that come from the inside, that is, to second views, or not,
// and whose connections are to get the node's address or not.
func (s skeleton) clients() {
	s.inside()
	s.outside()
	s.kept()
}

// inside is for pods at addresses with a second view: they are seen as what they are there. The
// node's own connections get an address of its own, as they do without affinity.
func (s skeleton) inside() {
	c := s.chain("inside")
	for _, f := range []family{ipv4, ipv6} {
		s.rule(c, is(f), recall(f))
		s.rule(c, is(f), pinned(f, false), accept())
	}
}

func (s skeleton) outside() {
	c, masqueraded := s.chain("outside"), s.chain("outside-masqueraded")
	s.chain("kept")
	s.chain("kept-masqueraded")
	s.rule(c, marked(s.config.MasqueradeMark), goTo("outside-masqueraded"))
	for _, f := range []family{ipv4, ipv6} {
		s.rule(c, is(f), recall(f), goTo("kept"))
		s.rule(masqueraded, is(f), recall(f), goTo("kept-masqueraded"))
	}
	s.rule(masqueraded, markMasqueraded(plan.Masqueraded))
}

// kept undoes the mark of an endpoint that does not serve the group any more.
func (s skeleton) kept() {
	c, masqueraded := s.chain("kept"), s.chain("kept-masqueraded")
	for _, f := range []family{ipv4, ipv6} {
		s.rule(c, is(f), pinned(f, false), accept())
		s.rule(masqueraded, is(f), pinned(f, false), markMasqueraded(plan.Masqueraded), accept())
	}
	s.rule(c, put(expr.MetaKeyMARK, 0))
	s.rule(masqueraded, put(expr.MetaKeyMARK, s.config.MasqueradeMark))
	s.rule(masqueraded, markMasqueraded(plan.Masqueraded))
}

// enter gives packets that begin a connection to an address their group, and the mark of
// where the client was.
func (s skeleton) enter(c *nftables.Chain, f family, kind plan.Kind, chain string, where ...expr.Any) {
	s.rule(c, is(f), state(expr.CtStateBitNEW), where, packetDestination(f),
		&expr.Lookup{SourceRegister: first, SetName: listName(kind, f), DestRegister: 1, IsDestRegSet: true},
		&expr.Meta{Key: expr.MetaKeyPRIORITY, Register: 1, SourceRegister: true}, jump(chain))
}

// chosen remembers where clients went. IPVS sends a packet on through the output hook, or
// lets it go on to a daemon of this host.
func (s skeleton) chosen() (received *nftables.Chain) {
	received = s.hook("received", nftables.ChainHookInput, priorityReceived, nftables.ChainTypeFilter)
	for _, c := range []*nftables.Chain{
		received,
		s.hook("sent", nftables.ChainHookOutput, prioritySent, nftables.ChainTypeFilter),
	} {
		for _, f := range []family{ipv4, ipv6} {
			s.rule(c, is(f), state(expr.CtStateBitNEW), load(expr.MetaKeyPRIORITY, first),
				&expr.Lookup{SourceRegister: first, SetName: listName(plan.AffinityTimeout, f), DestRegister: unix.NFT_REG_VERDICT, IsDestRegSet: true})
		}
	}
	return received
}

// remember writes the chains of a timeout: a client whose mark was followed stays remembered
// with it, any other one is remembered anew with that of the endpoint it goes to. (An update
// would keep the old mark of an element that is there.)
func (s skeleton) remember(timeout uint32) {
	c, masqueraded := s.chain(chainName(timeout)), s.chain(chainName(timeout)+masqueradedSuffix)
	s.conn.FlushChain(c)
	s.conn.FlushChain(masqueraded)
	for _, f := range []family{ipv4, ipv6} {
		update := client(f, unix.NFT_DYNSET_OP_UPDATE, time.Duration(timeout)*time.Second)
		s.rule(c, is(f), pinned(f, false), update)
		s.rule(c, is(f), pinned(f, true), pinOf(f), client(f, forgetClient, 0), update)
	}
	s.rule(c, put(expr.MetaKeyPRIORITY, 0))
	s.rule(c, put(expr.MetaKeyMARK, 0))
	s.rule(masqueraded, markMasqueraded(0))
	s.rule(masqueraded, jump(c.Name))
	s.rule(masqueraded, put(expr.MetaKeyMARK, s.config.MasqueradeMark))
}

// forget removes the chains of a timeout.
func (s skeleton) forget(timeout uint32) {
	for _, suffix := range []string{masqueradedSuffix, ""} {
		chain := &nftables.Chain{Table: s.table, Name: chainName(timeout) + suffix}
		s.conn.FlushChain(chain)
		s.conn.DelChain(chain)
	}
}

// recall gives a packet the mark with which its client is remembered.
func recall(f family) []expr.Any {
	return append(clientKey(f),
		&expr.Lookup{SourceRegister: first, SetName: clientsName(f), DestRegister: 1, IsDestRegSet: true},
		&expr.Meta{Key: expr.MetaKeyMARK, Register: 1, SourceRegister: true})
}

// pinned matches packets whose mark serves their group, or the others.
func pinned(f family, invert bool) []expr.Any {
	return []expr.Any{
		load(expr.MetaKeyPRIORITY, first), load(expr.MetaKeyMARK, first+1), lookup(listName(plan.Pinned, f), invert),
	}
}

// pinOf gives a packet to an endpoint the mark of the pin.
func pinOf(f family) []expr.Any {
	return []expr.Any{
		load(expr.MetaKeyPRIORITY, first), addressAt(f, destination, first+1),
		&expr.Payload{DestRegister: first + 1 + f.registers(), Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Lookup{SourceRegister: first, SetName: listName(plan.Pin, f), DestRegister: 1, IsDestRegSet: true},
		&expr.Meta{Key: expr.MetaKeyMARK, Register: 1, SourceRegister: true},
	}
}

// client does something with the element of a packet's client, with its mark.
func client(f family, operation uint32, timeout time.Duration) []expr.Any {
	return append(clientKey(f), load(expr.MetaKeyMARK, data), &expr.Dynset{
		SetName: clientsName(f), SrcRegKey: first, SrcRegData: data, Operation: operation, Timeout: timeout,
	})
}

// clientKey loads `source address . group`.
func clientKey(f family) []expr.Any {
	return []expr.Any{addressAt(f, source, first), load(expr.MetaKeyPRIORITY, first+f.registers())}
}

func load(key expr.MetaKey, register uint32) expr.Any {
	return &expr.Meta{Key: key, Register: register}
}

func put(key expr.MetaKey, value uint32) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: binaryutil.NativeEndian.PutUint32(value)},
		&expr.Meta{Key: key, Register: 1, SourceRegister: true},
	}
}

// markMasqueraded sets the one bit of the packet priority that remembers masquerading, or with 0
// clears it.
func markMasqueraded(bit uint32) []expr.Any {
	return []expr.Any{load(expr.MetaKeyPRIORITY, 1), bitwise(^uint32(plan.Masqueraded), bit), &expr.Meta{Key: expr.MetaKeyPRIORITY, Register: 1, SourceRegister: true}}
}

func goTo(chain string) expr.Any { return &expr.Verdict{Kind: expr.VerdictGoto, Chain: chain} }
