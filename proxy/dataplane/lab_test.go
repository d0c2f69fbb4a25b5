package dataplane_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/testkit/netns"
	"github.com/mooring-project/mooring/proxy/dataplane"
	"github.com/mooring-project/mooring/proxy/dataplane/sysctl"
	"github.com/mooring-project/mooring/proxy/plan"
)

// patience is how long an answer may take that should come at once: far more than an
// emulated machine needs, far less than TCP's first retries add up to.
const patience = 3 * time.Second

// host is a namespace that plays a machine or a pod, with an address of each family.
type host struct {
	*netns.Namespace
	name   string
	v4, v6 netip.Addr
}

func (h *host) addr(ipv6 bool) netip.Addr {
	if ipv6 {
		return h.v6
	}
	return h.v4
}

// lab is a node of ours with two pods, a node without a proxy with one pod, and a
// client that is no node. The nodes and the client share a bridge.
type lab struct {
	t                *testing.T
	node, pod1, pod2 *host
	other, remote    *host
	client           *host
	lan              *netns.Namespace
	kernel           *dataplane.Kernel
	have             plan.Plan
}

func newHost(t *testing.T, name, v4, v6 string) *host {
	return &host{Namespace: netns.New(t), name: name, v4: netip.MustParseAddr(v4), v6: netip.MustParseAddr(v6)}
}

func newLab(t *testing.T) *lab {
	t.Helper()
	needIPVS(t)
	l := &lab{
		t: t, lan: netns.New(t), have: plan.Plan{},
		node:   newHost(t, "node", "172.30.0.11", "fd00:172:30::11"),
		pod1:   newHost(t, "pod1", "10.244.1.2", "fd00:10:244:1::2"),
		pod2:   newHost(t, "pod2", "10.244.1.3", "fd00:10:244:1::3"),
		other:  newHost(t, "other", "172.30.0.12", "fd00:172:30::12"),
		remote: newHost(t, "remote", "10.244.2.2", "fd00:10:244:2::2"),
		client: newHost(t, "client", "172.30.0.100", "fd00:172:30::100"),
	}
	l.node.Do(func() {
		l.kernel = open(t)
		if err := l.kernel.Setup(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	l.bridge(l.node, l.other, l.client)
	l.node.Veth("uplink", l.lan, "nowhere")
	l.attach(l.node, l.pod1)
	l.attach(l.node, l.pod2)
	l.attach(l.other, l.remote)
	l.other.Do(func() {
		for _, name := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"} {
			if err := sysctl.Ensure(name, "1"); err != nil {
				t.Fatal(err)
			}
		}
	})
	for _, ipv6 := range []bool{false, true} {
		l.node.Route(network(l.remote.addr(ipv6)), "eth0", l.other.addr(ipv6))
		l.other.Route(network(l.pod1.addr(ipv6)), "eth0", l.node.addr(ipv6))
		l.client.Route(serviceRange(ipv6), "eth0", l.node.addr(ipv6))
		// A node reaches Services by any route; most have a default one. Not back to
		// the client: redirects would use up its share of ICMP errors (icmp_ratelimit).
		l.node.Route(everything(ipv6), "uplink", netip.Addr{})
	}
	return l
}

func network(addr netip.Addr) netip.Prefix {
	bits := 24
	if addr.Is6() {
		bits = 64
	}
	prefix, _ := addr.Prefix(bits)
	return prefix
}

func serviceRange(ipv6 bool) netip.Prefix {
	if ipv6 {
		return netip.MustParsePrefix("fd00:10:96::/112")
	}
	return netip.MustParsePrefix("10.96.0.0/16")
}

func everything(ipv6 bool) netip.Prefix {
	if ipv6 {
		return netip.MustParsePrefix("::/0")
	}
	return netip.MustParsePrefix("0.0.0.0/0")
}

func serviceAddr(ipv6 bool) netip.Addr {
	if ipv6 {
		return netip.MustParseAddr("fd00:10:96::10")
	}
	return netip.MustParseAddr("10.96.0.10")
}

// bridge puts machines on one network.
func (l *lab) bridge(hosts ...*host) {
	l.lan.Do(func() {
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}); err != nil {
			l.t.Fatalf("bridge: %v", err)
		}
	})
	for _, h := range hosts {
		h.Veth("eth0", l.lan, h.name)
		h.Address("eth0", netip.PrefixFrom(h.v4, 24))
		h.Address("eth0", netip.PrefixFrom(h.v6, 64))
	}
	l.lan.Do(func() {
		bridge, err := netlink.LinkByName("br0")
		if err != nil {
			l.t.Fatal(err)
		}
		for _, h := range hosts {
			port, err := netlink.LinkByName(h.name)
			if err == nil {
				err = netlink.LinkSetMaster(port, bridge)
			}
			if err != nil {
				l.t.Fatalf("bridge port %s: %v", h.name, err)
			}
		}
		if err := netlink.LinkSetUp(bridge); err != nil {
			l.t.Fatal(err)
		}
	})
}

// attach connects a pod to its node the way routed CNIs do.
func (l *lab) attach(node, pod *host) {
	gateway6 := netip.MustParseAddr("fe80::1")
	pod.Veth("eth0", node.Namespace, pod.name)
	node.Address(pod.name, netip.PrefixFrom(gateway6, 64))
	for _, ipv6 := range []bool{false, true} {
		addr := pod.addr(ipv6)
		single := netip.PrefixFrom(addr, addr.BitLen())
		pod.Address("eth0", single)
		node.Route(single, pod.name, netip.Addr{})
		gateway := node.v4
		if ipv6 {
			gateway = gateway6
		}
		pod.Route(everything(ipv6), "eth0", gateway)
	}
}

// want makes the data plane equal to a plan.
func (l *lab) want(want plan.Plan) {
	l.t.Helper()
	l.node.Do(func() {
		if _, err := l.kernel.Apply(l.t.Context(), plan.Diff(l.have, want)); err != nil {
			l.t.Fatal(err)
		}
	})
	l.have = want
}

// way is a family and a protocol.
type way struct {
	ipv6     bool
	protocol model.Protocol
}

func (w way) network() string { return strings.ToLower(w.protocol.String()) }

func (w way) String() string {
	if w.ipv6 {
		return w.network() + " over IPv6"
	}
	return w.network() + " over IPv4"
}

// everyWay runs a test for TCP and UDP over both families.
func everyWay(t *testing.T, l *lab, test func(t *testing.T, w way)) {
	for _, w := range []way{{false, model.TCP}, {false, model.UDP}, {true, model.TCP}, {true, model.UDP}} {
		t.Run(w.String(), func(t *testing.T) {
			l.t = t
			test(t, w)
		})
	}
}

// base is the part of a plan that belongs to no Service.
func base() plan.Plan {
	return plan.Plan{
		plan.PrefixKey(plan.ServiceCIDR, serviceRange(false)):                   {},
		plan.PrefixKey(plan.ServiceCIDR, serviceRange(true)):                    {},
		plan.PrefixKey(plan.PodCIDR, netip.MustParsePrefix("10.244.0.0/16")):    {},
		plan.PrefixKey(plan.PodCIDR, netip.MustParsePrefix("fd00:10:244::/48")): {},
	}
}

// service is base and a virtual server with endpoints on port 8080.
func (w way) service(addr netip.Addr, port uint16, kind plan.Kind, endpoints ...*host) plan.Plan {
	p := base()
	server := plan.Key{Kind: plan.VirtualServer, Protocol: w.protocol, Addr: addr, Port: port}
	p[server] = plan.Value{Scheduler: "rr"}
	for _, k := range []plan.Kind{plan.Owned, kind} {
		server.Kind = k
		p[server] = plan.Value{}
	}
	for _, endpoint := range endpoints {
		p[w.realServer(addr, port, endpoint)] = plan.Value{Weight: 1}
		p[plan.Key{Kind: plan.Hairpin, Endpoint: netip.AddrPortFrom(endpoint.addr(w.ipv6), 0)}] = plan.Value{}
	}
	return p
}

func (w way) realServer(addr netip.Addr, port uint16, endpoint *host) plan.Key {
	return plan.Key{
		Kind: plan.RealServer, Protocol: w.protocol, Addr: addr, Port: port,
		Endpoint: netip.AddrPortFrom(endpoint.addr(w.ipv6), 8080),
	}
}

// serve answers each line or datagram that reaches a port of a host by the host's name
// and the address it came from, until the test ends.
func (w way) serve(t *testing.T, h *host, port int) {
	t.Helper()
	address := fmt.Sprintf(":%d", port)
	h.Do(func() {
		if w.protocol == model.UDP {
			conn, err := net.ListenPacket("udp", address)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
			go answerDatagrams(conn, h.name)
			return
		}
		var listener net.Listener
		if w.protocol == model.SCTP {
			listener = sctpListen(t, port)
		} else {
			var err error
			if listener, err = net.Listen("tcp", address); err != nil {
				t.Fatal(err)
			}
		}
		t.Cleanup(func() { listener.Close() })
		go accept(t.Context(), listener, h.name)
	})
}

// serveEach hands each connection to port 8080 of a host to serve, which closes it, until the test ends.
func serveEach(t *testing.T, h *host, serve func(net.Conn)) {
	t.Helper()
	var listener net.Listener
	h.Do(func() {
		var err error
		if listener, err = net.Listen("tcp", ":8080"); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go serve(conn)
		}
	}()
}

func answerDatagrams(conn net.PacketConn, name string) {
	buffer := make([]byte, 64)
	for {
		_, from, err := conn.ReadFrom(buffer)
		if err != nil {
			return
		}
		_, _ = conn.WriteTo([]byte(answer(name, from)), from)
	}
}

// accept answers until the context ends, also those whose end never hears of theirs.
func accept(ctx context.Context, listener net.Listener, name string) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			stop := context.AfterFunc(ctx, func() { conn.Close() })
			defer stop()
			defer conn.Close()
			buffer := make([]byte, 64)
			for {
				if _, err := conn.Read(buffer); err != nil {
					return
				}
				_, _ = conn.Write([]byte(answer(name, conn.RemoteAddr())))
			}
		}()
	}
}

func answer(name string, from net.Addr) string {
	return name + " " + netip.MustParseAddrPort(from.String()).Addr().Unmap().String()
}

// dial connects from a host.
func (w way) dial(from *host, addr netip.Addr, port uint16) (conn net.Conn, err error) {
	from.Do(func() {
		if w.protocol == model.SCTP {
			conn, err = sctpDial(netip.AddrPortFrom(addr, port))
			return
		}
		conn, err = net.DialTimeout(w.network(), netip.AddrPortFrom(addr, port).String(), patience)
	})
	return conn, err
}

// ask gives who answers a host and what source address the answerer saw.
func (w way) ask(from *host, addr netip.Addr, port uint16) (string, error) {
	conn, err := w.dial(from, addr, port)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	return talk(conn)
}

func talk(conn net.Conn) (string, error) { return talkWithin(conn, patience) }

func talkWithin(conn net.Conn, limit time.Duration) (string, error) {
	if err := conn.SetDeadline(time.Now().Add(limit)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, "who\n"); err != nil {
		return "", err
	}
	buffer := make([]byte, 64)
	n, err := conn.Read(buffer)
	return string(buffer[:n]), err
}

// expect checks one question and its answer.
func (w way) expect(t *testing.T, from *host, addr netip.Addr, port uint16, who *host, source netip.Addr) {
	t.Helper()
	got, err := w.ask(from, addr, port)
	if err != nil {
		t.Errorf("%s -> %s: %v", from.name, netip.AddrPortFrom(addr, port), err)
		return
	}
	if want := who.name + " " + source.String(); got != want {
		t.Errorf("%s -> %s: answer %q, want %q", from.name, netip.AddrPortFrom(addr, port), got, want)
	}
}

// refused checks that a question is refused, and not by silence. What the host itself
// sends and a rule refuses gives EPERM to the sender of a datagram, before the ICMP error.
func (w way) refused(t *testing.T, from *host, addr netip.Addr, port uint16) {
	t.Helper()
	got, err := w.ask(from, addr, port)
	if w.protocol == model.UDP && errors.Is(err, syscall.EPERM) {
		return
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%s -> %s: answer %q, error %v; want connection refused", from.name, netip.AddrPortFrom(addr, port), got, err)
	}
}
