package dataplane_test

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/proxy/plan"
)

// A router behind the node tells the Service's address that packets are too big. That
// has to reach the endpoint, or large answers never arrive.
func TestPathMTUDiscovery(t *testing.T) {
	l := newLab(t)
	for _, w := range []way{{false, model.TCP}, {true, model.TCP}} {
		t.Run(w.String(), func(t *testing.T) {
			l.t = t
			vip := serviceAddr(w.ipv6)
			l.other.Route(serviceRange(w.ipv6), "eth0", l.node.addr(w.ipv6))
			l.other.Do(func() {
				link, err := netlink.LinkByName(l.remote.name)
				if err == nil {
					err = netlink.LinkSetMTU(link, 1300) // 1500 at the pod's end: its MSS does not tell
				}
				if err != nil {
					t.Fatal(err)
				}
			})
			serveBytes(t, l.pod2, 20000)
			l.want(w.service(vip, 80, plan.Divert, l.pod2))
			if got := w.download(t, l.remote, vip, 80); got != 20000 {
				t.Errorf("%d bytes, want 20000", got)
			}
		})
	}
}

// serveBytes sends so many bytes to everyone who connects to a host.
func serveBytes(t *testing.T, h *host, count int) {
	t.Helper()
	serveEach(t, h, func(conn net.Conn) {
		_ = conn.SetDeadline(time.Now().Add(patience))
		_, _ = conn.Write(bytes.Repeat([]byte{'x'}, count))
		conn.Close()
	})
}

// download counts the bytes that arrive.
func (w way) download(t *testing.T, from *host, addr netip.Addr, port uint16) int {
	t.Helper()
	conn, err := w.dial(from, addr, port)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	count, err := io.Copy(io.Discard, conn)
	if err != nil {
		t.Errorf("after %d bytes: %v", count, err)
	}
	return int(count)
}
