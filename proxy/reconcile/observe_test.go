package reconcile

import (
	"context"
	"log/slog"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
	"github.com/mooring-project/mooring/proxy/plan"
)

// observed runs a Reconciler that tells its rounds.
func observed(t *testing.T, play func(f *fixture, rounds *[]Round)) {
	synctest.Test(t, func(t *testing.T) {
		var rounds []Round
		dataplane := &counted{}
		f := &fixture{store: state.NewStore(), dataplane: dataplane}
		f.reconciler = New(Options{
			Store: f.store, Dataplane: dataplane, Logger: slog.New(slog.DiscardHandler),
			Context: nodeContext, DrainTimeout: time.Minute, NodePodCIDRs: true,
			Observe: func(r Round) { rounds = append(rounds, r) },
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- f.reconciler.Run(ctx) }()
		play(f, &rounds)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

func TestRoundsAreTold(t *testing.T) {
	service := web("web", "10.96.0.10")
	observed(t, func(f *fixture, rounds *[]Round) {
		f.commit(func(tx *state.Txn) { tx.PutService(service); tx.PutSlice(slice(service, "10.244.1.2")); tx.SetSynced() })
		f.commit(func(tx *state.Txn) { tx.PutSlice(slice(service, "10.244.1.2", "10.244.1.3")) })
		pass(time.Hour)
		if len(*rounds) != 2 {
			t.Fatalf("%d rounds, want 2", len(*rounds))
		}
		first, second := (*rounds)[0], (*rounds)[1]
		if first.Before != nil || second.Before != first.After || !first.Complete || !second.Complete {
			t.Errorf("rounds %+v and %+v", first, second)
		}
		if len(first.Done) != 4 || len(second.Done) != 1 {
			t.Errorf("%d and %d operations, want 4 and 1", len(first.Done), len(second.Done))
		}
		want := map[plan.Kind]int{plan.VirtualServer: 1, plan.RealServer: 2, plan.Owned: 1, plan.Divert: 1}
		if diff := cmp.Diff(want, f.reconciler.Status().Objects); diff != "" {
			t.Errorf("objects (-want +got):\n%s", diff)
		}
	})
}

func TestPodCIDRsFollowTheNode(t *testing.T) {
	node := &model.Node{Name: "node-1", PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24")}}
	observed(t, func(f *fixture, _ *[]Round) {
		f.commit(func(tx *state.Txn) { tx.SetSynced() })
		f.wantPlan(t, "no node", "")
		f.commit(func(tx *state.Txn) { tx.PutNode(node) })
		f.wantPlan(t, "a node", "pod-cidr 10.244.1.0/24\n")
		f.commit(func(tx *state.Txn) { tx.DeleteNode("node-1") })
		f.wantPlan(t, "node gone", "pod-cidr 10.244.1.0/24\n")
	})
}
