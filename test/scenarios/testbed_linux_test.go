package scenarios

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/testkit/netns"
	"github.com/mooring-project/mooring/proxy/dataplane"
	"github.com/mooring-project/mooring/proxy/dataplane/ipvs"
	"github.com/mooring-project/mooring/proxy/dataplane/sysctl"
	"github.com/mooring-project/mooring/proxy/plan"
)

// testbed is the hosts as namespaces. The nodes and the outsider share a bridge; pods hang on
// their nodes by routes. Only theNode has a data plane.
type testbed struct {
	t      *testing.T
	lan    *netns.Namespace
	spaces map[host]*netns.Namespace
	kernel *dataplane.Kernel
	have   plan.Plan
}

func newTestbed(t *testing.T) *testbed {
	t.Helper()
	b := newHosts(t)
	b.configure(configurations[0])
	return b
}

// newHosts makes the hosts, with nothing that serves Services.
func newHosts(t *testing.T) *testbed {
	t.Helper()
	needIPVS(t)
	b := &testbed{t: t, lan: netns.New(t), spaces: map[host]*netns.Namespace{}, have: plan.Plan{}}
	for _, h := range []host{theNode, podHost, localPod, otherNode, remotePod, outsider} {
		b.spaces[h] = netns.New(t)
	}
	b.wire()
	for _, h := range pods {
		b.listen(h)
	}
	return b
}

// needIPVS ends a test where the kernel has no IPVS: by a skip, or by a failure where the
// run is meant for such a kernel.
func needIPVS(t *testing.T) {
	t.Helper()
	err := ipvs.Available(t.Context())
	if err == nil {
		return
	}
	if os.Getenv("MOORING_IPVS") == "required" {
		t.Fatal(err)
	}
	t.Skipf(`%v; or run the test by go test -exec "$PWD/test/vm/run"`, err)
}

// wire connects the hosts. What the other node's pods answer to the outside goes back through
// theNode, as where that is the gateway: otherwise answers to a kept source would take a
// shorter way and arrive with the pod's address, with any proxy.
func (b *testbed) wire() {
	b.bridge(theNode, otherNode, outsider)
	b.spaces[theNode].Veth("uplink", b.lan, "nowhere")
	b.attach(theNode, podHost)
	b.attach(theNode, localPod)
	b.attach(otherNode, remotePod)
	for _, h := range []host{theNode, otherNode} {
		b.spaces[h].Do(func() {
			for _, name := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"} {
				b.must(sysctl.Ensure(name, "1"))
			}
		})
	}
	b.spaces[theNode].Do(func() {
		// The tests ask for more refusals than the kernel sends to one host in a second.
		for _, name := range []string{"net/ipv4/icmp_ratelimit", "net/ipv6/icmp/ratelimit"} {
			b.must(sysctl.Ensure(name, "0"))
		}
	})
	for family, ipv6 := range []bool{false, true} {
		node := theNode.addr(ipv6)
		b.spaces[theNode].Route(single(remotePod.addr(ipv6)), "eth0", otherNode.addr(ipv6))
		for _, h := range []host{podHost, localPod, outsider} {
			b.spaces[otherNode].Route(single(h.addr(ipv6)), "eth0", node)
		}
		for _, services := range []netip.Prefix{serviceCIDRs[family], balancerCIDRs[family]} {
			b.spaces[outsider].Route(services, "eth0", node)
		}
		// A node reaches Services by any route; most have a default one.
		b.spaces[theNode].Route(everything(ipv6), "uplink", netip.Addr{})
	}
}

func single(addr netip.Addr) netip.Prefix { return netip.PrefixFrom(addr, addr.BitLen()) }

func everything(ipv6 bool) netip.Prefix {
	if ipv6 {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
}

// bridge puts machines on one network.
func (b *testbed) bridge(hosts ...host) {
	for _, h := range hosts {
		b.spaces[h].Veth("eth0", b.lan, h.name)
		b.spaces[h].Address("eth0", netip.PrefixFrom(h.v4, 24))
		b.spaces[h].Address("eth0", netip.PrefixFrom(h.v6, 64))
	}
	b.lan.Do(func() {
		bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}
		b.must(netlink.LinkAdd(bridge))
		for _, h := range hosts {
			port, err := netlink.LinkByName(h.name)
			b.must(err)
			b.must(netlink.LinkSetMaster(port, bridge))
		}
		b.must(netlink.LinkSetUp(bridge))
	})
}

// attach connects a pod to its node the way routed CNIs do.
func (b *testbed) attach(node, pod host) {
	gateway6 := netip.MustParseAddr("fe80::1")
	b.spaces[pod].Veth("eth0", b.spaces[node], pod.name)
	b.spaces[node].Address(pod.name, netip.PrefixFrom(gateway6, 64))
	for _, ipv6 := range []bool{false, true} {
		b.spaces[pod].Address("eth0", single(pod.addr(ipv6)))
		b.spaces[node].Route(single(pod.addr(ipv6)), pod.name, netip.Addr{})
		gateway := node.v4
		if ipv6 {
			gateway = gateway6
		}
		b.spaces[pod].Route(everything(ipv6), "eth0", gateway)
	}
}

// configure has the data plane opened anew, as a proxy that is started with another
// configuration: what is in the kernel it adopts.
func (b *testbed) configure(c configuration) {
	b.t.Helper()
	b.spaces[theNode].Do(func() {
		kernel, err := dataplane.Open(dataplane.Options{
			IPv4: true, IPv6: true, RandomFully: true, MasqueradeAll: c.masqueradeAll, Logger: slog.New(slog.DiscardHandler),
		})
		b.must(err)
		b.t.Cleanup(func() { kernel.Close() })
		b.must(kernel.Setup(b.t.Context()))
		b.kernel = kernel
	})
}

// apply makes the kernel equal to a plan, and checks that it is.
func (b *testbed) apply(t *testing.T, want plan.Plan) {
	t.Helper()
	var observed plan.Plan
	b.spaces[theNode].Do(func() {
		_, err := b.kernel.Apply(t.Context(), plan.Diff(b.have, want))
		b.must(err)
		observed, err = b.kernel.Observe(t.Context())
		b.must(err)
	})
	b.have = want
	if diff := cmp.Diff(want.String(), observed.String()); diff != "" {
		t.Fatalf("observed (-plan +kernel):\n%s", diff)
	}
}

func (b *testbed) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// listen has a pod answer each line and datagram by its name and the address and port it came from,
// until the test ends.
func (b *testbed) listen(h host) {
	b.t.Helper()
	address := fmt.Sprintf(":%d", endpointPort)
	b.spaces[h].Do(func() {
		packets, err := net.ListenPacket("udp", address)
		b.must(err)
		listener, err := net.Listen("tcp", address)
		b.must(err)
		b.t.Cleanup(func() { packets.Close(); listener.Close() })
		go answerDatagrams(packets, h.name)
		go answerConnections(b.t.Context(), listener, h.name)
	})
}

func answerDatagrams(conn net.PacketConn, name string) {
	buffer := make([]byte, 16)
	for {
		_, from, err := conn.ReadFrom(buffer)
		if err != nil {
			return
		}
		_, _ = conn.WriteTo([]byte(name+" "+from.String()), from)
	}
}

func answerConnections(ctx context.Context, listener net.Listener, name string) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			defer context.AfterFunc(ctx, func() { conn.Close() })()
			if _, err := conn.Read(make([]byte, 16)); err == nil {
				_, _ = conn.Write([]byte(name + " " + conn.RemoteAddr().String()))
			}
		}()
	}
}

// ask asks once and gives the answer and the asker's port, or the error.
func (b *testbed) ask(q question, limit time.Duration) (answer string, port uint16, err error) {
	var conn net.Conn
	b.spaces[hostOf(q.From)].Do(func() {
		conn, err = net.DialTimeout(q.network(), netip.AddrPortFrom(q.at, q.port).String(), limit)
	})
	if err != nil {
		return "", 0, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(limit)); err != nil {
		return "", 0, err
	}
	if _, err := conn.Write([]byte("who\n")); err != nil {
		return "", 0, err
	}
	buffer := make([]byte, 128)
	n, err := conn.Read(buffer)
	return string(buffer[:n]), netip.MustParseAddrPort(conn.LocalAddr().String()).Port(), err
}

// isUDP tells whether refusals of the sender's own host come as EPERM.
func (q question) isUDP() bool { return q.protocol == model.UDP }
