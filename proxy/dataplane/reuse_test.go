package dataplane_test

import (
	"errors"
	"io"
	"maps"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/proxy/plan"
)

// A server resets a connection that ends with something unread, and its client may use the port for
// the next one at once: that one's first SYN arrives, whether the endpoint stays or is leaving.
func TestAPortIsUsedAgainAfterAReset(t *testing.T) {
	l := newLab(t)
	resetting(t, l.pod2)
	way{protocol: model.TCP}.serve(t, l.remote, 8080)
	for _, w := range []way{{false, model.TCP}, {true, model.TCP}} {
		vip := serviceAddr(w.ipv6)
		staying := w.service(vip, 80, plan.Divert, l.pod2)
		leaving := maps.Clone(staying)
		maps.Copy(leaving, w.service(vip, 80, plan.Divert, l.remote))
		leaving[w.realServer(vip, 80, l.pod2)] = plan.Value{Weight: 0}
		for _, from := range []*host{l.pod1, l.node, l.client} {
			for name, then := range map[string]plan.Plan{"staying": staying, "leaving": leaving} {
				t.Run(w.String()+" from "+from.name+", "+name, func(t *testing.T) {
					l.t = t
					l.want(staying)
					local := netip.AddrPortFrom(from.addr(w.ipv6), 40000)
					first := connect(t, from, local, netip.AddrPortFrom(vip, 80))
					l.want(then)
					if _, err := talk(first); err == nil || errors.Is(err, io.EOF) {
						t.Fatalf("the server was to reset the connection: %v", err)
					}
					first.Close()
					second := connect(t, from, local, netip.AddrPortFrom(vip, 80))
					defer second.Close()
					if again := sentAgain(t, second); again != 0 {
						t.Errorf("the SYN was sent again %d times", again)
					}
				})
			}
		}
	}
}

// resetting serves TCP on port 8080 of a host by resetting each connection on which something arrives.
func resetting(t *testing.T, h *host) {
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
			go func() {
				_, _ = conn.Read(make([]byte, 64))
				_ = conn.(*net.TCPConn).SetLinger(0)
				_ = conn.Close()
			}()
		}
	}()
}

// connect makes a connection from an address and port of a host's own.
func connect(t *testing.T, from *host, local, to netip.AddrPort) net.Conn {
	t.Helper()
	var conn net.Conn
	from.Do(func() {
		var err error
		dialer := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(local), Timeout: patience}
		if conn, err = dialer.Dial("tcp", to.String()); err != nil {
			t.Fatal(err)
		}
	})
	return conn
}

// sentAgain gives how many segments of a connection the kernel has sent more than once.
func sentAgain(t *testing.T, conn net.Conn) (segments uint32) {
	t.Helper()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		var info *unix.TCPInfo
		if info, failed = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); failed == nil {
			segments = info.Total_retrans
		}
	})
	if err != nil || failed != nil {
		t.Fatal(err, failed)
	}
	return segments
}
