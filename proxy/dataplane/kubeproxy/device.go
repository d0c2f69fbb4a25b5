package kubeproxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/mooring-project/mooring/proxy/takeover"
)

// device gives an interface by its name; nil if there is none.
func device(name string) (netlink.Link, error) {
	link, err := netlink.LinkByName(name)
	if _, none := errors.AsType[netlink.LinkNotFoundError](err); none {
		return nil, nil //nolint:nilnil // none is no error here
	}
	return link, err
}

func lookAtDevices(_ context.Context, found *takeover.Found) error {
	links := [2]int{}
	for i, name := range []string{takeover.Device, takeover.HeldDevice} {
		link, err := device(name)
		if err != nil {
			return err
		}
		if link != nil {
			links[i] = link.Attrs().Index
		}
	}
	found.Device = links[0] != 0
	all, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return err
	}
	for _, a := range all {
		address, ok := unmap(a.IP)
		switch {
		case !ok || !address.IsGlobalUnicast() || a.LinkIndex == links[1]:
		case a.LinkIndex == links[0]:
			found.Addresses = append(found.Addresses, address)
		default:
			found.Local = append(found.Local, address)
		}
	}
	slices.SortFunc(found.Addresses, netip.Addr.Compare)
	// All on kube-proxy's device are held while they are about to go.
	found.Held = slices.DeleteFunc(found.Held, func(held netip.Addr) bool {
		_, there := slices.BinarySearchFunc(found.Addresses, held, netip.Addr.Compare)
		return there
	})
	return nil
}

// Unroute takes away the routes by which the host takes packets to a device's addresses for its
// own. The addresses stay, and remain good as sources of what has them already; who connects from
// now on gets another one.
func Unroute(name string) error {
	link, err := device(name)
	if err != nil || link == nil {
		return err
	}
	routes, err := routesTo(link)
	if err != nil {
		return err
	}
	for i := range routes {
		if err := netlink.RouteDel(&routes[i]); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("route %s: %w", routes[i].Dst, err)
		}
	}
	return nil
}

// routesTo lists the routes to single addresses of a device, of all tables.
func routesTo(link netlink.Link) ([]netlink.Route, error) {
	var single []netlink.Route
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		filter := &netlink.Route{LinkIndex: link.Attrs().Index, Table: unix.RT_TABLE_UNSPEC}
		routes, err := netlink.RouteListFiltered(family, filter, netlink.RT_FILTER_OIF|netlink.RT_FILTER_TABLE)
		if err != nil {
			return nil, fmt.Errorf("routes to %s: %w", link.Attrs().Name, err)
		}
		for i := range routes {
			if isSingle(routes[i].Dst) {
				single = append(single, routes[i])
			}
		}
	}
	return single, nil
}

// Reroute undoes Unroute of kube-proxy's device: kube-proxy takes an address that is there for one
// that is reachable. An address that is routed is left alone.
func Reroute() error {
	link, err := device(takeover.Device)
	if err != nil || link == nil {
		return err
	}
	addresses, err := netlink.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("addresses of %s: %w", takeover.Device, err)
	}
	routes, err := routesTo(link)
	if err != nil {
		return err
	}
	routed := map[netip.Addr]bool{}
	for i := range routes {
		if address, ok := unmap(routes[i].Dst.IP); ok && routes[i].Table == unix.RT_TABLE_LOCAL {
			routed[address] = true
		}
	}
	for _, a := range addresses {
		address, ok := unmap(a.IP)
		if !ok || !address.IsGlobalUnicast() || routed[address] {
			continue
		}
		route := &netlink.Route{
			LinkIndex: link.Attrs().Index, Dst: alone(address).IPNet, Table: unix.RT_TABLE_LOCAL,
			Type: unix.RTN_LOCAL, Scope: netlink.SCOPE_HOST, Protocol: unix.RTPROT_KERNEL,
		}
		if address.Is4() {
			route.Src = address.AsSlice()
		}
		// Appended: another device may have the address too, and its route is to stay.
		err := netlink.RouteAppend(route)
		if errors.Is(err, syscall.ENETDOWN) {
			// A device that is down gets a route of IPv6 with the address alone.
			err = errors.Join(netlink.AddrDel(link, alone(address)), netlink.AddrAdd(link, alone(address)))
		}
		if err != nil && !errors.Is(err, syscall.EEXIST) {
			return fmt.Errorf("route %s: %w", address, err)
		}
	}
	return nil
}

// isSingle tells whether a destination is one address.
func isSingle(destination *net.IPNet) bool {
	if destination == nil {
		return false
	}
	ones, bits := destination.Mask.Size()
	return ones == bits
}

// Hold puts addresses on our device, unrouted, so that they stay good as sources when kube-proxy's
// device goes. Those of IPv6 need no device for that (ip6_dst_lookup_tail asks nobody), and with one,
// who connects to them would get them as the source, because they are the same (RFC 6724, rule 1).
func Hold(addresses []netip.Addr) error {
	addresses = slices.DeleteFunc(addresses, netip.Addr.Is6)
	if len(addresses) == 0 {
		return nil
	}
	link := &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: takeover.HeldDevice}}
	if err := netlink.LinkAdd(link); err != nil && !errors.Is(err, syscall.EEXIST) {
		return fmt.Errorf("device %s: %w", takeover.HeldDevice, err)
	}
	held, err := device(takeover.HeldDevice)
	if err != nil || held == nil {
		return fmt.Errorf("device %s: %w", takeover.HeldDevice, err)
	}
	for _, address := range addresses {
		if err := netlink.AddrReplace(held, alone(address)); err != nil {
			return fmt.Errorf("address %s of %s: %w", address, takeover.HeldDevice, err)
		}
	}
	return Unroute(takeover.HeldDevice)
}

// Release takes addresses from our device. One that is not there is no error.
func Release(addresses []netip.Addr) error {
	held, err := device(takeover.HeldDevice)
	if err != nil || held == nil {
		return err
	}
	for _, address := range addresses {
		if err := netlink.AddrDel(held, alone(address)); err != nil && !errors.Is(err, syscall.EADDRNOTAVAIL) {
			return fmt.Errorf("address %s of %s: %w", address, takeover.HeldDevice, err)
		}
	}
	return nil
}

// alone gives an address with no network around it.
func alone(address netip.Addr) *netlink.Addr {
	bits := address.BitLen()
	return &netlink.Addr{IPNet: &net.IPNet{IP: address.AsSlice(), Mask: net.CIDRMask(bits, bits)}}
}

// RemoveDevice deletes an interface with all addresses that are on it. One that is not there is no
// error.
func RemoveDevice(name string) error {
	link, err := device(name)
	if err != nil || link == nil {
		return err
	}
	if err := netlink.LinkDel(link); err != nil && !errors.Is(err, syscall.ENODEV) {
		return fmt.Errorf("delete %s: %w", name, err)
	}
	return nil
}
