package kubeproxy_test

import (
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/testkit/netns"
	"github.com/mooring-project/mooring/proxy/dataplane/kubeproxy"
	"github.com/mooring-project/mooring/proxy/takeover"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// shell runs a command in the namespace of the calling thread.
func shell(t *testing.T, command string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "sh", "-ec", command).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v:\n%s", command, err, out)
	}
	return string(out)
}

// others is what others have on a node that kube-proxy is taken off: an administrator, the
// kubelet, a network plugin that uses a chain of kube-proxy's.
const others = `
iptables -A INPUT -p tcp --dport 22 -j ACCEPT
iptables -N KUBE-FIREWALL && iptables -A OUTPUT -j KUBE-FIREWALL
iptables -t mangle -N KUBE-KUBELET-CANARY && iptables -t mangle -N KUBE-IPTABLES-HINT
iptables -N KUBE-ROUTER-INPUT && iptables -A INPUT -j KUBE-ROUTER-INPUT
ipset create mine hash:ip && ipset create KUBE-SRC-ABCDEF hash:ip
nft add table ip keepalived
nft add table inet mine
ip link add dummy7 type dummy && ip address add 192.0.2.7/32 dev dummy7
`

// kubeProxys is some of what kube-proxy leaves, of all modes.
const kubeProxys = `
ip link add kube-ipvs0 type dummy
ip address add 10.96.0.10/32 dev kube-ipvs0
ip address add fd00:10:96::10/128 dev kube-ipvs0
ipset create KUBE-CLUSTER-IP hash:ip,port && ipset create KUBE-6-CLUSTER-IP hash:ip,port family inet6
ipset create KUBE-NODE-PORT-TCP bitmap:port range 0-65535 && ipset add KUBE-NODE-PORT-TCP 30080
ipset create KUBE-NODE-PORT-SCTP-HASH hash:ip,port && ipset add KUBE-NODE-PORT-SCTP-HASH 192.0.2.7,sctp:30081
for t in "iptables -t nat" "ip6tables -t nat"; do
	$t -N KUBE-SERVICES && $t -N KUBE-SVC-ERIFXISQEP7F7OF4 && $t -N KUBE-MARK-MASQ && $t -N KUBE-POSTROUTING
	$t -I PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
	$t -I OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
	$t -I POSTROUTING -j KUBE-POSTROUTING
	$t -A KUBE-SERVICES -j KUBE-SVC-ERIFXISQEP7F7OF4
	$t -A KUBE-SVC-ERIFXISQEP7F7OF4 -j KUBE-MARK-MASQ
	$t -A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
done
iptables -t nat -A KUBE-SERVICES -m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT
iptables -t nat -A KUBE-SERVICES -m set --match-set KUBE-NODE-PORT-TCP dst -j ACCEPT
iptables -N KUBE-IPVS-FILTER && iptables -I INPUT -j KUBE-IPVS-FILTER && iptables -A KUBE-IPVS-FILTER -p sctp -j REJECT
iptables -t mangle -N KUBE-PROXY-CANARY
nft add table ip kube-proxy && nft add chain ip kube-proxy services
nft add table ip6 kube-proxy
`

const portmaps = `iptables -t nat -N CNI-HOSTPORT-SETMARK && iptables -t nat -A CNI-HOSTPORT-SETMARK -j KUBE-MARK-MASQ
`

// state shows what there is in the kernel.
func state(t *testing.T) string {
	return shell(t, `ip -o link show type dummy | sed 's/^[0-9]*: //; s/ mtu.*//'; ip -o address show | grep -v ' lo ' | sed 's/^[0-9]*: //; s/ brd.*//; s/ scope.*//'
for f in iptables ip6tables; do $f-save -t nat; $f-save -t filter; $f-save -t mangle; done | grep -v '^#' | sed 's/ \[.*//'
ipset list -n; nft list tables | sort | grep -v -e ' nat$' -e ' filter$' -e ' mangle$'`)
}

func enter(t *testing.T) {
	t.Helper()
	if os.Getenv("MOORING_IPVS") != "required" {
		t.Skip(`needs a kernel with ipset and dummy devices: run the test by go test -exec "$PWD/test/vm/run", as make test-kernel does`)
	}
	netns.New(t).Enter()
}

func TestKubeProxysGoesAndOthersStays(t *testing.T) {
	enter(t)
	shell(t, "iptables -t nat -L -n; ip6tables -t nat -L -n; ip6tables -L -n; ip6tables -t mangle -L -n")
	shell(t, others)
	before := state(t)
	shell(t, kubeProxys)
	found, err := kubeproxy.Look(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if !found.Device || len(found.Addresses) != 2 || len(found.Local) != 1 || len(found.Tables) != 2 || !takeover.Decide(found).Translated {
		t.Errorf("found %+v", found)
	}
	ports := []takeover.NodePort{{Protocol: model.TCP, Port: 30080}, {Protocol: model.SCTP, Port: 30081}}
	if diff := cmp.Diff(map[takeover.NodePort]bool{ports[0]: true, ports[1]: true}, portSet(found.NodePorts)); diff != "" {
		t.Errorf("NodePorts (-want +found):\n%s", diff)
	}
	steps := takeover.Decide(found)
	t.Log(strings.Join(append(steps.After(), steps.Remaining()...), "\n"))
	if err := kubeproxy.Remove(t.Context(), steps); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(before, state(t)); diff != "" {
		t.Errorf("the kernel without kube-proxy's (-before +after):\n%s", diff)
	}
	if found, err := kubeproxy.Look(t.Context(), nil); err != nil || !takeover.Decide(found).Nothing() {
		t.Errorf("found afterwards %+v, %v", found, err)
	}
	// Again, with nothing there.
	if err := kubeproxy.Remove(t.Context(), steps); err != nil {
		t.Errorf("what is gone: %v", err)
	}
}

// TestRulesOutsideOfNftablesAreNamed has the chains of iptables-legacy.
func TestRulesOutsideOfNftablesAreNamed(t *testing.T) {
	enter(t)
	shell(t, "iptables-legacy -t nat -N KUBE-SERVICES && iptables-legacy -t nat -I PREROUTING -j KUBE-SERVICES; ip6tables-legacy -N KUBE-FIREWALL")
	found, err := kubeproxy.Look(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"ip nat"}, found.Legacy); diff != "" {
		t.Errorf("tables (-want +found):\n%s", diff)
	}
	if steps := takeover.Decide(found); steps.Nothing() || len(steps.After()) != 0 {
		t.Errorf("steps: %+v", steps)
	}
}

func TestChainThatOthersUseStays(t *testing.T) {
	enter(t)
	shell(t, kubeProxys+portmaps)
	found, err := kubeproxy.Look(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := kubeproxy.Remove(t.Context(), takeover.Decide(found)); err != nil {
		t.Error(err)
	}
	rules := shell(t, "iptables-save -t nat")
	if !strings.Contains(rules, "-A CNI-HOSTPORT-SETMARK -j KUBE-MARK-MASQ") || !strings.Contains(rules, "-A KUBE-MARK-MASQ -j MARK") || strings.Contains(rules, "KUBE-SERVICES") {
		t.Errorf("rules afterwards:\n%s", rules)
	}
	if found, err = kubeproxy.Look(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if steps := takeover.Decide(found); !steps.Nothing() || len(steps.Remaining()) != 1 {
		t.Errorf("afterwards: %+v", steps)
	}
}

// TestAddressThatConnectionsUseIsKept looks at the host's own sockets.
func TestAddressThatConnectionsUseIsKept(t *testing.T) {
	enter(t)
	shell(t, kubeProxys+"ip link set lo up\nip address add 10.96.0.11/32 dev kube-ipvs0")
	endTCP, endUDP := connect(t, "10.96.0.10"), send(t, "fd00:10:96::10")
	bind(t, "10.96.0.11")
	if err := kubeproxy.Unroute(takeover.Device); err != nil {
		t.Fatal(err)
	}
	if routes := shell(t, "ip route show table local; ip -6 route show table local"); strings.Contains(routes, "10.96.0.1") || strings.Contains(routes, "10:96::10") {
		t.Errorf("routes:\n%s", routes)
	}
	// And back, in two ways that a takeover may have been left in.
	for range 2 {
		if err := kubeproxy.Reroute(); err != nil {
			t.Fatal(err)
		}
		if routes := shell(t, "ip route show table local; ip -6 route show table local"); strings.Count(routes, "dev kube-ipvs0") < 3 {
			t.Errorf("routes again:\n%s", routes)
		}
	}
	if changed := changesOf(t, takeover.Device, func() {
		if err := kubeproxy.Reroute(); err != nil {
			t.Error(err)
		}
	}); len(changed) > 0 {
		t.Errorf("addresses that are reachable have been changed: %v", changed)
	}
	if err := kubeproxy.Unroute(takeover.Device); err != nil {
		t.Fatal(err)
	}
	found, err := kubeproxy.Look(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	steps := takeover.Decide(found)
	kept := []netip.Addr{netip.MustParseAddr("10.96.0.10"), netip.MustParseAddr("fd00:10:96::10")}
	if diff := cmp.Diff(kept, steps.Held(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("kept (-want +got):\n%s", diff)
	}
	if err := kubeproxy.Remove(t.Context(), steps); err != nil {
		t.Fatal(err)
	}
	if found, err = kubeproxy.Look(t.Context(), kept); err != nil || len(takeover.Decide(found).Keep) != 2 {
		t.Errorf("while they are held: %+v, %v", found, err)
	}
	if links := shell(t, "ip -o address show; ip route show table local; ip -6 route show table local"); strings.Contains(links, takeover.Device) ||
		strings.Contains(links, "10.96.0.11") || strings.Contains(links, "local 10.96.0.10") || strings.Contains(links, "local fd00:10:96::10") {
		t.Errorf("addresses and routes:\n%s", links)
	}
	endTCP()
	endUDP()
	for began := time.Now(); len(steps.Release) < 2; steps = takeover.Decide(found) {
		if found, err = kubeproxy.Look(t.Context(), kept); err != nil || time.Since(began) > time.Minute {
			t.Fatalf("after the connections' end: %+v, %v\n%s", found, err, shell(t, "cat /proc/net/tcp /proc/net/udp6"))
		}
	}
}
