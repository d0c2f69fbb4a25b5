package dataplane_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/proxy/plan"
)

// besides are the ways in which another proxy may lead an address of the Service range to a pod:
// what takes it there, and what removes that again.
var besides = map[string]func(w way, vip, pod string) (add, remove string){
	"by IPVS and an address, as kube-proxy ipvs": func(w way, vip, pod string) (string, string) {
		protocol := map[model.Protocol]string{model.TCP: "-t", model.UDP: "-u"}[w.protocol]
		service := netip.AddrPortFrom(netip.MustParseAddr(vip), 80).String()
		endpoint := netip.AddrPortFrom(netip.MustParseAddr(pod), 8080).String()
		return fmt.Sprintf("ip link add kube-ipvs0 type dummy && ip address add %s dev kube-ipvs0 nodad && "+
				"ipvsadm -A %s %s -s rr && ipvsadm -a %s %s -r %s -m", vip, protocol, service, protocol, service, endpoint),
			fmt.Sprintf("ipvsadm -D %s %s && ip link delete kube-ipvs0", protocol, service)
	},
	"by NAT, as kube-proxy nftables and iptables": func(w way, vip, pod string) (string, string) {
		family, endpoint := "ip", pod+":8080"
		if w.ipv6 {
			family, endpoint = "ip6", "["+pod+"]:8080"
		}
		rule := fmt.Sprintf("%s daddr %s %s dport 80 dnat to %s", family, vip, w.network(), endpoint)
		return fmt.Sprintf(`nft 'table %s another {
				chain prerouting { type nat hook prerouting priority dstnat; %s; }
				chain output { type nat hook output priority -100; %s; }
			}'`, family, rule, rule),
			"nft delete table " + family + " another"
	},
}

// A Service of the range that another proxy serves, since its label
// service.kubernetes.io/service-proxy-name says so, is not ours to refuse; what nobody serves is.
func TestAddressThatAnotherProxyServes(t *testing.T) {
	l := newLab(t)
	everyWay(t, l, func(t *testing.T, w way) {
		ours := serviceAddr(w.ipv6)
		theirs := ours.Next()
		w.serve(t, l.pod1, 8080)
		l.want(w.service(ours, 80, plan.Divert, l.pod1))
		for what, beside := range besides {
			t.Run(what, func(t *testing.T) {
				add, remove := beside(w, theirs.String(), l.pod1.addr(w.ipv6).String())
				l.node.Do(func() { shell(t, add) })
				defer l.node.Do(func() { shell(t, remove) })
				for _, from := range []*host{l.node, l.pod2, l.client} {
					for _, address := range []netip.Addr{ours, theirs} {
						if _, err := w.ask(from, address, 80); err != nil {
							t.Errorf("%s -> %s: %v", from.name, address, err)
						}
					}
					w.refused(t, from, theirs.Next(), 80)
				}
			})
		}
	})
}
