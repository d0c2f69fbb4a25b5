package reconcile

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
	"github.com/mooring-project/mooring/proxy/plan"
)

// observed runs a Reconciler that tells its rounds and follows its node.
func observed(t *testing.T, play func(f *fixture, rounds *[]Round)) {
	observedAt(t, func(*model.Node) []netip.Addr { return nil }, play)
}

func observedAt(t *testing.T, addresses func(*model.Node) []netip.Addr, play func(f *fixture, rounds *[]Round)) {
	synctest.Test(t, func(t *testing.T) {
		var rounds []Round
		dataplane := &counted{}
		f := &fixture{store: state.NewStore(), dataplane: dataplane}
		f.reconciler = New(Options{
			Store: f.store, Dataplane: dataplane, Logger: slog.New(slog.DiscardHandler),
			Context: nodeContext, DrainTimeout: time.Minute, NodePodCIDRs: true, NodeAddresses: addresses,
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

func TestOperationsOfDrainsAreTold(t *testing.T) {
	service := web("web", "10.96.0.10")
	observed(t, func(f *fixture, rounds *[]Round) {
		f.commit(func(tx *state.Txn) {
			tx.PutService(service)
			tx.PutSlice(slice(service, "10.244.1.2", "10.244.1.3"))
			tx.SetSynced()
		})
		f.commit(func(tx *state.Txn) { tx.PutSlice(slice(service, "10.244.1.2")) })
		pass(time.Hour)
		if last := (*rounds)[len(*rounds)-1]; !last.Complete {
			t.Errorf("last round %+v is not complete", last)
		}
		told := 0
		for _, round := range *rounds {
			told += len(round.Done)
		}
		if done := len(f.dataplane.take()); told != done {
			t.Errorf("%d operations were told of, %d were done", told, done)
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

func TestTheZoneFollowsTheNode(t *testing.T) {
	service := web("web", "10.96.0.10")
	hinted := slice(service, "10.244.1.2", "10.244.2.2")
	for i, zone := range []string{"a", "b"} {
		hinted.Endpoints[i].About = &model.About{ForZones: []string{zone}}
	}
	in := func(zone string) func(*state.Txn) {
		return func(tx *state.Txn) { tx.PutNode(&model.Node{Name: "node-1", Zone: zone}) }
	}
	observed(t, func(f *fixture, _ *[]Round) {
		serving := func(when string, want ...string) {
			t.Helper()
			var got []string
			for key, value := range f.observe(t) {
				if key.Kind == plan.RealServer && value.Weight > 0 {
					got = append(got, key.Endpoint.Addr().String())
				}
			}
			slices.Sort(got)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: serving (-want +got):\n%s", when, diff)
			}
		}
		f.commit(func(tx *state.Txn) { tx.PutService(service); tx.PutSlice(hinted); tx.SetSynced() })
		serving("no Node", "10.244.1.2", "10.244.2.2")
		f.commit(in("a"))
		serving("zone a", "10.244.1.2")
		f.commit(in("b"))
		serving("zone b", "10.244.2.2")
		f.commit(in("elsewhere"))
		serving("a zone that nobody is meant for", "10.244.1.2", "10.244.2.2")
	})
}

func TestNodeAddressesComeAndGo(t *testing.T) {
	service := web("web", "10.96.0.10")
	service.Ports[0].NodePort = 30080
	var found []netip.Addr
	addresses := func(node *model.Node) []netip.Addr {
		if node != nil {
			return append(found, node.Addresses...)
		}
		return found
	}
	observedAt(t, addresses, func(f *fixture, _ *[]Round) {
		f.commit(func(tx *state.Txn) { tx.PutService(service); tx.SetSynced() })
		f.wantPlan(t, "no address", "reject tcp 10.96.0.10:80\n")
		found = []netip.Addr{netip.MustParseAddr("172.30.0.11")}
		f.reconciler.Recheck()
		synctest.Wait()
		f.wantPlan(t, "an address", "reject tcp 10.96.0.10:80\nreject tcp 172.30.0.11:30080\n")
		f.commit(func(tx *state.Txn) {
			tx.PutNode(&model.Node{Name: "node-1", Addresses: []netip.Addr{netip.MustParseAddr("172.30.0.12")}})
		})
		f.wantPlan(t, "the Node's too", "reject tcp 10.96.0.10:80\nreject tcp 172.30.0.11:30080\nreject tcp 172.30.0.12:30080\n")
		f.commit(func(tx *state.Txn) { tx.DeleteService(service.Key); tx.DeleteNode("node-1") })
		found = nil
		f.reconciler.Recheck()
		synctest.Wait()
		f.wantPlan(t, "service deleted and addresses gone", "")
	})
}
