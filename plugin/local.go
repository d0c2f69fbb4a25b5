package mooring

import (
	"net"
	"net/netip"
)

// boundAddrs gives the addresses a server listens on, those of all interfaces if it
// listens on all, loopback left out.
func boundAddrs(listenHosts []string) []netip.Addr {
	if len(listenHosts) == 0 || listenHosts[0] == "" {
		listenHosts = interfaceAddrs()
	}
	var addrs []netip.Addr
	for _, host := range listenHosts {
		if addr, err := netip.ParseAddr(host); err == nil && !addr.IsLoopback() {
			addrs = append(addrs, addr.Unmap().WithZone(""))
		}
	}
	return addrs
}

func interfaceAddrs() []string {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var hosts []string
	for _, a := range addrs {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil {
			hosts = append(hosts, prefix.Addr().String())
		}
	}
	return hosts
}
