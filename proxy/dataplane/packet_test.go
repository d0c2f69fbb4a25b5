package dataplane_test

import (
	"maps"
	"net/netip"
	"testing"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/proxy/plan"
)

func TestClusterIP(t *testing.T) {
	l := newLab(t)
	everyWay(t, l, func(t *testing.T, w way) {
		vip, node := serviceAddr(w.ipv6), l.node.addr(w.ipv6)
		for _, h := range []*host{l.pod1, l.pod2, l.remote} {
			w.serve(t, h, 8080)
		}
		l.want(w.service(vip, 80, plan.Divert, l.pod2))
		w.expect(t, l.pod1, vip, 80, l.pod2, l.pod1.addr(w.ipv6))
		w.expect(t, l.node, vip, 80, l.pod2, node)
		w.expect(t, l.client, vip, 80, l.pod2, node)
		w.expect(t, l.pod2, vip, 80, l.pod2, node) // to itself

		l.want(w.service(vip, 80, plan.Divert, l.remote))
		w.expect(t, l.pod1, vip, 80, l.remote, l.pod1.addr(w.ipv6))
		w.expect(t, l.node, vip, 80, l.remote, node)
		w.expect(t, l.client, vip, 80, l.remote, node)
	})
}

// Without pod prefixes nobody can tell who is outside: sources stay, as with
// kube-proxy without a local detector.
func TestClusterIPWithoutPodPrefixes(t *testing.T) {
	l := newLab(t)
	everyWay(t, l, func(t *testing.T, w way) {
		w.serve(t, l.pod1, 8080)
		want := w.service(serviceAddr(w.ipv6), 80, plan.Divert, l.pod1)
		maps.DeleteFunc(want, func(k plan.Key, _ plan.Value) bool { return k.Kind == plan.PodCIDR })
		l.want(want)
		w.expect(t, l.client, serviceAddr(w.ipv6), 80, l.pod1, l.client.addr(w.ipv6))
	})
}

func TestRulesSomebodyRemovedAreBackAfterSetup(t *testing.T) {
	l, w := newLab(t), way{false, model.TCP}
	w.serve(t, l.pod1, 8080)
	l.want(w.service(serviceAddr(w.ipv6), 80, plan.Divert, l.pod1))
	l.node.Do(func() {
		edit(t, func(conn *nftables.Conn, table *nftables.Table) { conn.FlushTable(table) })
	})
	if got, err := w.ask(l.client, serviceAddr(w.ipv6), 80); err == nil {
		t.Errorf("answer %q without rules", got)
	}
	l.node.Do(func() {
		if err := l.kernel.Setup(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	w.expect(t, l.client, serviceAddr(w.ipv6), 80, l.pod1, l.node.addr(w.ipv6))
}

func TestNodePort(t *testing.T) {
	l := newLab(t)
	everyWay(t, l, func(t *testing.T, w way) {
		node := l.node.addr(w.ipv6)
		for _, h := range []*host{l.pod1, l.remote} {
			w.serve(t, h, 8080)
		}
		for _, endpoint := range []*host{l.pod1, l.remote} {
			l.want(w.service(node, 30080, plan.Masquerade, endpoint))
			for _, from := range []*host{l.pod1, l.pod2, l.node, l.client} {
				w.expect(t, from, node, 30080, endpoint, node)
			}
		}
	})
}

func TestServiceWithoutEndpoints(t *testing.T) {
	l := newLab(t)
	everyWay(t, l, func(t *testing.T, w way) {
		want := base()
		vip := plan.Key{Kind: plan.Reject, Protocol: w.protocol, Addr: serviceAddr(w.ipv6), Port: 80}
		nodePort := plan.Key{Kind: plan.Reject, Protocol: w.protocol, Addr: l.node.addr(w.ipv6), Port: 30080}
		want[vip], want[nodePort] = plan.Value{}, plan.Value{}
		l.want(want)
		for _, from := range []*host{l.pod1, l.node, l.client} {
			w.refused(t, from, vip.Addr, vip.Port)
			w.refused(t, from, nodePort.Addr, nodePort.Port)
		}
	})
}

func TestUnlistedPortDoesNotReachTheHost(t *testing.T) {
	l := newLab(t)
	everyWay(t, l, func(t *testing.T, w way) {
		vip := serviceAddr(w.ipv6)
		w.serve(t, l.node, 9999)
		w.serve(t, l.pod1, 8080)
		l.want(w.service(vip, 80, plan.Divert, l.pod1))
		w.expect(t, l.client, l.node.addr(w.ipv6), 9999, l.node, l.client.addr(w.ipv6)) // the daemon is there
		for _, from := range []*host{l.pod2, l.node, l.client} {
			w.expect(t, from, vip, 80, l.pod1, map[bool]netip.Addr{true: from.addr(w.ipv6), false: l.node.addr(w.ipv6)}[from == l.pod2])
			w.refused(t, from, vip, 9999)
			w.refused(t, from, vip.Next(), 80) // an address nobody has
		}
	})
}

func TestNobodyAnswersForServiceAddresses(t *testing.T) {
	l := newLab(t)
	for _, w := range []way{{false, model.TCP}, {true, model.TCP}} {
		t.Run(w.String(), func(t *testing.T) {
			l.t = t
			vip := serviceAddr(w.ipv6)
			w.serve(t, l.pod1, 8080)
			l.want(w.service(vip, 80, plan.Divert, l.pod1))
			w.expect(t, l.client, vip, 80, l.pod1, l.node.addr(w.ipv6)) // by the node as a router
			l.client.Route(serviceRange(w.ipv6), "eth0", netip.Addr{})
			got, err := w.ask(l.client, vip, 80)
			if err == nil {
				t.Errorf("answer %q without a router: somebody answers ARP or neighbour solicitations", got)
			}
			l.client.Do(func() {
				if state := neighbour(t, vip); state&(netlink.NUD_REACHABLE|netlink.NUD_STALE|netlink.NUD_DELAY|netlink.NUD_PROBE) != 0 {
					t.Errorf("neighbour entry of %s is in state %#x", vip, state)
				}
				if state := neighbour(t, l.node.addr(w.ipv6)); state == netlink.NUD_NONE {
					t.Errorf("no neighbour entry of the node itself: the check above proves nothing")
				}
			})
		})
	}
}

// neighbour gives the state of the neighbour entry of an address.
func neighbour(t *testing.T, addr netip.Addr) int {
	t.Helper()
	family := unix.AF_INET
	if addr.Is6() {
		family = unix.AF_INET6
	}
	entries, err := netlink.NeighList(0, family)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if got, ok := netip.AddrFromSlice(entry.IP); ok && got.Unmap() == addr {
			return entry.State
		}
	}
	return netlink.NUD_NONE
}

// A daemon of the node serves, as the API server of a control plane node does.
func TestEndpointOnTheNodeItself(t *testing.T) {
	l := newLab(t)
	l.routes()
	everyWay(t, l, func(t *testing.T, w way) {
		w.serve(t, l.node, 8080)
		l.run(l.context(), l.entry(w, w.everywhere(), l.node))
		for to, port := range map[netip.Addr]uint16{serviceAddr(w.ipv6): 80, balancerAddr(w.ipv6): 80, l.node.addr(w.ipv6): 30080} {
			for from, seen := range map[*host]*host{l.pod1: l.pod1, l.node: l.node, l.client: l.client} {
				w.expect(t, from, to, port, l.node, seen.addr(w.ipv6))
			}
		}
	})
}

func TestLeavingEndpointKeepsItsConnections(t *testing.T) {
	l := newLab(t)
	for _, w := range []way{{false, model.TCP}, {true, model.TCP}} {
		t.Run(w.String(), func(t *testing.T) {
			l.t = t
			vip := serviceAddr(w.ipv6)
			for _, h := range []*host{l.pod1, l.pod2} {
				w.serve(t, h, 8080)
			}
			l.want(w.service(vip, 80, plan.Divert, l.pod2))
			old, err := w.dial(l.pod1, vip, 80)
			if err != nil {
				t.Fatal(err)
			}
			defer old.Close()
			still := func(when string) {
				t.Helper()
				if got, err := talk(old); err != nil || got != "pod2 "+l.pod1.addr(w.ipv6).String() {
					t.Errorf("old connection, %s: answer %q, error %v", when, got, err)
				}
			}
			still("at first")

			draining := w.service(vip, 80, plan.Divert, l.pod1, l.pod2)
			leaving := w.realServer(vip, 80, l.pod2)
			draining[leaving] = plan.Value{Weight: 0}
			l.want(draining)
			for range 3 {
				w.expect(t, l.client, vip, 80, l.pod1, l.node.addr(w.ipv6))
			}
			still("another endpoint there")
			if got := l.connections(leaving); got == 0 {
				t.Errorf("connections of the leaving endpoint: %d", got)
			}

			last := maps.Clone(draining)
			delete(last, w.realServer(vip, 80, l.pod1))
			last[plan.Key{Kind: plan.Reject, Protocol: w.protocol, Addr: vip, Port: 80}] = plan.Value{}
			l.want(last)
			w.refused(t, l.pod1, vip, 80)
			w.refused(t, l.node, vip, 80)
			still("the last endpoint leaving")

			l.want(base())
			if got, err := talk(old); err == nil {
				t.Errorf("old connection, Service gone: answer %q", got)
			}
		})
	}
}

func (l *lab) connections(server plan.Key) uint32 {
	l.t.Helper()
	counts, err := l.kernel.Connections(l.t.Context(), []plan.Key{server.VirtualServerKey()})
	if err != nil {
		l.t.Fatal(err)
	}
	return counts[server]
}
