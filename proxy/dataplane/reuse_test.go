package dataplane_test

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/proxy/plan"
)

// A server resets a connection that ends with something unread, and its client may use the port for
// the next one at once: that one's first SYN arrives, whether the endpoint stays or is leaving. Where
// it does not, it never does; so another cause may take it in two of three tries.
func TestAPortIsUsedAgainAfterAReset(t *testing.T) {
	l := newLab(t)
	resetting(t, l.pod2)
	way{protocol: model.TCP}.serve(t, l.remote, 8080)
	port := uint16(40000) // another for each try
	for _, w := range []way{{false, model.TCP}, {true, model.TCP}} {
		vip := netip.AddrPortFrom(serviceAddr(w.ipv6), 80)
		staying := w.service(vip.Addr(), vip.Port(), plan.Divert, l.pod2)
		leaving := maps.Clone(staying)
		maps.Copy(leaving, w.service(vip.Addr(), vip.Port(), plan.Divert, l.remote))
		leaving[w.realServer(vip.Addr(), vip.Port(), l.pod2)] = plan.Value{Weight: 0}
		for _, from := range []*host{l.pod1, l.node, l.client} {
			for name, then := range map[string]plan.Plan{"staying": staying, "leaving": leaving} {
				t.Run(w.String()+" from "+from.name+", "+name, func(t *testing.T) {
					l.t = t
					for range 3 {
						port++
						l.want(staying)
						err := useAgain(from, netip.AddrPortFrom(from.addr(w.ipv6), port), vip, func() { l.want(then) })
						if err == nil {
							return
						}
						t.Log(err)
					}
					t.Error("in none of three tries")
				})
			}
		}
	}
}

// useAgain connects from a port, has the server reset that connection after what is called then, and
// connects from it again.
func useAgain(from *host, local, to netip.AddrPort, then func()) error {
	first, err := connect(from, local, to)
	if err != nil {
		return err
	}
	defer first.Close()
	then()
	if _, err := talk(first); !errors.Is(err, syscall.ECONNRESET) {
		return fmt.Errorf("the server was to reset the connection: %w", err)
	}
	first.Close()
	second, err := connect(from, local, to)
	if err != nil {
		return err
	}
	defer second.Close()
	again, err := sentAgain(second)
	if err == nil && again != 0 {
		err = fmt.Errorf("the SYN was sent again %d times", again)
	}
	return err
}

// resetting serves TCP on port 8080 of a host by resetting each connection on which something arrives.
func resetting(t *testing.T, h *host) {
	t.Helper()
	serveEach(t, h, func(conn net.Conn) {
		_, _ = conn.Read(make([]byte, 64))
		_ = conn.(*net.TCPConn).SetLinger(0)
		_ = conn.Close()
	})
}

// connect makes a connection from an address and port of a host's own.
func connect(from *host, local, to netip.AddrPort) (conn net.Conn, err error) {
	from.Do(func() {
		dialer := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(local), Timeout: patience}
		conn, err = dialer.Dial("tcp", to.String())
	})
	return conn, err
}

// sentAgain gives how many segments of a connection the kernel has sent more than once.
func sentAgain(conn net.Conn) (segments uint32, err error) {
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var asked error
	err = raw.Control(func(fd uintptr) {
		var info *unix.TCPInfo
		if info, asked = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); asked == nil {
			segments = info.Total_retrans
		}
	})
	return segments, errors.Join(err, asked)
}
