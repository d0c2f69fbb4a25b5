package snapshotfile

import (
	"errors"
	"fmt"
	"net/netip"
)

// fromAddr gives the octets of an address; an invalid one has none.
func fromAddr(a netip.Addr) string { return string(a.AsSlice()) }

func toAddr(octets string) (netip.Addr, error) {
	if octets == "" {
		return netip.Addr{}, nil
	}
	addr, ok := netip.AddrFromSlice([]byte(octets))
	if !ok {
		return addr, fmt.Errorf("an address has %d octets", len(octets))
	}
	return addr, nil
}

func fromAddrs(addrs []netip.Addr) []string {
	var out []string
	for _, a := range addrs {
		out = append(out, fromAddr(a))
	}
	return out
}

func toAddrs(list []string) ([]netip.Addr, error) {
	var out []netip.Addr
	for _, octets := range list {
		addr, err := toAddr(octets)
		if err != nil {
			return nil, err
		}
		out = append(out, addr)
	}
	return out, nil
}

// fromPrefixes gives the octets of each address, and behind them its length.
func fromPrefixes(prefixes []netip.Prefix) []string {
	var out []string
	for _, p := range prefixes {
		out = append(out, fromAddr(p.Addr())+string([]byte{byte(p.Bits())}))
	}
	return out
}

func toPrefixes(list []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, octets := range list {
		if octets == "" {
			return nil, errors.New("a prefix has no octets")
		}
		last := len(octets) - 1
		addr, err := toAddr(octets[:last])
		if err != nil {
			return nil, err
		}
		prefix := netip.PrefixFrom(addr, int(octets[last]))
		if !prefix.IsValid() {
			return nil, fmt.Errorf("a prefix of %s has length %d", addr, octets[last])
		}
		out = append(out, prefix)
	}
	return out, nil
}
