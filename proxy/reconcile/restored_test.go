package reconcile

import (
	"maps"
	"net/netip"
	"testing"
	"time"

	"github.com/mooring-project/mooring/internal/model"
	"github.com/mooring-project/mooring/internal/state"
	"github.com/mooring-project/mooring/proxy/plan"
)

// restore begins with what was known a minute ago.
func (f *fixture) restore(fill func(*state.Txn)) {
	f.store.Restore(time.Now(), time.Now().Add(-time.Minute), fill)
	pass(0)
}

const both = `virtual-server tcp 10.96.0.10:80 scheduler rr
virtual-server tcp 10.96.0.20:80 scheduler rr
real-server tcp 10.96.0.10:80 -> 10.244.1.2:8080 weight 1
real-server tcp 10.96.0.20:80 -> 10.244.1.9:8080 weight 1
owned tcp 10.96.0.10:80
owned tcp 10.96.0.20:80
divert tcp 10.96.0.10:80
divert tcp 10.96.0.20:80
`

func fragment(service *model.Service, addresses ...string) plan.Plan {
	return nodeContext.Service(&state.Service{Service: service, Slices: []*model.EndpointSlice{slice(service, addresses...)}})
}

func TestARestoredSnapshotFillsAnEmptyKernel(t *testing.T) {
	run(t, nil, func(t *testing.T, f *fixture) {
		service := web("web", "10.96.0.10")
		f.restore(func(tx *state.Txn) {
			tx.PutService(service)
			tx.PutSlice(slice(service, "10.244.1.2"))
			// It would refuse Services that were made later, which somebody else may serve.
			tx.SetServiceCIDRs([]netip.Prefix{netip.MustParsePrefix("10.96.0.0/12")})
		})
		f.wantPlan(t, "restored", served)
		if status := f.reconciler.Status(); status.Applied.IsZero() || status.Err != nil || !status.PendingSince.IsZero() {
			t.Errorf("status %+v", status)
		}
		f.commit(func(tx *state.Txn) { tx.DeleteService(service.Key) })
		f.wantPlan(t, "half of a listing", served)
		f.commit(func(tx *state.Txn) { tx.DeleteSlice("default", "web"); tx.SetSynced() })
		pass(2 * time.Second) // its endpoint has no connection to wait for
		f.wantPlan(t, "synced", "service-cidr 10.96.0.0/12\n")
	})
}

// TestARestoredSnapshotChangesNothingThatWasFound has the kernel know more than the snapshot: a
// Service that was made later, an endpoint that has gone, and one that has come.
func TestARestoredSnapshotChangesNothingThatWasFound(t *testing.T) {
	service, later := web("web", "10.96.0.10"), web("api", "10.96.0.20")
	adopted := fragment(service, "10.244.1.2")
	maps.Copy(adopted, fragment(later, "10.244.1.9"))
	run(t, adopted, func(t *testing.T, f *fixture) {
		old := web("old", "10.96.0.30")
		f.restore(func(tx *state.Txn) {
			tx.PutService(service)
			tx.PutSlice(slice(service, "10.244.1.3"))
			tx.PutService(old)
			tx.PutSlice(slice(old, "10.244.1.4"))
		})
		for _, op := range f.dataplane.take() {
			if op.Verb != plan.Add || op.Key.Addr.String() != "10.96.0.30" {
				t.Errorf("done on a restored snapshot: %v", op)
			}
		}
		if status := f.reconciler.Status(); !status.PendingSince.IsZero() || status.Err != nil {
			t.Errorf("status %+v", status)
		}
		pass(time.Hour)
		if ops := f.dataplane.take(); len(ops) != 0 {
			t.Errorf("done while waiting: %v", ops)
		}
		f.commit(func(tx *state.Txn) {
			tx.PutService(later)
			tx.PutSlice(slice(later, "10.244.1.9"))
			tx.PutSlice(slice(service, "10.244.1.2"))
			tx.DeleteService(old.Key)
			tx.DeleteSlice("default", "old")
			tx.SetSynced()
		})
		pass(2 * time.Second) // the endpoint of the deleted Service has no connection to wait for
		f.wantPlan(t, "synced", both)
		for _, op := range f.dataplane.take() {
			if op.Key.Addr.String() != "10.96.0.30" {
				t.Errorf("done on what was right: %v", op)
			}
		}
	})
}

func TestWhatOthersRemoveIsRestoredTooFromASnapshot(t *testing.T) {
	service := web("web", "10.96.0.10")
	adopted := fragment(service, "10.244.1.2")
	run(t, adopted, func(t *testing.T, f *fixture) {
		f.restore(func(tx *state.Txn) { tx.PutService(service); tx.PutSlice(slice(service, "10.244.1.3")) })
		f.wantPlan(t, "found", served)
		ops := plan.Diff(adopted, nil)
		for _, op := range ops {
			if err := f.dataplane.Foreign(op); err != nil {
				t.Fatal(err)
			}
		}
		f.reconciler.Drifted("test")
		pass(time.Second)
		f.wantPlan(t, "after the loss", `virtual-server tcp 10.96.0.10:80 scheduler rr
real-server tcp 10.96.0.10:80 -> 10.244.1.3:8080 weight 1
owned tcp 10.96.0.10:80
divert tcp 10.96.0.10:80
`)
	})
}
