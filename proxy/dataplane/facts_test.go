package dataplane_test

import (
	"testing"

	"github.com/google/nftables"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/proxy/dataplane/sysctl"
	"github.com/mooring-project/mooring/proxy/plan"
)

// The tests of this file hold facts about the kernel that the design rests on. When one
// fails on a newer kernel, nothing is broken: something has become simpler.

// fact asks once as things are, changes one thing, and expects silence.
func fact(t *testing.T, change func(l *lab)) {
	l, w := newLab(t), way{false, model.TCP}
	vip := serviceAddr(w.ipv6)
	w.serve(t, l.pod2, 8080)
	l.want(w.service(vip, 80, plan.Divert, l.pod2))
	w.expect(t, l.pod1, vip, 80, l.pod2, l.pod1.addr(w.ipv6))
	l.node.Do(func() { change(l) })
	if got, err := w.ask(l.pod1, vip, 80); err == nil {
		t.Errorf("answer %q", got)
	}
}

// What IPVS sends on has the mark of what came in, and the rule sends it back to lo.
func TestFactBitHasToBeClearedBeforeIPVS(t *testing.T) {
	fact(t, func(l *lab) {
		edit(l.t, func(conn *nftables.Conn, table *nftables.Table) {
			conn.FlushChain(&nftables.Chain{Table: table, Name: "input"})
		})
	})
}

// With src_valid_mark the reverse path check finds that the source is "local".
func TestFactReversePathCheckMustNotSeeTheMark(t *testing.T) {
	fact(t, func(l *lab) {
		set(l.t, "net/ipv4/conf/all/src_valid_mark", "1")
		set(l.t, "net/ipv4/conf/all/rp_filter", "1")
	})
}

// An empty virtual server says nothing to a pod: that is why plan.Reject exists.
func TestFactEmptyVirtualServerIsSilent(t *testing.T) {
	fact(t, func(l *lab) {
		w := way{false, model.TCP}
		l.want(w.service(serviceAddr(w.ipv6), 80, plan.Divert))
	})
}

// Without conntrack of its own, IPVS takes its packets out of conntrack, hence of nat.
func TestFactMasqueradeNeedsConntrackOfIPVS(t *testing.T) {
	fact(t, func(l *lab) {
		set(l.t, "net/ipv4/vs/conntrack", "0")
		w := way{false, model.TCP}
		// To itself: unmasqueraded, the pod answers itself.
		w.serve(l.t, l.pod1, 8080)
		l.want(w.service(serviceAddr(w.ipv6), 80, plan.Divert, l.pod1))
	})
}

func set(t *testing.T, name, value string) {
	t.Helper()
	if err := sysctl.Ensure(name, value); err != nil {
		t.Fatal(err)
	}
}
