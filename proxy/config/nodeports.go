package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// NodePortAddresses says which of the node's addresses serve NodePorts. The zero value means
// all of them.
type NodePortAddresses struct {
	// Primary has the Node object's first address of each family serve them.
	Primary bool
	// Prefixes are the networks whose addresses do.
	Prefixes []netip.Prefix
}

// The keywords of nodePortAddresses that stand for networks (kube-proxy 1.37).
var keywords = map[string][]netip.Prefix{
	"all":       {netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")},
	"localhost": {netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")},
}

func nodePortAddresses(list []string) (NodePortAddresses, error) {
	var n NodePortAddresses
	for _, text := range list {
		text = strings.TrimSpace(text)
		if text == "primary" {
			n.Primary = true
			continue
		}
		if networks, is := keywords[text]; is {
			n.Prefixes = append(n.Prefixes, networks...)
			continue
		}
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return NodePortAddresses{}, fmt.Errorf("nodePortAddresses %q: use CIDRs, primary, localhost or all: %w", text, err)
		}
		n.Prefixes = append(n.Prefixes, prefix.Masked())
	}
	return n, nil
}

// Allows tells whether an address of the node serves NodePorts; primary are the addresses that
// the keyword of that name stands for. As in kube-proxy, networks restrict their own family
// alone: without one of its family an address is allowed. But where the primary address was
// asked for and the family has none, or it is not known yet, none of that family is.
func (n NodePortAddresses) Allows(address netip.Addr, primary []netip.Addr) bool {
	if n.Primary && slices.Contains(primary, address) {
		return true
	}
	restricted := n.Primary
	for _, prefix := range n.Prefixes {
		if prefix.Contains(address) {
			return true
		}
		restricted = restricted || prefix.Addr().Is6() == address.Is6()
	}
	return !restricted
}

// All tells whether every address is allowed.
func (n NodePortAddresses) All() bool {
	return n.Allows(netip.IPv4Unspecified(), nil) && n.Allows(netip.IPv6Unspecified(), nil)
}

// loopback tells whether NodePorts may answer on the loopback addresses of both families.
func (n NodePortAddresses) loopback() bool {
	return n.Allows(netip.MustParseAddr("127.0.0.1"), nil) && n.Allows(netip.IPv6Loopback(), nil)
}
