package dataplane_test

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mooring-project/mooring/internal/model"
)

// A client may use one port of its own for connections to several addresses of Services: its kernel
// chooses ports for each destination alone. If these have an endpoint in common, IPVS takes replies
// of one connection for those of the newest.
func TestOnePortOfAClientToSeveralAddresses(t *testing.T) {
	l := newLab(t)
	l.routes()
	everyWay(t, l, func(t *testing.T, w way) {
		w.serve(t, l.pod2, 8080)
		w.serve(t, l.node, 8080)
		for _, policy := range []func(*model.Service){func(*model.Service) {}, externalLocal} {
			for _, endpoint := range []*host{l.pod2, l.node} {
				c := l.context()
				l.run(c, l.entry(w, w.everywhere(policy), endpoint))
				for _, from := range []*host{l.pod1, l.node, l.client, l.pod2} {
					w.fromOnePort(t, from,
						netip.AddrPortFrom(serviceAddr(w.ipv6), 80), netip.AddrPortFrom(balancerAddr(w.ipv6), 80),
						netip.AddrPortFrom(externalAddr(w.ipv6), 80), netip.AddrPortFrom(l.node.addr(w.ipv6), 30080))
				}
				l.run(c)
			}
		}
	})
}

// fromOnePort holds a connection to each of some addresses, all from one port of a host, and checks
// that each is answered.
func (w way) fromOnePort(t *testing.T, from *host, addresses ...netip.AddrPort) {
	t.Helper()
	const port = 30000 // not one of those that a kernel chooses
	var held []net.Conn
	for _, to := range addresses {
		dialer := net.Dialer{Timeout: patience, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.Addr{}, port)), Control: reusePort}
		if w.protocol == model.UDP {
			dialer.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.Addr{}, port))
		}
		var conn net.Conn
		var err error
		from.Do(func() { conn, err = dialer.Dial(w.network(), to.String()) })
		if err != nil {
			t.Errorf("%s:%d -> %s: %v", from.name, port, to, err)
			continue
		}
		defer conn.Close()
		held = append(held, conn)
		if _, err := talk(conn); err != nil {
			t.Errorf("%s:%d -> %s: %v", from.name, port, to, err)
		}
	}
	for _, conn := range held {
		if _, err := talk(conn); err != nil {
			t.Errorf("%s:%d -> %s, beside the others: %v", from.name, port, conn.RemoteAddr(), err)
		}
		if tcp, is := conn.(*net.TCPConn); is {
			_ = tcp.SetLinger(0) // the port is wanted again
		}
	}
}

// reusePort lets several sockets have one port.
func reusePort(_, _ string, socket syscall.RawConn) error {
	var err error
	failed := socket.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	})
	return errors.Join(failed, err)
}
