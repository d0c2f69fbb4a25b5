package dataplane

import (
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mooring-project/mooring/proxy/plan"
)

// Defaults of Options.
const (
	// DefaultDivertMark is bit 12, which the usual neighbours leave alone: portmap takes
	// bit 13, kube-proxy and kubelet 14 and 15, Cilium 8 to 11 and from 16 up, Calico
	// (mask 0xffff0000) and Tailscale (mask 0xff0000) some from 16 up. Where another
	// program takes this bit, choose one it leaves.
	DefaultDivertMark = 0x00001000
	// DefaultMasqueradeMark is bit 14, which means the same to kube-proxy and kubelet
	// (iptables.masqueradeBit of KubeProxyConfiguration).
	DefaultMasqueradeMark = 0x00004000
	// DefaultRouteTable is the number of our routing table; 253 to 255 are the kernel's
	// and small ones are what people choose by hand.
	DefaultRouteTable = 20046
	// DefaultRulePriority is before the table main (32766) and before where CNIs
	// commonly put their rules by source address (from about 500 up to 32765).
	DefaultRulePriority = 100
	// callTimeout bounds one exchange with the kernel.
	callTimeout = 5 * time.Second
)

// Options configure a Kernel. Zero values mean the defaults.
type Options struct {
	// IPv4 and IPv6 are the families to serve; at least one.
	IPv4, IPv6 bool
	// DivertMark is the one bit of the packet mark that delivers packets to this host.
	DivertMark uint32
	// MasqueradeMark is the one bit of the packet mark that remembers, until the packet
	// leaves, that its connection is to get the node's address.
	MasqueradeMark uint32
	// RouteTable and RulePriority place the routing rule for that bit.
	RouteTable, RulePriority int
	// MasqueradeAll gives every connection through a virtual server the node's address.
	MasqueradeAll bool
	// PodInterface is the interface by which packets of pods arrive, as cni0, or, ending in
	// "*", what the names of such interfaces begin with, as veth*. Empty if pods are told by
	// their addresses (plan.PodCIDR).
	PodInterface string
	// RandomFully picks the source ports of masqueraded connections at random, which
	// avoids insertion races of conntrack.
	RandomFully bool
	// TCPTimeout, TCPFinTimeout and UDPTimeout are the idle timeouts of IPVS
	// connections; 0 leaves the kernel's (900 s, 120 s, 300 s).
	TCPTimeout, TCPFinTimeout, UDPTimeout time.Duration
	// Moby has servers written one by one by github.com/moby/ipvs, to compare with.
	Moby bool
	// Logger gets what is worth knowing and no error; nil for none.
	Logger *slog.Logger
}

// withDefaults fills in defaults and checks the rest.
func (o Options) withDefaults() (Options, error) {
	if o.DivertMark == 0 {
		o.DivertMark = DefaultDivertMark
	}
	if o.MasqueradeMark == 0 {
		o.MasqueradeMark = DefaultMasqueradeMark
	}
	if o.RouteTable == 0 {
		o.RouteTable = DefaultRouteTable
	}
	if o.RulePriority == 0 {
		o.RulePriority = DefaultRulePriority
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	switch {
	case !o.IPv4 && !o.IPv6:
		return o, errors.New("data plane: neither IPv4 nor IPv6 is to be served")
	case bits.OnesCount32(o.DivertMark) != 1:
		return o, fmt.Errorf("data plane: mark %#x: has to be exactly one bit", o.DivertMark)
	case bits.OnesCount32(o.MasqueradeMark) != 1 || o.MasqueradeMark == o.DivertMark:
		return o, fmt.Errorf("data plane: masquerade mark %#x: has to be exactly one bit, and not %#x", o.MasqueradeMark, o.DivertMark)
	case (o.DivertMark|o.MasqueradeMark)&plan.MarkBits != 0:
		return o, fmt.Errorf("data plane: marks %#x and %#x: bits of %#x are kept for virtual servers by firewall mark", o.DivertMark, o.MasqueradeMark, uint32(plan.MarkBits))
	case len(strings.TrimSuffix(o.PodInterface, "*")) >= unix.IFNAMSIZ || o.PodInterface == "*":
		return o, fmt.Errorf("data plane: pod interface %q: a name of at most %d letters, or a beginning and *", o.PodInterface, unix.IFNAMSIZ-1)
	case o.RouteTable < 1 || o.RouteTable >= 253 && o.RouteTable <= 255:
		return o, fmt.Errorf("data plane: routing table %d: has to be positive and not one of the kernel's 253-255", o.RouteTable)
	}
	return o, nil
}
