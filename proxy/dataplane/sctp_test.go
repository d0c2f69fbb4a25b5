package dataplane_test

import (
	"net"
	"net/netip"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/testkit/netns"
)

// sctpSocket gives a one-to-one socket (RFC 6458, section 4), which behaves as one of TCP does.
func sctpSocket(family int) (int, error) {
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_SCTP)
	if err != nil {
		return 0, err
	}
	limit := unix.NsecToTimeval(patience.Nanoseconds())
	return fd, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit) // also connect's
}

func sockaddr(to netip.AddrPort) (int, unix.Sockaddr) {
	if to.Addr().Is6() {
		return unix.AF_INET6, &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
	}
	return unix.AF_INET, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
}

func sctpDial(to netip.AddrPort) (net.Conn, error) {
	family, address := sockaddr(to)
	fd, err := sctpSocket(family)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "sctp")
	defer file.Close()
	if err := unix.Connect(fd, address); err != nil {
		return nil, os.NewSyscallError("connect", err)
	}
	return net.FileConn(file)
}

func sctpListen(t *testing.T, port int) net.Listener {
	t.Helper()
	fd, err := sctpSocket(unix.AF_INET6)
	if err != nil {
		netns.Missing(t, "SCTP: "+err.Error())
	}
	file := os.NewFile(uintptr(fd), "sctp")
	defer file.Close()
	// The last associations of a listener before it may still be saying goodbye.
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet6{Port: port}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 8); err != nil {
		t.Fatal(err)
	}
	listener, err := net.FileListener(file)
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

// One port under three protocols, each with an endpoint of its own.
func TestSamePortUnderSeveralProtocols(t *testing.T) {
	l := newLab(t)
	l.routes()
	for _, ipv6 := range []bool{false, true} {
		ways := map[*host]way{l.pod1: {ipv6, model.TCP}, l.pod2: {ipv6, model.UDP}, l.remote: {ipv6, model.SCTP}}
		t.Run(ways[l.remote].String(), func(t *testing.T) {
			l.t = t
			service := ways[l.pod1].everywhere()
			service.Ports = nil
			entry := l.entry(ways[l.pod1], service)
			entry.Slices = nil
			for endpoint, w := range ways {
				w.serve(t, endpoint, 8080)
				port := model.ServicePort{Name: w.network(), Protocol: w.protocol, Port: 80, NodePort: 30080}
				service.Ports = append(service.Ports, port)
				slices := l.entry(w, service, endpoint).Slices
				slices[0].Ports[0].Name = port.Name
				entry.Slices = append(entry.Slices, slices...)
			}
			l.run(l.context(), entry)
			for endpoint, w := range ways {
				for _, from := range []*host{l.pod1, l.node, l.client} {
					source := l.node.addr(ipv6)
					w.expect(t, from, balancerAddr(ipv6), 80, endpoint, source)
					w.expect(t, from, l.node.addr(ipv6), 30080, endpoint, source)
					if from == l.pod1 && endpoint != l.pod1 {
						source = from.addr(ipv6)
					}
					w.expect(t, from, serviceAddr(ipv6), 80, endpoint, source)
				}
			}
			service.ExternalTrafficPolicy = model.Local
			l.run(l.context(), entry)
			for endpoint, w := range ways {
				if endpoint == l.remote {
					w.expect(t, l.pod1, balancerAddr(ipv6), 80, endpoint, l.pod1.addr(ipv6))
				} else {
					w.expect(t, l.client, balancerAddr(ipv6), 80, endpoint, l.client.addr(ipv6))
				}
			}
		})
	}
}
