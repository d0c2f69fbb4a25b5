package nft

import (
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/mooring-project/mooring/proxy/plan"
)

// directionOriginal is IP_CT_DIR_ORIGINAL (nf_conntrack_tuple_common.h).
const directionOriginal = 0

// answers gives replies from addresses of Services the source that their connection was made to,
// behind IPVS. IPVS tells connections by the client's address and port and the endpoint's
// (ip_vs_conn_out_get, ip_vs_conn.c). A client may use one of its ports for two addresses of
// Services, which have that endpoint in common: then replies of the older connection get the
// address of the newer one, and the older one is silent until IPVS has forgotten that. Conntrack
// does not mix them up. For all others this changes nothing.
//
// What IPVS remembers of the newer one's state stays mixed: once the older one's server has ended that, the
// newer one is forgotten when it pauses for two minutes, or ten seconds after a reset. A reply of SCTP keeps
// what IPVS gives it.
func (s skeleton) answers(chains ...*nftables.Chain) {
	c := s.chain("answer")
	for _, f := range []family{ipv4, ipv6} {
		s.rule(c, is(f), originalDestination(expr.CtKeyDST), writeSource(f))
	}
	s.rule(c, protocol(unix.IPPROTO_TCP), originalDestination(expr.CtKeyPROTODST), writeSourcePort(tcpChecksum))
	s.rule(c, protocol(unix.IPPROTO_UDP), hasChecksum(), originalDestination(expr.CtKeyPROTODST), writeSourcePort(udpChecksum))
	for _, chain := range chains {
		for _, f := range []family{ipv4, ipv6} {
			for _, kind := range []plan.Kind{plan.Owned, plan.Split} {
				s.rule(chain, is(f), replies(), packetSource(f), in(kind, f), jump("answer"))
			}
		}
	}
}

func originalDestination(part expr.CtKey) expr.Any {
	return &expr.Ct{Key: part, Direction: directionOriginal, Register: 1}
}

// Where the checksums of headers are.
const (
	ipv4Checksum = 10
	tcpChecksum  = 16
	udpChecksum  = 6
)

// writeSource puts an address into a packet as its source, and has the checksums of IPv4, TCP and UDP
// follow. IPv6 has none of its own: what is written as such is where the address comes to stand a moment
// later (nft_payload_set_eval), since package nftables does not name the others without it.
func writeSource(f family) expr.Any {
	checksum := uint32(ipv4Checksum)
	if f.ipv6 {
		checksum = f.offset(source)
	}
	return &expr.Payload{
		OperationType: expr.PayloadWrite, SourceRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: f.offset(source), Len: uint32(f.bytes),
		CsumType: expr.CsumTypeInet, CsumOffset: checksum, CsumFlags: unix.NFT_PAYLOAD_L4CSUM_PSEUDOHDR,
	}
}

func writeSourcePort(checksum uint32) expr.Any {
	return &expr.Payload{
		OperationType: expr.PayloadWrite, SourceRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 2,
		CsumType: expr.CsumTypeInet, CsumOffset: checksum,
	}
}

// hasChecksum matches datagrams with a checksum: over IPv4 it may be left out (RFC 768).
func hasChecksum() []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: udpChecksum, Len: 2},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{0, 0}},
	}
}
