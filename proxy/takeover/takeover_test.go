package takeover

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/proxy/plan"
)

func server(protocol model.Protocol, at string) plan.Key {
	address := netip.MustParseAddrPort(at)
	return plan.Key{Kind: plan.VirtualServer, Protocol: protocol, Addr: address.Addr(), Port: address.Port()}
}

func addresses(texts ...string) (list []netip.Addr) {
	for _, text := range texts {
		list = append(list, netip.MustParseAddr(text))
	}
	return list
}

var (
	ipNAT     = Table{"ip", "nat"}
	clusterIP = netip.MustParseAddr("10.96.0.10")
)

func chain(name string) Chain { return Chain{ipNAT, name} }

func jump(from string, base bool, to string) Jump {
	return Jump{From: chain(from), Base: base, Handle: 7, To: to}
}

func TestDecide(t *testing.T) {
	for _, test := range []struct {
		name  string
		found Found
		want  []string
	}{
		{"nothing", Found{}, nil},
		{"addresses of Services and virtual servers on them", Found{
			Device: true, Addresses: addresses("10.96.0.10", "fd00:10:96::10"),
			VirtualServers: []plan.Key{server(model.UDP, "[fd00:10:96::10]:53"), server(model.TCP, "10.96.0.10:80"), server(model.TCP, "10.96.0.10:81")},
		}, []string{
			"adopt virtual-server tcp 10.96.0.10:80", "adopt virtual-server tcp 10.96.0.10:81", "adopt virtual-server udp [fd00:10:96::10]:53",
			"take 10.96.0.10 from kube-ipvs0", "take fd00:10:96::10 from kube-ipvs0", "delete device kube-ipvs0",
		}},
		{"virtual servers of keepalived", Found{
			Device: true, Addresses: addresses("10.96.0.10"), Local: addresses("172.30.0.11"), NodePorts: []NodePort{{model.TCP, 30080}},
			VirtualServers: []plan.Key{
				server(model.TCP, "192.0.2.1:30080"), server(model.TCP, "172.30.0.11:443"), server(model.UDP, "172.30.0.11:30080"),
				plan.MarkKey(plan.VirtualServer, 7, false),
			},
		}, []string{"take 10.96.0.10 from kube-ipvs0", "delete device kube-ipvs0"}},
		{"NodePorts, also of Services that are gone", Found{
			Local: addresses("172.30.0.11"), NodePorts: []NodePort{{model.TCP, 30080}}, Sets: []string{"KUBE-NODE-PORT-TCP"},
			VirtualServers: []plan.Key{server(model.TCP, "172.30.0.11:30080")},
		}, []string{"adopt virtual-server tcp 172.30.0.11:30080", "destroy ipset KUBE-NODE-PORT-TCP"}},
		{"an address that the host's connections have", Found{
			Device: true, Addresses: addresses("10.96.0.1", "10.96.0.10"), Sources: map[netip.Addr]int{netip.MustParseAddr("10.96.0.1"): 2, clusterIP: 0},
		}, []string{
			"take 10.96.0.10 from kube-ipvs0", "delete device kube-ipvs0",
			"10.96.0.1 is held until the host's 2 connections from it have ended",
		}},
		{"such addresses later", Found{
			Held: addresses("10.96.0.1", "10.96.0.10"), Sources: map[netip.Addr]int{netip.MustParseAddr("10.96.0.1"): 1},
		}, []string{
			"hold 10.96.0.10 no more",
			"10.96.0.1 is held until the host's 1 connections from it have ended",
		}},
		{"mode nftables", Found{Tables: []Table{{"ip", TableName}, {"ip6", TableName}}}, []string{
			"delete nft table ip kube-proxy", "delete nft table ip6 kube-proxy",
		}},
		{"mode iptables", Found{
			Chains: []Chain{chain("KUBE-SERVICES"), chain("KUBE-SVC-ERIFXISQEP7F7OF4"), {Table{"ip6", "filter"}, "KUBE-FORWARD"}},
			Jumps:  []Jump{jump("PREROUTING", true, "KUBE-SERVICES")},
		}, []string{
			"delete the rule in ip nat PREROUTING that leads to KUBE-SERVICES",
			"delete kube-proxy's 2 chains in table ip nat", "delete kube-proxy's 1 chains in table ip6 filter",
		}},
		{"a chain that a network plugin uses", Found{
			Chains: []Chain{chain("KUBE-MARK-MASQ"), chain("KUBE-POSTROUTING")},
			Jumps:  []Jump{jump("CNI-HOSTPORT-SETMARK", false, "KUBE-MARK-MASQ"), jump("POSTROUTING", true, "KUBE-POSTROUTING")},
		}, []string{
			"delete the rule in ip nat POSTROUTING that leads to KUBE-POSTROUTING", "delete kube-proxy's 1 chains in table ip nat",
			"chain KUBE-MARK-MASQ stays in table ip nat: a rule in CNI-HOSTPORT-SETMARK leads to it",
		}},
		{"a rule of an administrator's that leads there", Found{
			Chains: []Chain{chain("KUBE-MARK-MASQ")}, Jumps: []Jump{jump("PREROUTING", true, "KUBE-MARK-MASQ")},
		}, []string{"chain KUBE-MARK-MASQ stays in table ip nat: a rule in PREROUTING leads to it"}},
		{"an external address that is the node's", Found{
			Device: true, Addresses: addresses("172.30.0.11"), Local: addresses("172.30.0.11"),
			Sources: map[netip.Addr]int{netip.MustParseAddr("172.30.0.11"): 9},
		}, []string{"take 172.30.0.11 from kube-ipvs0", "delete device kube-ipvs0"}},
		{"a firewall that forwards nothing else", Found{
			Chains: []Chain{{Table{"ip", "filter"}, "KUBE-FORWARD"}}, Drops: []Table{{"ip", "filter"}, {"ip6", "filter"}},
		}, []string{
			"delete kube-proxy's 1 chains in table ip filter",
			"the policy of chain FORWARD in table ip filter is DROP, and kube-proxy's rules, which accept replies, go: have packets from and to pods accepted",
		}},
		{"iptables-legacy", Found{Legacy: []string{"ip nat"}}, []string{"chains in ip nat of iptables-legacy stay: " + ByHand}},
	} {
		t.Run(test.name, func(t *testing.T) {
			steps := Decide(test.found)
			var got []string
			got = append(append(append(got, steps.Before()...), steps.After()...), steps.Remaining()...)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("steps (-want +got):\n%s", diff)
			}
			onlyStays := len(got) == len(steps.Stay)
			if steps.Nothing() != onlyStays {
				t.Errorf("nothing to do: %t", steps.Nothing())
			}
		})
	}
}

func TestTranslated(t *testing.T) {
	for _, test := range []struct {
		name  string
		found Found
		want  bool
	}{
		{"mode ipvs", Found{Device: true, Chains: []Chain{chain("KUBE-SERVICES"), chain("KUBE-NODE-PORT")}}, false},
		{"mode iptables", Found{Chains: []Chain{chain("KUBE-SERVICES"), chain("KUBE-NODEPORTS")}}, true},
		{"mode nftables", Found{Tables: []Table{{"ip6", TableName}}}, true},
	} {
		if got := Decide(test.found).Translated; got != test.want {
			t.Errorf("%s: %t", test.name, got)
		}
	}
}

func TestNames(t *testing.T) {
	for name, want := range map[string]bool{
		"KUBE-SERVICES": true, "KUBE-SEP-Q3UCPZ54E6Q2R4UT": true, "KUBE-FW-TEST": false, "KUBE-FIREWALL": false,
		"KUBE-KUBELET-CANARY": false, "KUBE-IPTABLES-HINT": false, "KUBE-ROUTER-INPUT": false, "KUBE-NWPLCY-DEFAULT": false, "": false,
	} {
		if IsChain(name) != want {
			t.Errorf("chain %q: %t", name, !want)
		}
	}
	for name, want := range map[string]bool{
		"KUBE-CLUSTER-IP": true, "KUBE-6-CLUSTER-IP": true, "KUBE-6-LOAD-BALANCER-SOURCE-CID": true,
		"KUBE-SRC-ABC": false, "kube-router-pod-subnets": false, "KUBE-LOAD-BALANCER-SOURCE-CID": false,
	} {
		if IsSet(name) != want {
			t.Errorf("ipset %q: %t", name, !want)
		}
	}
	for set := range NodePortSets {
		if !IsSet(set) || strings.Contains(set, "LOCAL") {
			t.Errorf("ipset of NodePorts %q", set)
		}
	}
}
