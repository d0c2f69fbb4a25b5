package kubeproxy_test

import (
	"net"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/mooring-project/mooring/proxy/takeover"
)

// connect makes a connection of this host with itself, both ends of which have an address, and
// gives what ends it.
func connect(t *testing.T, address string) (end func()) {
	t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		// Both by a reset: what says goodbye would have nowhere to go.
		for _, conn := range []net.Conn{client, server} {
			if err := conn.(*net.TCPConn).SetLinger(0); err != nil {
				t.Error(err)
			}
			conn.Close()
		}
	}
}

// send connects a UDP socket of an address, and gives what closes it.
func send(t *testing.T, address string) (end func()) {
	t.Helper()
	conn, err := net.Dial("udp", net.JoinHostPort(address, "9"))
	if err != nil {
		t.Fatal(err)
	}
	return func() { conn.Close() }
}

// bind has a daemon listen on an address of its own choice.
func bind(t *testing.T, address string) {
	t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	packets, err := net.ListenPacket("udp", net.JoinHostPort(address, "0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { packets.Close() })
}

func portSet(ports []takeover.NodePort) map[takeover.NodePort]bool {
	set := map[takeover.NodePort]bool{}
	for _, port := range ports {
		set[port] = true
	}
	return set
}

// changesOf gives what the kernel announces of a device's addresses while f runs.
func changesOf(t *testing.T, device string, f func()) (changed []string) {
	t.Helper()
	updates, done := make(chan netlink.AddrUpdate), make(chan struct{})
	if err := netlink.AddrSubscribe(updates, done); err != nil {
		t.Fatal(err)
	}
	f()
	// What is announced after everything else.
	shell(t, "ip link add marker type dummy && ip address add 192.0.2.99/32 dev marker")
	link, err := netlink.LinkByName(device)
	if err != nil {
		t.Fatal(err)
	}
	for update := range updates {
		if update.LinkAddress.IP.String() == "192.0.2.99" {
			break
		}
		if update.LinkIndex == link.Attrs().Index {
			changed = append(changed, update.LinkAddress.String())
		}
	}
	close(done)
	for range updates {
		continue // until it has ended
	}
	return changed
}
