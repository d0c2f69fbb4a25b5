package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// veth joins two namespaces by a pair of interfaces and sets both up.
func veth(a *Namespace, aName string, b *Namespace, bName string) error {
	pair := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: aName},
		PeerName:      bName,
		PeerNamespace: netlink.NsFd(b.net.Fd()),
	}
	if err := a.links.LinkAdd(pair); err != nil {
		return fmt.Errorf("veth %s in %s, %s in %s: %w", aName, a.Name, bName, b.Name, err)
	}
	return errors.Join(a.linkUp(aName), b.linkUp(bName))
}

func (n *Namespace) linkUp(name string) error {
	link, err := n.links.LinkByName(name)
	if err == nil {
		err = n.links.LinkSetUp(link)
	}
	if err != nil {
		return fmt.Errorf("link %s up in %s: %w", name, n.Name, err)
	}
	return nil
}

func (n *Namespace) deleteLink(name string) error {
	link, err := n.links.LinkByName(name)
	if err == nil {
		err = n.links.LinkDel(link)
	}
	if err != nil {
		return fmt.Errorf("delete link %s in %s: %w", name, n.Name, err)
	}
	return nil
}

// addAddress gives an interface an address, without the wait for duplicates that
// IPv6 would insert (RFC 4862, section 5.4): here nobody else can have it.
func (n *Namespace) addAddress(link string, address netip.Prefix) error {
	l, err := n.links.LinkByName(link)
	if err == nil {
		a := &netlink.Addr{IPNet: ipNet(address)}
		if address.Addr().Is6() {
			a.Flags = unix.IFA_F_NODAD
		}
		err = n.links.AddrAdd(l, a)
	}
	if err != nil {
		return fmt.Errorf("address %s on %s in %s: %w", address, link, n.Name, err)
	}
	return nil
}

// A route sends what is for To out of Link, directly if Via is not valid.
type route struct {
	To   netip.Prefix
	Link string
	Via  netip.Addr
}

// addRoute installs a route. The next hop need not be on a network of the link.
func (n *Namespace) addRoute(r route) error {
	l, err := n.links.LinkByName(r.Link)
	if err == nil {
		nl := &netlink.Route{LinkIndex: l.Attrs().Index, Dst: ipNet(r.To)}
		if r.Via.IsValid() {
			nl.Gw, nl.Flags = r.Via.AsSlice(), int(netlink.FLAG_ONLINK)
		} else if r.To.Addr().Is4() {
			nl.Scope = netlink.SCOPE_LINK
		}
		err = n.links.RouteReplace(nl)
	}
	if err != nil {
		return fmt.Errorf("route to %s by %s in %s: %w", r.To, r.Link, n.Name, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// host is the prefix that has only this address.
func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

func (n *Namespace) addBridge(name string) error {
	if err := n.links.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}}); err != nil {
		return fmt.Errorf("bridge %s in %s: %w", name, n.Name, err)
	}
	return n.linkUp(name)
}

func (n *Namespace) enslave(port, bridge string) error {
	l, err := n.links.LinkByName(port)
	if err != nil {
		return err
	}
	master, err := n.links.LinkByName(bridge)
	if err == nil {
		err = n.links.LinkSetMaster(l, master)
	}
	if err != nil {
		return fmt.Errorf("port %s of %s in %s: %w", port, bridge, n.Name, err)
	}
	return nil
}
