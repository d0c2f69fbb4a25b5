package dataplane_test

import (
	"fmt"
	"maps"
	"net"
	"os/exec"
	"strings"
	"testing"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/proxy/plan"
)

// TestCleanupLeavesNobodyToWait has somebody else lead the address to another endpoint by NAT, as
// kube-proxy does in its modes iptables and nftables when it is back. Connections that IPVS has led to
// ours are reset then, and not sent to where nobody answers; and those of the other one go on.
func TestCleanupLeavesNobodyToWait(t *testing.T) {
	l := newLab(t)
	want := base()
	ways := []way{{false, model.TCP}, {true, model.TCP}}
	for _, h := range []*host{l.pod2, l.remote} {
		ways[0].serve(t, h, 8080) // both families
	}
	for _, w := range ways {
		maps.Copy(want, w.service(serviceAddr(w.ipv6), 80, plan.Divert, l.pod2))
	}
	l.want(want)
	type held struct {
		by, who string
		conn    net.Conn
	}
	var connections []held
	hold := func(who *host) {
		for _, w := range ways {
			for _, from := range []*host{l.pod1, l.client, l.node} {
				conn, err := w.dial(from, serviceAddr(w.ipv6), 80)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { conn.Close() })
				c := held{fmt.Sprintf("%s, %s", from.name, w), who.name, conn}
				if got, err := talk(conn); err != nil || !strings.HasPrefix(got, c.who) {
					t.Fatalf("%s: answer %q, error %v; want %s", c.by, got, err, c.who)
				}
				connections = append(connections, c)
			}
		}
	}
	hold(l.pod2)
	l.node.Do(func() {
		for _, w := range ways {
			family, endpoint := "ip", net.JoinHostPort(l.remote.addr(w.ipv6).String(), "8080")
			if w.ipv6 {
				family = "ip6"
			}
			rules := fmt.Sprintf(`table %[1]s other {
	chain prerouting { type nat hook prerouting priority dstnat; %[1]s daddr %[2]s tcp dport 80 dnat to %[3]s; }
	chain output { type nat hook output priority -100; %[1]s daddr %[2]s tcp dport 80 dnat to %[3]s; }
	chain postrouting { type nat hook postrouting priority srcnat; ct status dnat masquerade; }
}`, family, serviceAddr(w.ipv6), endpoint)
			nft := exec.CommandContext(t.Context(), "nft", "-f", "-")
			nft.Stdin = strings.NewReader(rules)
			if out, err := nft.CombinedOutput(); err != nil {
				t.Fatalf("nft: %v: %s", err, out)
			}
		}
	})
	hold(l.remote)
	l.node.Do(func() {
		if err := l.kernel.Cleanup(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	for _, c := range connections {
		got, err := talk(c.conn)
		switch {
		case c.who == l.pod2.name && (err == nil || isTimeout(err)):
			t.Errorf("%s, made before: answer %q, error %v; want a reset", c.by, got, err)
		case c.who == l.remote.name && (err != nil || !strings.HasPrefix(got, c.who)):
			t.Errorf("%s, which NAT leads: answer %q, error %v; want %s", c.by, got, err, c.who)
		}
	}
}
