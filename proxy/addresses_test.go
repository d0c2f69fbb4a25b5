package proxy

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/proxy/config"
)

func parse(list string) []netip.Addr {
	var result []netip.Addr
	for text := range strings.FieldsSeq(list) {
		result = append(result, netip.MustParseAddr(text))
	}
	return result
}

func join(list []netip.Addr) string {
	texts := make([]string, len(list))
	for i, ip := range list {
		texts[i] = ip.String()
	}
	return strings.Join(texts, " ")
}

func TestReachable(t *testing.T) {
	var found []net.Addr
	for text := range strings.FieldsSeq("127.0.0.1/8 ::1/128 fe80::1/64 172.30.0.11/24 172.30.0.11/32 fd00::11/64 169.254.1.1/32") {
		ip, network, err := net.ParseCIDR(text)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, &net.IPNet{IP: ip, Mask: network.Mask})
	}
	if diff := cmp.Diff("172.30.0.11 fd00::11", join(reachable(found))); diff != "" {
		t.Errorf("addresses (-want +got):\n%s", diff)
	}
}

func TestNodePortAddresses(t *testing.T) {
	const found = "172.30.0.11 172.30.0.12 192.168.1.4 fd00::11 fd00::12"
	node := &model.Node{Addresses: parse("172.30.0.12 fd00::12 172.30.0.11")}
	primary := config.NodePortAddresses{Primary: true}
	tests := []struct {
		name    string
		allowed config.NodePortAddresses
		nodeIP  string
		node    *model.Node
		want    string
	}{
		{"all that others can reach", config.NodePortAddresses{}, "", nil, found},
		{"those of one network, and all of the other family", config.NodePortAddresses{Prefixes: []netip.Prefix{netip.MustParsePrefix("192.168.0.0/16")}}, "", nil, "192.168.1.4 fd00::11 fd00::12"},
		{"the primary ones", primary, "", node, "172.30.0.12 fd00::12"},
		{"the primary one that the operator knows better", primary, "192.168.1.4", node, "192.168.1.4 fd00::12"},
		{"the primary ones of a node that is not known yet", primary, "", nil, ""},
		{"a primary one that the host has not", primary, "10.0.0.1", nil, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			a := &addresses{allowed: test.allowed, found: parse(found)}
			if test.nodeIP != "" {
				a.nodeIP = netip.MustParseAddr(test.nodeIP)
			}
			if diff := cmp.Diff(test.want, join(a.nodePorts(test.node))); diff != "" {
				t.Errorf("addresses (-want +got):\n%s", diff)
			}
		})
	}
}
