//go:build linux

// Package netns gives tests network namespaces of their own, wired by veth pairs.
//
// It promises that what it makes is gone when the test is: namespaces live as long as
// the handles the test holds, and nothing is bound under /run/netns.
package netns

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	vishvananda "github.com/vishvananda/netns"
)

// Namespace is a network namespace with its loopback interface up.
type Namespace struct {
	t      testing.TB
	handle vishvananda.NsHandle
}

// New makes a namespace for the time of the test. Without the right to do so it skips
// the test, or fails it where CI is true.
func New(t testing.TB) *Namespace {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := vishvananda.Get()
	if err != nil {
		t.Fatal(err)
	}
	defer home.Close()
	handle, err := vishvananda.New()
	if err != nil {
		Missing(t, fmt.Sprintf("network namespaces (are we root?): %v", err))
	}
	n := &Namespace{t: t, handle: handle}
	t.Cleanup(func() { handle.Close() })
	err = up("lo")
	if back := vishvananda.Set(home); back != nil {
		t.Fatalf("return to the first namespace: %v", back)
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Missing ends a test for want of something: by a skip, in CI by a failure.
func Missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("missing: %s", what)
	}
	t.Skipf("missing: %s", what)
}

// Do runs f on a thread inside the namespace. Sockets that f opens itself belong to
// it; goroutines that f starts run outside. It may be nested.
func (n *Namespace) Do(f func()) {
	n.t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := vishvananda.Get()
	if err != nil {
		n.t.Fatal(err)
	}
	defer home.Close()
	if err := vishvananda.Set(n.handle); err != nil {
		n.t.Fatalf("enter namespace: %v", err)
	}
	defer func() {
		if err := vishvananda.Set(home); err != nil {
			panic(fmt.Sprintf("return from namespace: %v", err)) // the thread is lost to the process
		}
	}()
	f()
}

// Enter moves the goroutine of the test into the namespace until the test ends. Its
// thread ends with it.
func (n *Namespace) Enter() {
	n.t.Helper()
	runtime.LockOSThread()
	n.must(vishvananda.Set(n.handle))
}

// Veth connects n and peer by a veth pair and brings both ends up.
func (n *Namespace) Veth(name string, peer *Namespace, peerName string) {
	n.t.Helper()
	n.Do(func() {
		link := &netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: peerName,
			PeerNamespace: netlink.NsFd(peer.handle),
		}
		n.must(netlink.LinkAdd(link))
		n.must(up(name))
	})
	peer.Do(func() { n.must(up(peerName)) })
}

// Address gives an interface an address with the length of its network.
func (n *Namespace) Address(name string, prefix netip.Prefix) {
	n.t.Helper()
	n.Do(func() {
		link, err := netlink.LinkByName(name)
		n.must(err)
		address := &netlink.Addr{IPNet: ipnet(prefix)}
		if prefix.Addr().Is6() {
			address.Flags = 0x02 // IFA_F_NODAD: usable at once
		}
		n.must(netlink.AddrAdd(link, address))
	})
}

// Route sends a destination to an interface, by a gateway unless that is the zero Addr.
func (n *Namespace) Route(to netip.Prefix, name string, gateway netip.Addr) {
	n.t.Helper()
	n.Do(func() {
		link, err := netlink.LinkByName(name)
		n.must(err)
		route := &netlink.Route{Dst: ipnet(to), LinkIndex: link.Attrs().Index, Flags: int(netlink.FLAG_ONLINK)}
		if gateway.IsValid() {
			route.Gw = net.IP(gateway.AsSlice())
		} else {
			route.Scope, route.Flags = netlink.SCOPE_LINK, 0
		}
		n.must(netlink.RouteReplace(route))
	})
}

func (n *Namespace) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

func up(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("link %s: %w", name, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("link %s up: %w", name, err)
	}
	return nil
}

func ipnet(prefix netip.Prefix) *net.IPNet {
	return &net.IPNet{
		IP:   net.IP(prefix.Addr().AsSlice()),
		Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen()),
	}
}
