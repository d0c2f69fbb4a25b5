package conntrack_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/testkit/netns"
	"github.com/mooring-project/mooring/proxy/dataplane/conntrack"
)

func destination(text string) conntrack.Destination {
	return conntrack.Destination{Protocol: model.UDP, To: netip.MustParseAddrPort(text)}
}

func TestForgetsNothingElse(t *testing.T) {
	for name, test := range map[string]struct {
		extra  int
		forget []string
		want   []string
	}{
		"IPv4, which the kernel looks for": {0, []string{"10.96.0.10:53"}, []string{"10.96.0.10:54", "10.96.0.11:53", "[fd00::10]:53", "[fd00::11]:53"}},
		"IPv6":                             {0, []string{"[fd00::10]:53"}, []string{"10.96.0.10:53", "10.96.0.10:54", "10.96.0.11:53", "[fd00::11]:53"}},
		"many":                             {20, []string{"10.96.0.10:53", "[fd00::10]:53"}, []string{"10.96.0.10:54", "10.96.0.11:53", "[fd00::11]:53"}},
	} {
		t.Run(name, func(t *testing.T) {
			netns.New(t).Enter()
			for _, text := range []string{"10.96.0.10:53", "10.96.0.10:54", "10.96.0.11:53", "[fd00::10]:53", "[fd00::11]:53"} {
				begin(t, netip.MustParseAddrPort(text))
			}
			var forget []conntrack.Destination
			for _, text := range test.forget {
				forget = append(forget, destination(text))
			}
			for i := range test.extra {
				forget = append(forget, destination(fmt.Sprintf("10.96.1.%d:53", i)))
			}
			if err := conntrack.Forget(forget); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, destinations(t)); diff != "" {
				t.Errorf("entries left (-want +got):\n%s", diff)
			}
		})
	}
}

// begin makes an entry.
func begin(t *testing.T, to netip.AddrPort) {
	t.Helper()
	from, family := netip.MustParseAddr("192.0.2.1"), netlink.InetFamily(unix.AF_INET)
	if to.Addr().Is6() {
		from, family = netip.MustParseAddr("2001:db8::1"), unix.AF_INET6
	}
	flow := &netlink.ConntrackFlow{
		FamilyType: uint8(family), TimeOut: 100,
		Forward: netlink.IPTuple{SrcIP: from.AsSlice(), DstIP: to.Addr().AsSlice(), SrcPort: 1000, DstPort: to.Port(), Protocol: unix.IPPROTO_UDP},
		Reverse: netlink.IPTuple{SrcIP: to.Addr().AsSlice(), DstIP: from.AsSlice(), SrcPort: to.Port(), DstPort: 1000, Protocol: unix.IPPROTO_UDP},
	}
	if err := netlink.ConntrackCreate(netlink.ConntrackTable, family, flow); err != nil {
		netns.Missing(t, fmt.Sprintf("conntrack: %v", err))
	}
}

func destinations(t *testing.T) (list []string) {
	t.Helper()
	for _, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, family)
		if err != nil {
			t.Fatal(err)
		}
		for _, flow := range flows {
			addr, _ := netip.AddrFromSlice(flow.Forward.DstIP)
			list = append(list, netip.AddrPortFrom(addr.Unmap(), flow.Forward.DstPort).String())
		}
	}
	slices.Sort(list)
	return list
}
