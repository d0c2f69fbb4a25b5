// Package conntrack forgets connections that began before an address was served.
//
// The first packet of a connection decides for all of them whether it is masqueraded
// (nf_nat_core.c). A UDP socket that was sending while nobody listened, to a node's port or
// to an address that was routed elsewhere, would go on with that decision as long as it sends.
// The netlink socket of each call belongs to the network namespace of the calling thread.
package conntrack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/mooring-project/mooring/internal/model"
)

// Attributes of a filter (nfnetlink_conntrack.h, nf_conntrack_netlink.c).
const (
	attrFilter          = 25
	attrFilterOrigFlags = 1
	filterDestination   = 1<<1 | 1<<3 | 1<<5 // address, protocol, port
)

// many is from how many destinations on the table is read once instead of searched for each.
const many = 16

// Destination is where connections go.
type Destination struct {
	Protocol model.Protocol
	To       netip.AddrPort
	// At is who answers, for those alone that NAT has led there; the zero value is anybody.
	At netip.AddrPort
}

// Forget deletes the entries of connections to some destinations. The kernel looks for them
// itself since Linux 6.8, but only for IPv4 can it be trusted: on some releases its filter takes
// every IPv6 address for the one it looks for but that one (ctnetlink_filter_match_tuple).
// Otherwise, and for many, the whole table is read.
func Forget(destinations []Destination) error {
	unfit := func(d Destination) bool { return d.To.Addr().Is6() || d.At.IsValid() }
	if len(destinations) >= many || slices.ContainsFunc(destinations, unfit) {
		return dumped(destinations)
	}
	for _, d := range destinations {
		err := filtered(d)
		if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.EOPNOTSUPP) {
			return dumped(destinations)
		}
		if err != nil && !errors.Is(err, syscall.ENOENT) {
			return fmt.Errorf("conntrack entries of %s %s: %w", d.Protocol, d.To, err)
		}
	}
	return nil
}

func filtered(d Destination) error {
	request := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_CTNETLINK<<8|nl.IPCTNL_MSG_CT_DELETE, unix.NLM_F_ACK)
	request.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_INET, Version: nl.NFNETLINK_V0})
	tuple := nl.NewRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_ORIG, nil)
	tuple.AddRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_IP, nil).AddRtAttr(nl.CTA_IP_V4_DST, d.To.Addr().AsSlice())
	transport := tuple.AddRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_PROTO, nil)
	transport.AddRtAttr(nl.CTA_PROTO_NUM, []byte{byte(d.Protocol)})
	transport.AddRtAttr(nl.CTA_PROTO_DST_PORT, binary.BigEndian.AppendUint16(nil, d.To.Port()))
	filter := nl.NewRtAttr(unix.NLA_F_NESTED|attrFilter, nil)
	filter.AddRtAttr(attrFilterOrigFlags, nl.Uint32Attr(filterDestination))
	request.AddData(tuple)
	request.AddData(filter)
	_, err := request.Execute(unix.NETLINK_NETFILTER, 0)
	return err
}

func dumped(destinations []Destination) error {
	filter := filter{}
	for _, d := range destinations {
		filter[d] = struct{}{}
	}
	for _, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		if _, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, family, filter); err != nil {
			return fmt.Errorf("conntrack entries of %d destinations: %w", len(filter), err)
		}
	}
	return nil
}

// filter is a set of destinations.
type filter map[Destination]struct{}

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (f filter) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	d := Destination{Protocol: model.Protocol(flow.Forward.Protocol), To: addrPort(flow.Forward.DstIP, flow.Forward.DstPort)}
	_, anybody := f[d]
	d.At = addrPort(flow.Reverse.SrcIP, flow.Reverse.SrcPort)
	_, somebody := f[d]
	return anybody || somebody
}

func addrPort(ip net.IP, port uint16) netip.AddrPort {
	addr, _ := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(addr.Unmap(), port)
}
