package lab

import (
	"fmt"
	"net/netip"
)

// The addresses of the lab. Everything but the pod and Service ranges is on one link,
// the underlay.
var (
	// PodRange4 and PodRange6 hold the pods of all nodes.
	PodRange4 = netip.MustParsePrefix("10.244.0.0/16")
	PodRange6 = netip.MustParsePrefix("fd00:10:244::/48")
	// ServiceRange4 and ServiceRange6 hold the cluster IPs.
	ServiceRange4 = netip.MustParsePrefix("10.96.0.0/16")
	ServiceRange6 = netip.MustParsePrefix("fd00:10:96::/112")
	// DNSAddress is the cluster IP of kube-dns, which pods have in resolv.conf.
	DNSAddress = netip.MustParseAddr("10.96.0.10")
	// RelayAddress is where the lab passes connections on to the API server.
	RelayAddress = netip.MustParseAddr("172.30.0.254")

	underlay4 = netip.MustParsePrefix("172.30.0.0/24")
	underlay6 = netip.MustParsePrefix("fd00:172:30::/64")
)

// Addresses are one IPv4 and one IPv6 address of the same machine or pod.
type Addresses struct{ V4, V6 netip.Addr }

// Host numbers on the underlay.
const (
	gatewayNumber = 1
	nodeNumber    = 10 // node-1 has 11
	outsideNumber = 100
)

// onUnderlay gives the addresses of host number n; decimal digits are kept in IPv6,
// so that 11 is fd00:172:30::11.
func onUnderlay(n int) Addresses {
	v4 := underlay4.Addr().As4()
	v4[3] = byte(n)
	return Addresses{netip.AddrFrom4(v4), netip.MustParseAddr(fmt.Sprintf("fd00:172:30::%d", n))}
}

// podRanges gives the part of the pod ranges that belongs to node number n.
func podRanges(n int) (v4, v6 netip.Prefix) {
	return netip.MustParsePrefix(fmt.Sprintf("10.244.%d.0/24", n)), netip.MustParsePrefix(fmt.Sprintf("fd00:10:244:%d::/64", n))
}

// podAddresses gives pod number i of node number n; number 1 is the node's own end of
// every pod's link.
func podAddresses(n, i int) (Addresses, error) {
	if i < 1 || i > 254 {
		return Addresses{}, fmt.Errorf("pod number %d of node %d: only 1 to 254 fit into the node's range", i, n)
	}
	return Addresses{
		netip.AddrFrom4([4]byte{10, 244, byte(n), byte(i)}),
		netip.MustParseAddr(fmt.Sprintf("fd00:10:244:%d::%d", n, i)),
	}, nil
}
