package takeover

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mooring-project/mooring/test/peers"
)

// others is what others have on the node; kube-proxy does not spare their virtual servers, so it is
// made when that has ended.
const others = foreignServers + `
ipset create mine hash:ip && nft add table inet mine && nft add table ip keepalived
iptables -N KUBE-FIREWALL || true
iptables -t mangle -N KUBE-KUBELET-CANARY
`

const foreignServers = `
ipvsadm -A -t 203.0.113.1:443 -s wlc && ipvsadm -a -t 203.0.113.1:443 -r 203.0.113.9 -m
ipvsadm -A -t 172.30.0.11:8443 -s wlc
`

// kept shows what has to be there afterwards of others', and what is not to be there of kube-proxy's.
const kept = `export LC_ALL=C
ipvsadm -Sn | grep -e ' 203[.]0[.]113[.]1:' -e ' 172[.]30[.]0[.]11:8443' | sort
ipset list -n; nft list tables | grep -e mine -e keepalived -e kube-proxy | sort
iptables-save 2>/dev/null | grep '^:KUBE-' | sort
(iptables-save; ip6tables-save) 2>/dev/null | grep KUBE- | grep -v -e KUBE-FIREWALL -e KUBE-KUBELET-CANARY
ip -o link show kube-ipvs0 2>&1; true
`

// without is what kept shows with nothing of kube-proxy's.
const without = `-A -t 172.30.0.11:8443 -s wlc
-A -t 203.0.113.1:443 -s wlc
-a -t 203.0.113.1:443 -r 203.0.113.9:443 -m -w 1
mine
table inet mine
table ip keepalived
:KUBE-FIREWALL - [0:0]
:KUBE-KUBELET-CANARY - [0:0]
Device "kube-ipvs0" does not exist.
`

// ours shows what mooring-proxy has in the kernel besides virtual servers.
const ours = `nft list tables | grep mooring; ip rule show | grep 20046; ip -6 rule show | grep 20046; ip route show table 20046 2>/dev/null; ip -o link show mooring-held 2>/dev/null; ipvsadm -Sn | grep -e ' -f '; true`

// TestTakeOverOnce has mooring-proxy take over from kube-proxy in mode ipvs and give back: the short
// form of TestTakeOver.
func TestTakeOverOnce(t *testing.T) {
	if onHost(t) {
		return
	}
	const mode = peers.KubeProxyIPVS
	b := newBed(t)
	c := cluster{web: b.create("web", b.servers, web), local: b.create("local", b.servers, local)}
	ways := slices.DeleteFunc(b.ways(c), func(w way) bool { return w.network == "udp" && w.from != b.pod.Namespace })
	kubeProxy := b.start(mode)
	b.until("kube-proxy at rest", b.atRest)
	traffic := b.startTraffic(ways)
	traffic.hold(b, mode, ways)
	mooring := b.start(peers.Mooring, "--adopt-kube-proxy")
	kubeProxy.Signal(syscall.SIGTERM)
	<-kubeProxy.Done()
	b.shell(others)
	b.until("nothing of kube-proxy's left", b.clean)
	traffic.check("taken over")
	if text, status := b.mooring("verify", "--adopt-kube-proxy"); status != 0 {
		t.Errorf("verify: status %d:\n%s", status, text)
	}
	traffic.hold(b, peers.Mooring, ways)
	b.checkHeld(mode)
	b.giveBack(traffic, mode, mooring)
}

// TestTakeOver has mooring-proxy take over from kube-proxy in each of its modes, and give back.
func TestTakeOver(t *testing.T) {
	if os.Getenv("MOORING_TAKEOVER") == "" {
		t.Skip("takes some minutes in the kernel machine; `make test-takeover` runs it (MOORING_TAKEOVER=1)")
	}
	if onHost(t) {
		return
	}
	modes := modes()
	if len(modes) == 0 {
		t.Fatalf("MOORING_MODES=%s: use ipvs, iptables or nftables", os.Getenv("MOORING_MODES"))
	}
	for _, mode := range modes {
		t.Run(string(mode), func(t *testing.T) { takeOver(t, mode) })
	}
}

func takeOver(t *testing.T, mode peers.Subject) {
	b := newBed(t)
	c := cluster{b.create("web", b.servers, web), b.create("local", b.servers, local), b.create("sticky", b.servers, sticky)}
	ways := b.ways(c)
	gone := b.create("gone", b.servers, plain)
	leave := b.create("leave", b.servers[:2], plain)
	kubeProxy := b.start(mode)
	b.until("kube-proxy at rest", b.atRest)
	traffic := b.startTraffic(ways)
	traffic.hold(b, mode, ways)
	faithful := b.visitor(c.sticky)
	leaving := b.hold(way{name: "pod tcp4 to an endpoint that leaves", from: b.pod.Namespace, network: "tcp", target: at(leave.addresses[0], 80)})
	t.Cleanup(func() { leaving.conn.Close() })
	b.serve("leave", b.others(leaving.server))
	time.Sleep(2 * time.Second)
	b.until("kube-proxy at rest again", b.atRest)
	traffic.check("under kube-proxy")

	b.checkPlan(mode, c.web)
	mooring := b.start(peers.Mooring, "--adopt-kube-proxy", "--v=4")
	mooring.printed("kube-proxy still runs on this node")
	if b.shell(ours) != "" {
		t.Errorf("mooring-proxy does something while kube-proxy runs:\n%s", b.shell(ours))
	}
	kubeProxy.Signal(syscall.SIGTERM)
	<-kubeProxy.Done()
	b.shell(others)
	b.remove("gone")
	fresh := b.create("fresh", b.servers, plain)
	b.until("nothing of kube-proxy's left", b.clean)
	b.until("a Service made meanwhile", func() error { return b.answers(b.pod.Namespace, fresh) })
	if err := b.answers(b.pod.Namespace, gone); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a Service deleted meanwhile: %v", err)
	}
	traffic.check("taken over")
	if text, status := b.mooring("verify", "--adopt-kube-proxy"); status != 0 {
		t.Errorf("verify: status %d:\n%s", status, text)
	}
	traffic.hold(b, peers.Mooring, ways)
	time.Sleep(3 * time.Second)
	traffic.check("under mooring-proxy")
	b.checkLeaving(leaving, mode)
	faithful(mode == peers.KubeProxyIPVS)
	b.checkHeld(mode)
	kubeProxy = b.giveBack(traffic, mode, mooring)
	if mode == peers.KubeProxyIPVS {
		traffic.hold(b, mode, ways)
		b.takeOverInPieces(traffic, kubeProxy)
	}
}

// clean checks that nothing of kube-proxy's is there, and that of others' all is.
func (b *bed) clean() error {
	if diff := cmp.Diff(without, b.shell(kept)); diff != "" {
		return fmt.Errorf("-want +there:\n%s", diff)
	}
	return nil
}

// takeOverInPieces kills mooring-proxy again and again while it takes over.
func (b *bed) takeOverInPieces(traffic *traffic, kubeProxy *proxy) {
	b.t.Helper()
	kubeProxy.Signal(syscall.SIGTERM)
	<-kubeProxy.Done()
	b.shell(foreignServers)
	moments := []time.Duration{0, 300 * time.Millisecond, 900 * time.Millisecond, 1500 * time.Millisecond, 2200 * time.Millisecond, 2900 * time.Millisecond}
	if soak() {
		for range 30 {
			moments = append(moments, time.Duration(rand.Int64N(int64(5*time.Second))))
		}
	}
	for _, moment := range moments {
		mooring := b.start(peers.Mooring, "--adopt-kube-proxy")
		mooring.printed("data plane set up")
		time.Sleep(moment)
		mooring.Signal(syscall.SIGKILL)
		<-mooring.Done()
	}
	mooring := b.start(peers.Mooring, "--adopt-kube-proxy")
	b.until("nothing of kube-proxy's left, in pieces", b.clean)
	b.until("all as it should be", func() error {
		if text, status := b.mooring("verify", "--adopt-kube-proxy"); status != 0 {
			return errors.New(text)
		}
		return nil
	})
	traffic.check("taken over in pieces")
	b.checkHeld(peers.KubeProxyIPVS)
	b.checkReleased(traffic, mooring)
	traffic.check("at last")
}

// checkPlan checks that what would be done is said, and that nothing is.
func (b *bed) checkPlan(mode peers.Subject, web *service) {
	b.t.Helper()
	text, status := b.mooring("plan", "--adopt-kube-proxy")
	wanted := map[peers.Subject][]string{
		peers.KubeProxyIPVS: {
			"adopt virtual-server tcp " + at(web.addresses[0], 80), "adopt virtual-server udp " + at(b.node.V6, web.nodePortUDP),
			"take " + web.balancers[1].String() + " from kube-ipvs0", "delete device kube-ipvs0", "destroy ipset KUBE-6-CLUSTER-IP",
			"delete the rule in ip6 nat POSTROUTING that leads to KUBE-POSTROUTING",
		},
		peers.KubeProxyIPTables: {"add virtual-server tcp " + at(web.addresses[0], 80), "chains in table ip nat"},
		peers.KubeProxyNFTables: {"add virtual-server tcp " + at(web.addresses[0], 80), "delete nft table ip kube-proxy", "delete nft table ip6 kube-proxy"},
	}
	for _, line := range append(wanted[mode], "kube-proxy still runs on this node", "add divert tcp "+at(web.addresses[1], 80)) {
		if status != 0 || !strings.Contains(text, line) {
			b.t.Errorf("plan: status %d, no %q in:\n%s", status, line, text)
		}
	}
	if strings.Contains(text, "add virtual-server tcp "+at(web.addresses[0], 80)) == (mode == peers.KubeProxyIPVS) {
		b.t.Errorf("plan of virtual servers that there are:\n%s", text)
	}
	if text, status := b.mooring("verify", "--adopt-kube-proxy"); status != 1 {
		b.t.Errorf("verify: status %d:\n%s", status, text)
	}
}

// others gives the first two servers without one.
func (b *bed) others(name string) []*server {
	if b.servers[0].name == name {
		return b.servers[1:2]
	}
	return b.servers[:1]
}

// visitor is a client that is kept at a server. What it gives checks that it is still.
func (b *bed) visitor(s *service) func(kept bool) {
	visit := func() string {
		b.t.Helper()
		l := b.hold(way{name: "pod tcp4 to sticky", from: b.pod.Namespace, network: "tcp", target: at(s.addresses[0], 80)})
		l.conn.Close()
		return l.server
	}
	first := visit()
	return func(kept bool) {
		b.t.Helper()
		for range 4 {
			if now := visit(); kept && now != first {
				b.t.Errorf("a client that was kept at %s is led to %s", first, now)
			}
		}
	}
}

// checkLeaving checks that a connection to an endpoint that had left before goes on, and that the
// endpoint goes with it.
func (b *bed) checkLeaving(l *line, mode peers.Subject) {
	b.t.Helper()
	if _, err := ask(l.conn, newReader(l.conn)); err != nil {
		b.t.Errorf("a connection to an endpoint that has left: %v", err)
	}
	b.must(l.conn.(*net.TCPConn).SetLinger(0)) // IPVS forgets a connection that is reset sooner
	l.conn.Close()
	if mode != peers.KubeProxyIPVS {
		return
	}
	b.until("the endpoint gone", func() error {
		if strings.Contains(b.shell("ipvsadm -Ln"), " 0      0          0") {
			return errors.New("an idle real server of weight 0")
		}
		return nil
	})
}

// held shows what is held for connections that the host has from addresses of Services.
const held = "nft list set inet mooring held-v4; nft list set inet mooring held-v6; ip -o address show dev mooring-held 2>&1 || true"

// checkHeld checks that addresses are held, of both families, if kube-proxy has the host connect from them.
func (b *bed) checkHeld(mode peers.Subject) {
	b.t.Helper()
	if there := b.shell(held); strings.Count(there, "elements") != map[bool]int{true: 2}[mode == peers.KubeProxyIPVS] {
		b.t.Errorf("held for the host's connections:\n%s", there)
	}
}

// checkReleased ends these connections, and checks that nothing is held then.
func (b *bed) checkReleased(traffic *traffic, mooring *proxy) {
	b.t.Helper()
	traffic.hangUp(b.node.Namespace)
	mooring.printed("nothing of kube-proxy's is left")
	if there := b.shell(held); strings.Contains(there, "elements") || !strings.Contains(there, "does not exist") {
		b.t.Errorf("held when all connections have ended:\n%s", there)
	}
}

// giveBack has kube-proxy take over.
func (b *bed) giveBack(traffic *traffic, mode peers.Subject, mooring *proxy) *proxy {
	b.t.Helper()
	mooring.Signal(syscall.SIGTERM)
	<-mooring.Done()
	kubeProxy := b.startBeside(mode)
	// It is healthy before it serves; cleanup waits until it does.
	b.until("kube-proxy healthy", b.healthy)
	traffic.check("kube-proxy started beside")
	b.cleanUp(traffic, mode)
	if left := b.shell(ours); left != "" {
		b.t.Errorf("left of mooring-proxy's:\n%s", left)
	}
	time.Sleep(3 * time.Second)
	traffic.check("given back")
	return kubeProxy
}

// cleanUp runs cleanup, and checks that it waits for connections which kube-proxy does not lead, but no
// longer than it is to. What kube-proxy leads by NAT, or by virtual servers that it has taken back, goes on.
func (b *bed) cleanUp(traffic *traffic, mode peers.Subject) {
	b.t.Helper()
	byMark := mode == peers.KubeProxyIPVS
	limit := map[bool]time.Duration{true: settle, false: 20 * time.Second}[byMark]
	ending := traffic.release(func(l *line) bool { return l.by == peers.Mooring && (!byMark || l.marked) })
	cleanup := b.run(peers.Mooring, []string{"cleanup"}, nil, "--drain-timeout="+limit.String())
	cleanup.printed("waiting for their end")
	for _, l := range ending {
		if words, err := ask(l.conn, newReader(l.conn)); err != nil || words[0] != l.server {
			b.t.Errorf("%s, held, while cleanup waits: %v, %v; not %s", l.name, words, err, l.server)
		}
	}
	select {
	case <-cleanup.Done():
		b.t.Errorf("cleanup has not waited, or the answers took too long:\n%s", cleanup.output)
	default:
	}
	if byMark { // they end by themselves
		for _, l := range ending {
			l.conn.Close()
		}
	}
	<-cleanup.Done()
	if err := cleanup.Err(); err != nil || strings.Contains(cleanup.output.String(), "connections are cut") == byMark {
		b.t.Errorf("cleanup: %v:\n%s", err, cleanup.output)
	}
	if byMark {
		b.t.Logf("cleanup: has waited for %d connections", len(ending))
		return
	}
	b.checkEnded(ending)
}

// checkEnded checks of connections whose virtual servers have gone that they go on or end at once, and
// that no client waits for an answer that does not come. A datagram may be lost.
func (b *bed) checkEnded(lines []*line) {
	b.t.Helper()
	var running sync.WaitGroup
	var goOn, moved, reset atomic.Int64
	for _, l := range lines {
		running.Go(func() {
			defer l.conn.Close()
			words, err := ask(l.conn, newReader(l.conn))
			if l.network == "udp" && err != nil {
				words, err = ask(l.conn, newReader(l.conn))
			}
			switch {
			case err == nil && words[0] == l.server:
				goOn.Add(1)
			case err == nil && l.network == "udp":
				moved.Add(1)
			case l.network == "tcp" && err != nil && !errors.Is(err, os.ErrDeadlineExceeded):
				reset.Add(1)
			default:
				b.t.Errorf("%s, held, after cleanup: %v, %v", l.name, words, err)
			}
		})
	}
	running.Wait()
	b.t.Logf("cleanup: of %d connections whose virtual servers went, %d went on, %d over UDP with another endpoint, %d over TCP were reset",
		len(lines), goOn.Load(), moved.Load(), reset.Load())
}
